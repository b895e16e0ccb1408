/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_run: a generation, as plain data: with it, the KV cache and the seed of the weights
 * any process can go on, from a copy in a file or in shared memory. A copy of it with
 * a copy of its KV is a fork.
 *
 *	tokens	| 0 ............ cached | cached ........ count |
 *		  keys and values are     to be computed by the
 *		  in the cache            next call
 *
 * After model_run_go() one token is to be computed: the last. A process that has lost the
 * KV from token n on sets `cached` to n: what is missing is computed again.
 */
#pragma once

#include "tests/model/model.h"

enum { MODEL_RUN_TOKENS = 4096 };

struct model_run {
	uint32_t count, cached;
	uint64_t digest; /* of the digests of all generated tokens, in order */
	uint32_t tokens[MODEL_RUN_TOKENS];
};

/* A prompt of random tokens; nothing is cached. */
void model_run_prompt(struct model_run *run, uint64_t seed, uint32_t count);
/* Computes what is not cached, and generates `more` tokens. */
void model_run_go(struct model_run *run, struct model *model, const struct model_kv *kv,
		  uint32_t more);
/* Computes tokens up to `cached` and no further; cached < count. */
void model_run_prefill(struct model_run *run, struct model *model, const struct model_kv *kv,
		       uint32_t cached);
/* Appends what is known to follow, as its answer was: a draft that was accepted. */
void model_run_append(struct model_run *run, const struct model_answer *answer);

/* The longest path of a tree of drafts (model_batch, its indices given) that the model itself
 * would have gone: drafts[0], the last token of the run, which follows the line, and below
 * it each time the child that is the answer. Appends the answers along it, writes the
 * indices of the path in the KV and returns its length, at least 1. With
 * model_kv_compact(kv, run->cached, path, length), and `cached` that much greater, the run
 * is what it would be without drafts. */
uint32_t model_run_accept(struct model_run *run, const struct model_batch *drafts,
			  const struct model_answer *answers, uint64_t *path);
