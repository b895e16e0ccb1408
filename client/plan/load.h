/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: the demands of the users: the lengths of their contexts and answers, the number of
 * users, and how much of their KV cache is kept.
 */
#pragma once

#include <stdint.h>

#define PLAN_CONTEXT_MAX 1000000000ull /* tokens */

struct plan_load {
	uint64_t context; /* tokens of each user */
	uint64_t output_tokens;
	uint64_t batch;  /* users decoded together; 0: as many as fit */
	uint64_t users;  /* at the same time; 0: no more than fit */
	uint64_t rounds; /* questions in a session */
	double think_s;  /* between two of them */
	double keep_layers, keep_heads,
		keep_tokens;    /* parts of the KV cache kept: above 0, at most 1 */
	uint32_t encoding_bits; /* of an element that is kept; 0: as computed */
	double attention_width; /* FLOP for one token, context token and layer; 0: the model's */
};

/* The default load: one user at a time, everything kept. */
struct plan_load plan_load_default(void);
