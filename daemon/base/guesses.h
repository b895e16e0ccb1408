/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guesses: how fast a tenant, or a user that is one alone, may guess at a secret. Each wrong
 * guess is counted; it may make so many of them at once, and one more for each second after
 * that. At the limit not even the right one is let in, so that more guesses tell nothing.
 *
 * The table is bounded. Who has made no guess that still counts needs no entry; while all
 * entries are in use, further ones share one, with GUESSES_BURST at most.
 *
 * These are no keys of [limits]: nothing is used up, and no honest load comes near.
 * Used on the loop thread alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GUESSES_USERS 64  /* with an entry of their own */
#define GUESSES_BURST 256 /* wrong guesses, by default */

struct guesser {
	uint64_t who;
	uint64_t counted; /* wrong guesses, less one for each second since; 0: no user's */
	uint64_t since_ns;
};

/* Zeroed at first. */
struct guesses {
	struct guesser users[GUESSES_USERS];
	struct guesser others;
};

/* Whether `who`, a number as of user_number(), may guess once more, if it may have made `most`
 * wrong guesses. */
bool guesses_may(struct guesses *guesses, uint64_t who, uint64_t most, uint64_t now_ns);
/* The guess was wrong. */
void guesses_count(struct guesses *guesses, uint64_t who, uint64_t now_ns);
