/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain: the daemon is emptied, and then stops by itself.
 *
 * 	          DRAIN                nothing is leased, nothing moves,
 * 	serving ---------> draining     and what can be is on NVMe
 * 	   ^                  | | `----------------------------------------> drained() 
 * 	   |  cancelled, or   | |  SIGTERM
 * 	   `---- too late ----' `-----------------------------------------> stops as ever
 *
 * While it drains, requests for memory are refused with HBM_DRAINING: new regions,
 * commits, shares, loans, what is published, reservations, also those that wait. All else goes on: a client can store what it has, load
 * it again, and give its memory back. Blocks that are in memory are evicted to NVMe, a few in a turn
 * of the loop, as by EVICT; those that may not be there, and those that do not fit, are dropped.
 * Without an NVMe tier there is nothing to do for them.
 *
 * What keeps the drain from its end is said in one line: who has memory of a device, what is pinned, a disk that
 * does not answer. The memory of clients is theirs: it is never taken.
 */
#pragma once

#include "daemon/serve/server.h"

/* Why what is not granted meanwhile is refused. */
#define DRAIN_REFUSAL "an operator drains the daemon: it grants no memory"

struct drain_calls {
	void (*changed)(void *arg, const char *line); /* how it goes; NULL: it is over */
	void (*drained)(void *arg);                   /* the daemon is to stop */
	void *arg;
};

int drain_open(struct hbmd *hbmd, const struct drain_calls *calls); /* -ENOMEM; sets hbmd->drain */
/* The daemon stops: the client that waits for a drain is told. Before the server drains its sessions. */
void drain_stop(struct hbmd *hbmd);
void drain_close(struct hbmd *hbmd);

/* The handler of DRAIN. */
request_handler serve_drain;
/* Refuses a request for what is not granted while the daemon drains: whether it has. */
bool drain_refuses(struct hbmd *hbmd, struct request *request);
