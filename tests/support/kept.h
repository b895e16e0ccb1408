/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept: sequences that keep only some of their tokens, layers or heads, beside a dumb model:
 * for each place the number of what should be there. Every head of every token has bytes of
 * its own at its begin and its end, and so has every state.
 */
#pragma once

#include "tests/support/pool_rig.h"

#define KEPT_LAYERS 8
#define KEPT_HEADS 8

struct kept {
	struct hbm_sequence *sequence;
	uint64_t first, tokens;
	uint64_t ids[RIG_MAX];
	uint32_t layer_count, head_count;
	uint64_t layers[KEPT_LAYERS], heads[KEPT_HEADS]; /* of the pool's layout */
	uint64_t state;                                  /* id of what states hold */
};

/* A new sequence, which has all. */
struct kept kept_open(struct pool_rig *rig);
/* One more token, with that id. */
void kept_write(struct pool_rig *rig, struct kept *kept, uint64_t id);
/* Compares everything. */
void kept_check(struct pool_rig *rig, const struct kept *kept);
/* What hbm_sequence_keep() says; if 0, the model follows. */
int kept_keep(struct kept *kept, enum hbm_axis axis, const uint64_t *set, size_t count);
