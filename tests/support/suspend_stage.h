/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suspend_stage: a daemon (stage.h) and a pool (pool_rig.h) for tests of sequences that are
 * suspended. Token i of a sequence holds a value of its own, counted from one that a test
 * chooses.
 */
#pragma once

#include "tests/support/pool_rig.h"

extern struct pool_rig suspend_rig;
extern unsigned suspend_fds; /* of the daemon, when it had started */

/* Starts the daemon with so much in its environment (NULL-terminated, or NULL). */
void suspend_start_daemon(const char *const *environment);
/* Opens a pool, and before it the daemon's start, unless it is there. */
void suspend_start_with(const char *layout, const struct hbm_pool_options *options);
/* The same for up to 8 sequences. */
void suspend_start(const char *layout);
/* Closes the pool and ends the daemon, of which nothing may be left. */
void suspend_finish(void);

/* A new sequence of so many tokens, written: from `value` on. */
struct hbm_sequence *suspend_filled(uint64_t tokens, uint64_t value);
/* A step to `to`, and the tokens from `from` on written. */
void suspend_grow(struct hbm_sequence *sequence, uint64_t from, uint64_t to, uint64_t value);
/* Tokens [first, end) are what was written. */
void suspend_expect(struct hbm_sequence *sequence, uint64_t first, uint64_t end, uint64_t value);
/* Suspends, or resumes, one sequence. */
void suspend_out(struct hbm_sequence *sequence, enum hbm_tier tier);
void suspend_in(struct hbm_sequence *sequence);
/* Another sequence has been where those were that are suspended. */
void suspend_scribble(void);
/* A call has returned that status, and the pool's line has `text`. */
void suspend_refused(int r, int status, const char *text);
/* Starts a daemon whose copies do not begin between suspend_hold() and suspend_let_go(), which
 * ends it a moment later, from a thread: suspend_join() waits for that. */
void suspend_start_held(void);
void suspend_hold(void);
void suspend_let_go(void);
void suspend_join(void);
/* In the daemon, of all namespaces. */
uint64_t suspend_blocks(void);
/* Device memory that is free, not promised to others, or on its way back. */
uint64_t suspend_memory(void);
