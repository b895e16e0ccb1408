/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_model: random operations on the sequences of a pool, beside a dumb model of them: an
 * array of numbers each. What the model says is what device memory must hold.
 */
#pragma once

#include "tests/support/pool_rig.h"
#include "tests/support/seed.h"

#define MODEL_SEQUENCES 12

struct model_draft {
	int32_t parent;
	uint64_t value; /* 0: pruned */
};

struct pool_model {
	struct pool_rig *rig;
	struct seed *seed;
	struct model_sequence {
		struct hbm_sequence *sequence; /* NULL: not open */
		bool suspended;
		uint64_t first, tokens;
		uint64_t values[RIG_MAX];
		uint32_t draft_count;
		struct model_draft drafts[RIG_MAX];
	} all[MODEL_SEQUENCES];
	uint64_t last_value;
	unsigned done[16]; /* how often which operation was not refused */
	unsigned refused;  /* for want of memory */
};

/* One operation, and a look at a sequence. Fails the test if the pool and the model differ. */
void pool_model_operate(struct pool_model *model);
/* Whether a call was refused for want of memory; any other refusal fails the test. */
bool pool_model_is_short(struct pool_model *model, int r);
/* Compares every token. */
void pool_model_check(struct pool_model *model);
void pool_model_close_all(struct pool_model *model);
/* Fails the test unless every operation has come up and done something. */
void pool_model_check_reach(const struct pool_model *model);
