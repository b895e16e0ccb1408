/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unread: the descriptors that lie unread in the sockets of clients. Each keeps its memory,
 * and the kernel counts them against one number for all sockets of the daemon, its
 * RLIMIT_NOFILE (unix(7), ETOOMANYREFS). So they are charged when they are sent
 * (LEDGER_UNREAD_FDS): to a session, and with it to its user and to all users.
 *
 * The kernel does not say when a peer has read; it can be asked. A connection that is short
 * of room asks for itself, and a timer asks for all others with something unread, some of
 * them at a time: what was read gives its room back a little later.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All of a loop. Its last unread descriptor stops the timer. */
struct unreads {
	struct loop *loop;
	struct list list; /* struct unread, with something charged */
	uint64_t count;
	struct timer timer; /* set while the list is not empty */
	uint64_t pause_ns;  /* to the next look */
};

/* Of one connection, embedded in it. */
struct unread {
	struct unreads *all;
	struct list link; /* in all->list */
	struct payer *payer;
	struct charge charge;
	int socket;                          /* borrowed */
	void (*read)(struct unread *unread); /* from the timer: nothing is unread any more */
};

void unreads_open(struct unreads *unreads, struct loop *loop);

void unread_open(struct unread *unread, struct unreads *all, struct payer *payer, int socket,
		 void (*read)(struct unread *unread));
/* Charges nothing any more, whatever has been read. */
void unread_close(struct unread *unread);
/* Whether so many more may be sent now. */
bool unread_has_room(struct unread *unread, size_t fds);
/* So many have been sent. */
void unread_sent(struct unread *unread, size_t fds);
/* Whether the peer has read all. Then nothing is charged. */
bool unread_is_read(struct unread *unread);
