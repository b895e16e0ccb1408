/* SPDX-License-Identifier: Apache-2.0 */
/*
 * small_daemon: hbmd without its main(), in this process: two soft devices, tiers of a few
 * MiB, limits so small that most are met, and its socket in a folder of its own. The loop
 * turns only when it is told to. Emptying and
 * closing it check that nothing is left.
 */
#pragma once

#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"
#include "daemon/loop/event.h"
#include "daemon/serve/hbmd.h"

#include <stdbool.h>
#include <stdint.h>

struct memory_setup;

struct small_daemon {
	char folder[64], socket[96], file[96];
	bool takes_over; /* what an earlier daemon has kept (keep.h) */
	struct config config;
	struct ledger ledger;
	struct hbmd hbmd;
	struct memory_setup *memory_setup;
	struct timer watchman;
	bool (*wanted)(void *arg);
	void *arg;
	uint64_t until_ns;
	bool came_true;
};

/* Opens it, in service. */
void small_daemon_open(struct small_daemon *daemon);
/* The same, and it takes over what there is of an earlier daemon. */
void small_daemon_take_over(struct small_daemon *daemon);
/* Runs the loop until wanted(arg), for so many milliseconds at most. False: it did not come. */
bool small_daemon_run(struct small_daemon *daemon, bool (*wanted)(void *arg), void *arg,
		      uint64_t ms);
/* The loop turns a few times. */
void small_daemon_turn(struct small_daemon *daemon, unsigned turns);
/* The audit behind `hbmctl verify`: everything is balanced. */
void small_daemon_check(struct small_daemon *daemon);
/* When its clients are gone: every session ends, nothing moves, everything is balanced; and
 * then as empty as it was opened, but that numbers of sessions go on. */
void small_daemon_empty(struct small_daemon *daemon);
/* The same, and no object of the driver is left. */
void small_daemon_close(struct small_daemon *daemon);
