/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive: what the calls on saved sequences work with: the namespaces, and a landing in device
 * memory for pieces on their way.
 *
 * Manifests are in one namespace, whatever the layout, so that a name is found by a pool of
 * another layout. Pieces of each layout have a namespace of their own. What is in a schema is
 * in namespaces of that schema.
 */
#pragma once

#include "client/sequence/chunk.h"

#include <hbm/saved.h>

#define ARCHIVE_BATCH 4u                    /* pieces in one request */
#define ARCHIVE_FLIGHTS (2 * ARCHIVE_BATCH) /* in two of them */
#define ARCHIVE_MANIFEST (16u << 10)        /* bytes of a manifest's block */
#define ARCHIVE_PAGE (64u << 10)            /* of as many as a name has places for */

struct hbm_pool;
struct hbm_sequence;

struct archive {
	struct hbm_pool *pool;
	const struct hbm_saved_space *space; /* the caller's */
	const char *schema;                  /* "": none */
	uint32_t manifests, pieces;          /* namespaces; 0: not open */
	struct chunk chunk;                  /* of the pieces */
	struct hbm_layout *kept;             /* of the chunk, if it is the archive's own */
	struct hbm_region *page;             /* for a manifest */
	struct hbm_region *landing;          /* for pieces, and behind them one for copies */
	char manifest[ARCHIVE_MANIFEST];
};

/* Opens one for manifests. *out is freed by hbm_archive_close(), also after a failure. */
int hbm_archive_open(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		     struct archive **out);
/* For pieces of a layout, too, instead of those it was for before. The layout is borrowed. */
int hbm_archive_use(struct archive *archive, const struct hbm_layout *layout);
/* For pieces of a sequence: of the layout that a pool with just what it has kept would have. */
int hbm_archive_use_of(struct archive *archive, const struct hbm_sequence *sequence);
/* The namespace of modules' slabs (variant.h) in the pool's layout, in blocks of so many tokens;
 * the pool keeps it open. False: the daemon opens none. */
bool hbm_archive_slabs(const struct archive *archive, uint64_t block_tokens, uint32_t *ns);
/* Device memory for manifests, if there is none yet. */
int hbm_archive_page(struct archive *archive);
/* And for pieces, if there is none for these. */
int hbm_archive_land(struct archive *archive);
/* Takes NULL. Does not change the pool's line. */
void hbm_archive_close(struct archive *archive);
/* Where a piece of those in flight, or what is copied, lies in the landing. */
uint64_t hbm_archive_offset(const struct archive *archive, uint64_t nth);
