/* SPDX-License-Identifier: Apache-2.0 */
/*
 * promise: what a session has reserved of a device's memory for regions, before it commits
 * it. Of each session and device there is one promise, in bytes:
 *
 * 	reserved	what the session has reserved
 * 	used		what it took and the pool has not back: leased or quarantined, and, once
 * 			it has been handed out, being released or held by its client
 * 	asked		what its requests to the pool wait for
 *
 * What is outstanding, reserved - used or 0, is promised. The pool is to keep
 *
 * 	sum of what is outstanding <= free
 *
 * where free is what a request can have now: memory that is ready, that is uncreated, or
 * that is being released and was never handed out. Memory that a client gave back is used
 * until it is free, so what is outstanding rises only when what is free rises as much: no
 * client can break a promise to another by what it keeps. A promise is about the pool's
 * budget; whether the driver has the memory is found when it is created.
 *
 * A request of the pool is served if the invariant holds after it. So one within its
 * session's reservation never lacks budget, unless its session holds what it gave back, and
 * one beyond it takes only what is not promised. A reservation grows if all that is due
 * is free: what is outstanding or, if that is more, asked.
 *
 * What a session lends as it is (lent.h) and has given back is no longer its to use. It is
 * counted as without a session as soon as the invariant allows what the session then has
 * outstanding. Until then it is left: used, and the session can have so much less than it
 * has not committed. It cannot be otherwise: others may have that memory mapped, or hold its
 * descriptors, and what they can keep is not free. But before a request is refused, or waits
 * for what clients hold, all of it that is idle is closed (slabs_on_shortage), and what that
 * frees is what the request gets.
 *
 * A promise with a user charges it for what is used or asked (LEDGER_MEMORY; of host memory
 * LEDGER_HOST_MEMORY), as long as that is, also when its session has ended. What is without a
 * session is not charged. The user's tenant is charged for that, or for what is reserved if it is
 * more, with the limit that it has for the device (LEDGER_DEVICE_MEMORY).
 *
 * Here is arithmetic alone: the pool calls it for each change. Requests without a session
 * have one together, of which nothing is reserved.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/user.h"

#include <stdbool.h>
#include <stdint.h>

struct promise {
	struct list link;       /* in promises->all */
	struct list by_session; /* in regions->promises */
	struct promises *promises;
	uint32_t device;
	uint32_t kept; /* region_kept.h */
	uint64_t reserved, used, asked;
	uint64_t left;           /* of what is used: lent, and in no slot any more */
	bool ended;              /* its session has; freed when nothing is used or asked */
	struct charge charge;    /* for what is reserved */
	struct user *user;       /* that pays for what is used; NULL: no user does */
	struct charge memory;    /* for that and what is asked */
	struct payer *tenant;    /* what its tenant has of the device; NULL: no tenant pays */
	struct charge on_device; /* that or what is reserved, if it is more */
};

/* A pool's; embedded, does not move. */
struct promises {
	struct list all;
	uint64_t promised; /* sum of what is outstanding */
	uint64_t due;      /* sum of what is outstanding or, if that is more, asked */
	uint64_t used;
	struct promise unowned;
};

void promises_init(struct promises *promises);
/* Of a session, without a reservation, for which that user (NULL: none) pays. NULL: no memory. */
struct promise *promise_new(struct promises *promises, uint32_t device, struct user *user);
/* Whether who pays for it may have so much more. Counts a refusal. */
bool promise_is_paid(const struct promise *promise, uint64_t bytes);
/* How much more its tenant would be charged for on the device if so much were reserved, and so much
 * more asked; saturates. */
uint64_t promise_growth(const struct promise *promise, uint64_t reserved, uint64_t more);
/* Whether the tenant may have so much more of the device. */
bool promise_has_room(const struct promise *promise, uint64_t growth);
/* The session has ended: nothing is reserved any more. May free it. */
void promise_end(struct promise *promise);

uint64_t promise_outstanding(const struct promise *promise);
/* What would be due if so much were reserved; saturates. */
uint64_t promise_due_with(const struct promise *promise, uint64_t reserved);
/* What would be due if so much more were asked; saturates. */
uint64_t promise_due_asking(const struct promise *promise, uint64_t bytes);
/* Whether what is free allows to use so much more. */
bool promise_allows(const struct promise *promise, uint64_t free, uint64_t bytes);

/* Sets what is reserved, which the payer is charged for whatever its limit. */
void promise_reserve(struct promise *promise, struct payer *payer, uint64_t reserved);

void promise_ask(struct promise *promise, uint64_t bytes);
void promise_unask(struct promise *promise, uint64_t bytes);
/* What was asked is used now. */
void promise_use(struct promise *promise, uint64_t bytes);
/* It is asked for again. */
void promise_ask_again(struct promise *promise, uint64_t bytes);
/* It is free again. May free the promise. */
void promise_unuse(struct promise *promise, uint64_t bytes);
/* Of what is used, it is left; or is so no more. */
void promise_leave(struct promise *promise, uint64_t bytes);
void promise_unleave(struct promise *promise, uint64_t bytes);
/* What is left is used still, and without a session from now on. Whether what is free allows
 * that; does it. May free the promise. */
bool promise_may_disown(const struct promise *promise, uint64_t free, uint64_t bytes);
void promise_disown(struct promise *promise, uint64_t bytes);
/* It is used no longer, and not free: the device refused to release it. What was reserved
 * is less by it, so that nothing else is promised in its place. May free the promise. */
void promise_lose(struct promise *promise, uint64_t bytes);

/* Adds all promises up again: the first fault as a static sentence, or NULL. */
const char *promises_check(const struct promises *promises);
