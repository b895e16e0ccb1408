/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user: the payer for all that the clients of one uid have. It is opened with the first
 * thing of that uid, a session or a namespace, and closed with the last: a namespace
 * outlives the sessions that used it.
 *
 * An operator is uid 0 or the daemon's own uid. It may do what concerns other clients, and
 * no share bounds it, so that it gets in whatever the others do.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct user {
	struct list link; /* in ledger->users */
	struct payer payer;
	uid_t uid;
	uint64_t refs;
	struct list silent;  /* its connections without HELLO, oldest first (session.c) */
	struct list waiting; /* its requests that wait for a namespace (namespace_room.c) */
	struct list turn;    /* in the list of users that have such requests */
};

bool user_is_operator(uid_t uid);

/* The user of that uid, with one more reference; NULL: out of memory. */
struct user *user_open(struct ledger *ledger, uid_t uid);
/* One reference more, or fewer: closed with the last one. Accepts NULL. */
struct user *user_ref(struct user *user);
struct user *user_close(struct user *user); /* NULL */
