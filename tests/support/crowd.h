/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd: a process that makes calls on sequences at random, beside others that do the same on
 * one daemon. It knows what every token of its sequences holds. Memory that others have is no
 * mistake: a call that is refused for want of some has changed nothing, and that is all.
 */
#pragma once

#include "tests/support/pool_rig.h"
#include "tests/support/seed.h"

#include <hbm/saved.h>

#define CROWD_SEQUENCES 6u /* of a process; its pool takes two more */
#define CROWD_TOKENS 40u   /* of a sequence */

struct crowd_one {
	struct hbm_sequence *sequence; /* NULL: there is none */
	uint64_t tokens;
	uint64_t values[CROWD_TOKENS]; /* what they hold: each a value of its own */
	bool suspended;
	struct hbm_sequence_facts facts; /* as of crowd_remember() */
};

extern struct pool_rig crowd_rig;
extern struct seed crowd_seed;
extern struct hbm_sequence *crowd_closed; /* a handle that no sequence has; NULL: none */
extern unsigned crowd_refusals;
extern const struct hbm_saved_space crowd_space;

/* Opens the pool. number: no other process has it; the lowest bits say whether the pool has a
 * thread (1), and warm slabs (2). */
void crowd_open(const struct spawn *spawn, uint64_t number);
/* A pool of another layout, with a sequence of it that is saved and pinned by a name. */
void crowd_open_other(const struct spawn *spawn, const char *name);
/* A call that is right. */
void crowd_call(void);
/* Whether it was done; fails the test unless it was, or there was no memory. */
bool crowd_is_done(int r);
/* Fails the test unless all bytes of all sequences are what they should be. */
void crowd_check(void);

/* One of the sequences, at random; NULL: none fits. */
struct crowd_one *crowd_find(bool (*fits)(const struct crowd_one *one));
bool crowd_has_tokens(const struct crowd_one *one); /* and is not suspended */
bool crowd_is_suspended(const struct crowd_one *one);

/* A call that is wrong lies between these: it has that status and one line with `text`, and
 * the facts of all sequences are as they were. */
void crowd_remember(void);
void crowd_refused(int r, int status, const char *text);
/* The same of a call that has asked for memory first: slabs that sequences have beyond their
 * tokens may have been given back for it. */
void crowd_refused_for_memory(int r, int status, const char *line, const char *text);
