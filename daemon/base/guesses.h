/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guesses: how fast a user may guess at a secret. Each wrong guess is counted; a user may
 * make GUESSES_BURST of them at once, and one more for each second after that. At the limit
 * not even the right one is let in, so that more guesses tell nothing.
 *
 * The table is bounded. A user who has made no guess that still counts needs no entry;
 * while all entries are in use, further users share one.
 *
 * These are no keys of [limits]: nothing is used up, and no honest load comes near.
 * Used on the loop thread alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define GUESSES_USERS 64  /* with an entry of their own */
#define GUESSES_BURST 256 /* wrong guesses */

struct guesser {
	uid_t uid;
	uint64_t counted; /* wrong guesses, less one for each second since; 0: no user's */
	uint64_t since_ns;
};

/* Zeroed at first. */
struct guesses {
	struct guesser users[GUESSES_USERS];
	struct guesser others;
};

/* Whether the user may guess once more. */
bool guesses_may(struct guesses *guesses, uid_t uid, uint64_t now_ns);
/* The guess was wrong. */
void guesses_count(struct guesses *guesses, uid_t uid, uint64_t now_ns);
