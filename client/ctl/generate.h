/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate: a made workload of chats. `users` people talk with a model at the same time;
 * each turn's prompt is the whole conversation so far and something new. The parameters,
 * with their defaults, in a comma list ("users=16,turns=4"):
 *
 * 	users=8		conversations going on at the same time
 * 	turns=6		turns of one conversation; then the user begins another
 * 	prompt=2000	tokens a user adds in a turn, on average (from half to one and a half of it)
 * 	reply=300	tokens of an answer, likewise
 * 	shared=1024	tokens of the system prompt, common to all conversations
 * 	think_ms=2000	between two turns of one user, likewise
 * 	requests=0	how many in all; 0: one conversation for each user
 * 	block=512	tokens of a block
 * 	seed=1		another seed, another workload; the same seed, the same
 *
 * A full block gets its id when its last token is there, and keeps it for the rest of the
 * conversation; blocks of the system prompt alone have the same ids for everyone; the
 * block at the end of a prompt that is not full has an id of its own, used once. Requests
 * come in the order of their time.
 */
#pragma once

#include "client/ctl/workload.h"

struct generate_spec {
	uint64_t users, turns, prompt, reply, shared, think_ms, requests, block, seed;
};

/* "" and "default" mean all defaults. 0, or -EINVAL and one line in error. */
int generate_parse(const char *text, struct generate_spec *spec, char *error, size_t error_size);
/* 0 and *out, to be given to workload_free(); -ENOMEM. */
int generate(const struct generate_spec *spec, struct workload **out);
/* The parameters and their defaults, for the help. */
void generate_help(FILE *out);
