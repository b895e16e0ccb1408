/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: a small transformer, a client of the memory that hbmd manages as a serving engine
 * is one: whether its KV cache went through suspension, forks and other processes shows in
 * what it generates. RMSNorm, rotary positions, grouped-query attention, SwiGLU; 3 million
 * random weights, greedy decoding. It computes on the CPU, in well under a millisecond a
 * token.
 *
 * It is deterministic to the bit: a token's result depends on the weights' seed, the tokens
 * before it and the type of the KV numbers, and on nothing else: not on whether it is
 * computed alone or in a chunk, along a line or in a tree, from which addresses, in which
 * process, nor by which compiler (quad.h).
 *
 * Tokens alone show a wrong KV cache late or never: a greedy choice hides small errors. So
 * each answer has a digest of all the bits that the choice was made from.
 */
#pragma once

#include "tests/model/model_kv.h"

enum {
	MODEL_VOCABULARY = 1024,
	MODEL_CHUNK = 32, /* tokens of a call */
};

struct model;

/* Its weights from a seed: the same in every process. NULL: no memory. One thread at a time
 * may use it, for any number of sequences. */
struct model *model_new(uint64_t seed);
/* Takes NULL, returns NULL. */
struct model *model_free(struct model *model);

/* Tokens to compute: a line, or a tree of drafts. */
struct model_batch {
	const uint32_t *tokens; /* each less than MODEL_VOCABULARY */
	uint32_t count;         /* at most MODEL_CHUNK */
	/* The line before it: tokens [0, first) have their keys and values. */
	uint64_t first;
	/* NULL: each token follows the one before. Otherwise the index in `tokens` of the one
	 * that it follows, smaller than its own, or -1: it follows the line. Its position is
	 * `first` plus its depth, and it sees the line, its ancestors and itself. */
	const int32_t *parents;
	/* Of each token, the index at which its keys and values are written; none is less than
	 * `first`. NULL: first, first + 1, ... */
	const uint64_t *indices;
};

/* What follows a token. */
struct model_answer {
	uint32_t token;
	uint64_t digest; /* of the numbers that it was chosen from */
};

/* Writes the batch's keys and values and, where answers is not NULL, what follows each token
 * of it. */
void model_compute(struct model *model, const struct model_kv *kv, const struct model_batch *batch,
		   struct model_answer *answers);
