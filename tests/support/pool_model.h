/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_model: random operations on the sequences of a pool, beside a dumb model of them: an
 * array of numbers each. What the model says is what device memory must hold.
 */
#pragma once

#include "tests/support/pool_rig.h"
#include "tests/support/seed.h"

#define MODEL_SEQUENCES 12
#define MODEL_OPERATIONS_MAX 32
#define MODEL_NAMES 4  /* sequences are saved by */
#define MODEL_STORED 6 /* prefixes in the cache that are remembered */
#define MODEL_MODULES 2

struct model_draft {
	int32_t parent;
	uint64_t value; /* 0: pruned */
};

struct model_saved {
	bool is;
	uint64_t first, tokens;
	uint64_t values[RIG_MAX];
};

struct model_stored {
	uint64_t tokens;
	size_t count; /* of blocks; 0: nothing */
	uint64_t values[RIG_MAX];
	hbm_key keys[RIG_MAX];
};

struct model_module {
	uint64_t version, tokens; /* version 0: none */
	uint64_t values[RIG_MAX];
};

struct pool_model {
	struct pool_rig *rig;
	struct seed *seed;
	uint64_t number; /* of the model, among all of one daemon */
	struct model_sequence {
		struct hbm_sequence *sequence; /* NULL: not open */
		bool suspended;
		uint64_t first, tokens;
		uint64_t values[RIG_MAX];
		uint32_t draft_count;
		struct model_draft drafts[RIG_MAX];
	} all[MODEL_SEQUENCES];
	struct model_saved saved[MODEL_NAMES];
	struct model_stored stored[MODEL_STORED];
	struct model_module modules[MODEL_MODULES];
	uint32_t ns;
	uint64_t block_tokens; /* 0: the namespace is not open */
	uint64_t last_value;
	unsigned done[MODEL_OPERATIONS_MAX]; /* how often which operation was not refused */
	unsigned refused;                    /* for want of memory */
	unsigned within;                     /* steps beside it that were promised their memory */
};

/* One operation, and a look at a sequence. Fails the test if the pool and the model differ. */
void pool_model_operate(struct pool_model *model);
/* Whether a call was refused for want of memory; any other refusal fails the test. */
bool pool_model_is_short(struct pool_model *model, int r);
/* Compares every token. */
void pool_model_check(struct pool_model *model);
void pool_model_close_all(struct pool_model *model);
/* Fails the test unless every operation but the rare ones has come up and done something, in
 * one of its models; done: added up. */
void pool_model_check_reach(const unsigned done[MODEL_OPERATIONS_MAX]);
