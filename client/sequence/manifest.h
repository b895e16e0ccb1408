/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest: what a name stands for, a block of its own. A block never changes, so a name has
 * MANIFEST_PLACES keys, and its manifest is the one of the highest generation among them (of a
 * module: of the latest version, and among these): a new one is stored at another key before the old one is removed, and at no moment is there
 * none. Two that save one name at the same time find that a place is taken, and try the next
 * one. A generation that was stored late, behind a higher one, is as good as replaced at once.
 *
 * Another manifest can be at a place as soon as one was found there. So none is removed, nor
 * unpinned, by the key of its place: it is the child of a block with a key of its own, the
 * handle, with which it goes, and one that is pinned has a child, the guard, which is pinned
 * in its place.
 *
 * The block: struct manifest, in the byte order of the machine, then the text of the layout
 * and the name, each with its NUL, then zeros. Handle and guard have the same bytes.
 */
#pragma once

#include "client/sequence/archive.h"

#define MANIFEST_PLACES 4u
#define MANIFEST_FORMAT 2u

struct manifest {
	char magic[8];
	uint32_t format;
	uint32_t text_bytes, name_bytes, none; /* of the layout and the name, with their NULs */
	uint64_t sum;                          /* of what follows, and of the texts */
	uint64_t generation;
	uint64_t save;                       /* random: in the keys of its pieces */
	uint64_t first, tokens, least, slid; /* as of struct chain */
	uint64_t committed;
	uint64_t version; /* of a module */
};

/* What is at the places of a name at one moment: loaded, but not looked at yet. */
struct manifest_places {
	hbm_result results[MANIFEST_PLACES];
};

int hbm_manifest_load(struct archive *archive, const char *name, struct manifest_places *places);
/* The same with blocks of the archive of any keys, at most MANIFEST_PLACES. */
int hbm_manifest_load_keys(struct archive *archive, const hbm_key *keys, size_t count,
			   struct manifest_places *places);
/* What was loaded by that key: the name, in the archive until the next is looked at, or NULL: it
 * is no manifest. */
const char *hbm_manifest_name(struct archive *archive, const struct manifest_places *places,
			      uint64_t place, const hbm_key *key);
/* What was loaded of a place. HBM_NOT_FOUND, which is not written to the pool's line: no valid
 * manifest of that name. HBM_UNSUPPORTED: of another format. */
int hbm_manifest_read(struct archive *archive, const char *name,
		      const struct manifest_places *places, uint64_t place, struct manifest *out);
/* The place of the valid one. Statuses as of hbm_manifest_read(). */
int hbm_manifest_newest(struct archive *archive, const char *name,
			const struct manifest_places *places, uint64_t *place);
/* All of these together: what the name stands for now. */
int hbm_manifest_find(struct archive *archive, const char *name, struct manifest *out);
/* The layout of the manifest that was read last; freed by hbm_layout_free(). */
int hbm_manifest_layout(struct archive *archive, const struct manifest *manifest,
			struct hbm_layout **out);
/* Stores one behind all that are there; fills in the generation, which was 0, or that of a call
 * before. A tier, pins, and whether it is durable as of `options`. HBM_EXISTS: another took the place. */
int hbm_manifest_store(struct archive *archive, const char *name, struct manifest *manifest,
		       const struct hbm_save_options *options);
/* Removes this one, and pins of this user. HBM_DENIED: others pin it. */
int hbm_manifest_remove(struct archive *archive, const char *name, const struct manifest *manifest);
/* HBM_LIMIT, with the pool's line: the text of the sequence's layout has no room in a block. */
int hbm_manifest_check_room(struct hbm_pool *pool, const struct hbm_sequence *sequence);
