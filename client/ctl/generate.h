/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate: a synthetic workload of chats. `users` people chat with a model at the same
 * time; each turn's prompt is the whole conversation so far and a new part. The parameters,
 * with their defaults, are a comma-separated list ("users=16,turns=4"):
 *
 * 	users=8		conversations at the same time
 * 	turns=6		turns of one conversation; then the user begins another
 * 	prompt=2000	mean of the tokens a user adds in a turn (0.5 to 1.5 times this)
 * 	reply=300	tokens of an answer, likewise
 * 	shared=1024	tokens of the system prompt, common to all conversations
 * 	think_ms=2000	pause between two turns of one user, likewise
 * 	requests=0	requests in all; 0: one conversation per user
 * 	block=512	tokens of a block
 * 	seed=1		seed of the random numbers; the same seed gives the same workload
 *
 * A block gets its id when it is full and keeps it for the rest of the conversation. Blocks
 * of the system prompt have the same ids in all conversations. A partial block at the end
 * of a prompt has an id that is used once. Requests are in order of time.
 */
#pragma once

#include "client/ctl/workload.h"

struct generate_spec {
	uint64_t users, turns, prompt, reply, shared, think_ms, requests, block, seed;
};

/* "" and "default" mean all defaults. 0, or -EINVAL and one line in error. */
int generate_parse(const char *text, struct generate_spec *spec, char *error, size_t error_size);
/* 0 and *out, to be freed with workload_free(); -ENOMEM. */
int generate(const struct generate_spec *spec, struct workload **out);
/* The parameters and their defaults, for the help. */
void generate_help(FILE *out);
