/* SPDX-License-Identifier: Apache-2.0 */
/* saved: what a name stands for, opened to be read or removed. */
#pragma once

#include "client/sequence/chain.h"
#include "client/sequence/manifest.h"

struct saved {
	struct archive *archive;
	struct hbm_layout *layout; /* as it was saved */
	struct manifest manifest;
	struct chain chain;
	uint64_t present; /* leading pieces */
};

/* HBM_INVALID with the pool's line: no name, or too long a one. */
int hbm_saved_check_name(struct hbm_pool *pool, const char *name);
/* Finds it and counts what is there. HBM_NOT_FOUND, with the pool's line. Closed by
 * hbm_saved_close(), also after a failure. */
int hbm_saved_open(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		   const char *name, struct saved *saved);
void hbm_saved_close(struct saved *saved);
/* Removes the pieces of a manifest, of which the layout may be another than the archive's. */
void hbm_saved_remove_pieces(struct archive *archive, const char *name,
			     const struct manifest *manifest, const struct hbm_layout *layout);
/* hbm_saved_find() and hbm_saved_drop(), of a schema. */
int hbm_saved_find_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name, struct hbm_saved *out);
int hbm_saved_drop_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name);
