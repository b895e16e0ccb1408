/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack_job: an attack in a process of its own (child.h), started and ended by a test or
 * a measurement, which sees in shared memory how far it is.
 *
 * 	attack_start(&job, attack, &daemon_, 4, ATTACK_BRIEF);	once this returns, it goes on
 * 	...
 * 	attack_await(&job, attack_served(&job) + 1);	it is still served
 * 	attack_end(&job);
 *
 * The program's child parts have {"attack", attack_play}.
 */
#pragma once

#include "tests/support/attack.h"
#include "tests/support/child.h"

struct attack_board;

struct attack_job {
	struct child child;
	struct attack_board *board;
};

/* Opens a daemon's folder and socket to other users. */
void attack_let_in(const struct spawn *spawn);
/* The sessions are uid 65534's if the caller is root, and the attack no operator's; the
 * daemon's folder and socket are opened to it. */
void attack_start(struct attack_job *job, const struct attack *attack, const struct spawn *spawn,
		  unsigned sessions, enum attack_scale scale);
struct attack_counts attack_counts(const struct attack_job *job);
/* How many messages were answered; of one that reads no reply, sent. */
uint64_t attack_served(const struct attack_job *job);
/* Waits until so many were; fails the test after a minute. */
void attack_await(const struct attack_job *job, uint64_t served);
void attack_end(struct attack_job *job); /* kills it */
/* The child's part. */
void attack_play(const struct spawn *spawn, uint64_t number);
