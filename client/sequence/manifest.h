/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest: what a name stands for, a block of its own. A block never changes, so a name has
 * MANIFEST_PLACES keys, and its manifest is the one of the highest generation among them: a
 * new one is stored at another key before the old one is removed, and at no moment is there
 * none. Two that save one name at the same time find that a place is taken; then the next
 * generation, at the next place, is tried.
 *
 * The block: struct manifest, in the byte order of the machine, then the text of the layout
 * with its NUL, then zeros.
 */
#pragma once

#include "client/sequence/archive.h"

#define MANIFEST_PLACES 4u
#define MANIFEST_FORMAT 1u

struct manifest {
	char magic[8];
	uint32_t format, text_bytes; /* of the layout, with its NUL */
	uint64_t sum;                /* of what follows, and of the text */
	uint64_t generation;
	uint64_t save;                       /* random: in the keys of its pieces */
	uint64_t first, tokens, least, slid; /* as of struct chain */
	uint64_t committed;
	uint64_t version; /* of a module */
};

/* 0; HBM_NOT_FOUND, which is not written to the pool's line; HBM_UNSUPPORTED: of another
 * format. */
int hbm_manifest_find(struct archive *archive, const char *name, struct manifest *out);
/* The layout of the manifest that was found last; freed by hbm_layout_free(). */
int hbm_manifest_layout(struct archive *archive, const struct manifest *manifest,
			struct hbm_layout **out);
/* Stores one that follows `old`, or is the first if that is NULL; fills in the generation.
 * A tier and pins as of `options`. */
int hbm_manifest_store(struct archive *archive, const char *name, struct manifest *manifest,
		       const struct manifest *old, const struct hbm_save_options *options);
int hbm_manifest_remove(struct archive *archive, const char *name, const struct manifest *manifest);
/* Removes it and what saves that were cut off have left of the name; it itself last. */
int hbm_manifest_drop(struct archive *archive, const char *name, const struct manifest *manifest);
/* HBM_LIMIT, with the pool's line: the text of the sequence's layout has no room in a block. */
int hbm_manifest_check_room(struct hbm_pool *pool, const struct hbm_sequence *sequence);
