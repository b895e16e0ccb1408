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

/* What is removed under a reader's hands was replaced by something newer, which is tried. */
#define SAVED_TRIES 100

/* HBM_INVALID with the pool's line: no name, or too long a one. */
int hbm_saved_check_name(struct hbm_pool *pool, const char *name);
/* Finds it and counts what is there. HBM_NOT_FOUND, with the pool's line. Closed by
 * hbm_saved_close(), also after a failure. */
int hbm_saved_open(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		   const char *name, struct saved *saved);
void hbm_saved_close(struct saved *saved);
/* Removes what a name does not stand for any more, of others, too: what cannot be removed is
 * left. 0, or why nothing was found of the name. */
int hbm_saved_tidy(struct archive *archive, const char *name);
/* Pieces of it are missing. HBM_NOT_FOUND, with *replaced: the name stands for another save now;
 * without it, and with the pool's line: for nothing. 0: they were evicted. */
int hbm_saved_missing(const struct saved *saved, const char *name, bool *replaced);
/* What is left of it is of no use: drops it. HBM_NOT_FOUND, with the pool's line. */
int hbm_saved_evicted(const struct saved *saved, const char *name);
/* How often a module was mapped, by all processes, since it was put; after one use more if it
 * says so. One that has gone meanwhile has no uses: 0, or a negative errno. */
int hbm_saved_count(const struct saved *saved, const char *name, bool one_more, uint64_t *uses);
/* Removes that save, if it is there. HBM_DENIED: others pin it. */
int hbm_saved_remove(struct archive *archive, const char *name, uint64_t save);
/* hbm_saved_find() and hbm_saved_drop(), of a schema. */
int hbm_saved_find_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name, struct hbm_saved *out);
int hbm_saved_drop_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name);
