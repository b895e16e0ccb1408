/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead: maps what sequences need next, before a step needs it: in a thread of the pool, or
 * in a call of its user. A step marks the sequences that are due and wakes the thread, which
 * makes one system call where the thread sleeps, and none where it has been woken already.
 *
 * Who maps ahead also looks after the watermark of the pool, if it has one (watermark.h): the
 * thread wakes by itself for that.
 */
#pragma once

struct hbm_pool;

/* Starts the thread. 0 or negative errno. */
int hbm_ahead_start(struct hbm_pool *pool);
/* Ends it, if there is one. */
void hbm_ahead_stop(struct hbm_pool *pool);
/* There are marks. */
void hbm_ahead_wake(struct hbm_pool *pool);
