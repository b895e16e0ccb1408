/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user: the payer for all that the clients of one uid have, and of one tenant, if one has them
 * (tenant.h). It is opened with the first thing of theirs, a session or a namespace, and closed
 * with the last: a namespace outlives the sessions that used it. What is private to a user is so
 * to its clients of that tenant: two services that run with one uid are two users if they are
 * two tenants.
 *
 * An operator is uid 0 or the daemon's own uid. It may do what concerns other clients, and
 * no share bounds it, unless a tenant has it, so that it gets in whatever the others do.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/base/list.h"
#include "daemon/base/log_peers.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/tenant.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct user {
	struct list link; /* in ledger->users */
	struct payer payer;
	struct tenant *tenant; /* that pays for it; NULL: it pays itself */
	uid_t uid;
	uint64_t refs;
	struct list silent;  /* its connections without HELLO, oldest first (session.c) */
	struct list waiting; /* its requests that wait for a namespace (namespace_room.c) */
	struct list turn;    /* in the list of users that have such requests */
};

bool user_is_operator(uid_t uid);

/* The user of that uid and tenant (NULL: none), with one more reference; NULL: out of memory. */
struct user *user_open_of(struct ledger *ledger, uid_t uid, struct tenant *tenant);
/* The same of a uid that no tenant has. */
struct user *user_open(struct ledger *ledger, uid_t uid);
/* Whether both see the same namespaces: they are one; or of one tenant, or of two that share with
 * one word; or no tenant has either, and such users share (hbmd.share_namespaces). */
bool user_shares(const struct user *user, const struct user *other);
/* The number of its tenant, or of a user that is a tenant alone: of no other. Not 0. */
uint64_t user_number(const struct user *user);
/* Wrong guesses at salts that it may make at once (guesses.h). */
uint64_t user_guesses(const struct user *user);
/* Who causes the log lines of clients of that uid, of that tenant or of none (NULL). */
struct log_who user_log_who(const struct tenant *tenant, uid_t uid);
/* Who pays where that session of the user takes turns (fair_queue.h): its tenant, or the user
 * alone if no tenant has it, which has a weight of 1. */
struct fair_payer user_fair_payer(const struct user *user, uint64_t session);
/* One reference more, or fewer: closed with the last one. Accepts NULL. */
struct user *user_ref(struct user *user);
struct user *user_close(struct user *user); /* NULL */
