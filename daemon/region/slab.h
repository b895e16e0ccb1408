/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab: the HBM that backs regions. A slab is one physical allocation (a VMM handle) of 2
 * MiB << k. The pool has a budget in bytes (slab_books.h).
 *
 * A slab is reference-counted: each slot of a region that maps it has one reference, so
 * that slots can share a slab (a fork, a shared prefix). It is charged once, and
 * quarantined once all of its references are. What the device refuses to unmap for one of
 * them is stuck for all: none of its slots is used again once it is decommitted.
 *
 * A slab that was ever exported is never reused: an fd is a capability that cannot be
 * revoked, so the handle is released and a new one created. The driver clears the memory.
 * What a client still holds after that is not available, and is counted as held. Ready
 * slabs are created in the background so that a commit does not pay for creation; when
 * another size is requested, ready slabs of other sizes are released first. A slab
 * whose handle the device refuses to release stays quarantined for the life of the
 * daemon. The control worker is asked for some releases at a time, so that a commit does not
 * wait for all that was given back before it.
 *
 * Sessions reserve memory before they commit it (promise.h): a request is served only if what
 * is free afterwards is what is promised, or more.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/held.h"
#include "daemon/region/promise.h"
#include "daemon/region/slab_books.h"

struct lent;
struct publication;
struct region_kept;
struct slabs;

/* The most that the control worker makes, maps or unmaps before other jobs have their turn.
 * Each takes some tenths of a millisecond on a device: a short commit waits some ten
 * milliseconds for each long one, not a second. Fewer would cost more calls that work on
 * whole runs. */
#define SLABS_PER_TURN 64
#define SLAB_BYTES_MIN (2ull << 20)
#define SLAB_BYTES_MAX (1ull << 30)
#define SLAB_SIZES 10u /* powers of two from the one to the other */
/* The most slabs that change their promise after one change of the pool. */
#define SLABS_DISOWNED 64

struct slab {
	struct list link; /* among the pool's ready, placed or lost ones, or with its request */
	uint32_t mark;    /* there */
	CUmemGenericAllocationHandle handle;
	uint64_t id; /* region_kept.h: while it is kept */
	uint32_t kept;
	uint64_t bytes;
	uint32_t refs, quarantined;      /* references, and how many of them are quarantined */
	uint32_t slots;                  /* that have a reference each */
	uintptr_t owners;                /* slot.c's */
	uint64_t *leased;                /* the sum that it counts in while it has a slot */
	struct publication *publication; /* that has it; NULL: none */
	bool exported, placed;
	bool returning; /* it was idle, and is on its way back */
	bool borrowed;  /* it was lent by an earlier daemon: read-only in whatever slot */
	/* the device refused to unmap it, or a copy may use it: it stays mapped in the daemon.
	 * Of a shared one the loop and the control worker may have to do with different slots. */
	_Atomic bool stuck;
	CUresult result; /* the pool's, as are the following */
	struct job job;
	struct slabs *slabs;
	struct held_part part;   /* once exported; its holder is set by who exports it */
	struct promise *promise; /* in whose used bytes it is; NULL: it is ready, or lost */
	struct lent *lent;       /* with which it is lent; NULL: it is not */
	struct list left;        /* the pool's */
};

/* Opens a pool of `budget` bytes, none of it created yet; slabs of the default size are
 * created ahead. Its slabs are kept there, if `kept` is not NULL, and it has those that an earlier
 * daemon kept, each leased with one reference, until slabs_adopted(). A slab that is lost is dropped;
 * where the budget is less than what there is, it is as much. -ENOMEM. */
int slabs_open(struct slabs **out, struct device *device, struct loop *loop, uint64_t budget,
	       uint64_t default_slab, const struct region_kept *kept);
/* The adopted slab of that number, and the n-th, in their order; NULL: there is none. */
struct slab *slabs_find_adopted(const struct slabs *slabs, uint64_t id);
struct slab *slabs_nth_adopted(const struct slabs *slabs, size_t n);
/* An adopted slab that is held is charged to that session; any other is in the promise, and that
 * session is charged for what it holds of it later. */
void slab_adopt_for(struct slab *slab, struct promise *promise, struct holder *holder);
/* Adopted slabs that back no slot by now go back to the pool. */
void slabs_adopted(struct slabs *slabs);
/* Where its slabs are kept; NULL: nowhere. */
const struct region_kept *slabs_kept(const struct slabs *slabs);
/* The promise is the session's: what it has reserved outlives the daemon. HBM_OK, HBM_LIMIT. */
int slabs_keep_promise(const struct slabs *slabs, struct promise *promise, uint64_t session);
/* The slab outlives the daemon from now on, with that descriptor (-1: one of its own), or does so
 * already: HBM_OK, HBM_LIMIT. It is its holder's. */
int slab_keep(struct slab *slab, int fd);
/* Called with the bytes that a request or a reservation lacks, before it waits or is refused for
 * them: what it can do without goes back to the pool; true: more of it will, until
 * slabs_reclaimed(). NULL: no one is asked. */
void slabs_on_shortage(struct slabs *slabs, bool (*reclaim)(void *arg, uint64_t bytes), void *arg);
/* What it has called said that it goes on with that: it does not any more. */
void slabs_reclaimed(struct slabs *slabs);
/* There is more now that it can do without: who waits for memory may ask again. */
void slabs_can_reclaim(const struct slabs *slabs);
/* Whether what was idle is on its way back to the pool, or is still looked for. It is of no
 * client. */
bool slabs_is_reclaiming(const struct slabs *slabs);
/* The daemon stops: slabs are created for requests only, no longer ahead of them. Memory
 * that drained sessions freed may still be mapped by their processes, and no later
 * request needs it. */
void slabs_drain(struct slabs *slabs);
/* For the time after loop_run(), when no region is left: releases all ready slabs.
 * Accepts NULL, returns NULL. */
struct slabs *slabs_close(struct slabs *slabs);
struct slabs_books slabs_books(const struct slabs *slabs);
/* changed(arg) is called after each change of the books, of the promises or of what others can do
 * without, from within: it calls nothing of the pool that changes them. */
void slabs_watch(struct slabs *slabs, void (*changed)(void *arg), void *arg);
/* ---- another budget (slab_budget.c) ---- */

/* Takes bytes off the budget, as many as are free and not due (slab_books.h), or false and nothing
 * has changed. No request can have them from then on; slabs that are ready are released for them. Then
 * done(arg, bytes), maybe from within: fewer, where the device has not released some. One call at a
 * time. */
bool slabs_take_budget(struct slabs *slabs, uint64_t bytes, void (*done)(void *arg, uint64_t bytes),
		       void *arg);
bool slabs_loses_budget(const struct slabs *slabs); /* before done() */
void slabs_add_budget(struct slabs *slabs, uint64_t bytes);

/* Its promises, to make new ones. */
struct promises *slabs_promises(struct slabs *slabs);
/* Sets a session's reservation if what is free allows that: whether it did. Less is always
 * allowed. */
bool slabs_reserve(struct slabs *slabs, struct promise *promise, struct payer *payer,
		   uint64_t reserved);
/* The session of that promise has ended: promise_end(). */
void slabs_end_promise(struct promise *promise);
/* Whether slabs_reserve() would. */
bool slabs_can_reserve(const struct slabs *slabs, const struct promise *promise, uint64_t reserved);
/* It would not: what is idle and would help it comes back to the pool, a little later. */
void slabs_reclaim(struct slabs *slabs, const struct promise *promise, uint64_t reserved);
uint64_t slabs_default(const struct slabs *slabs); /* bytes of the default slab */
bool slabs_is_size(uint64_t bytes);                /* 2 MiB << k, k < SLAB_SIZES */
/* Checks the pool's counts against its slabs, in steps: begin, some until it is false, and
 * then, before anything changes, end, which returns the first fault as a static sentence, or
 * NULL. Between two steps slabs may come and go. */
void slabs_check_begin(struct slabs *slabs);
bool slabs_check_some(struct slabs *slabs, uint32_t max); /* over at most so many */
const char *slabs_check_end(const struct slabs *slabs);
const char *slabs_check(struct slabs *slabs); /* the same at once */
/* At that end: the bytes of all slots that slabs back; and what the slots themselves say. */
uint64_t slabs_check_slots(const struct slabs *slabs);
struct slot_recount;
struct slot_recount *slabs_slots(struct slabs *slabs);

/* All slabs that one commit needs of one device: charged to the budget at once, created
 * on the control worker where none is ready. done() is called once, on the loop thread,
 * maybe before slabs_request() returns: status 0 and `count` slabs on `taken`, leased,
 * with one reference each; or an enum hbm_status and no slabs. If slabs_request() itself
 * refuses (budget), it returns HBM_NO_SPACE and done() is not called. HBM_LIMIT: the
 * holder holds more than it may of what it gave back. Before a request is refused for
 * what is held, the device is asked again; and where it has less than the books say,
 * because a process still holds what was given back, the request waits about a second for
 * it. */
struct slab_request {
	uint64_t bytes; /* of each */
	uint64_t count;
	struct holder *holder;   /* NULL: there is none to charge */
	struct promise *promise; /* its session's; NULL: it has none */
	void (*done)(struct slab_request *request);
	struct list taken;
	int status;
	struct list link; /* the pool's, as are the following */
	uint64_t missing;
	bool retried;
	uint64_t waited_ns; /* for memory that others still hold */
	struct timer timer;
	bool probed;    /* a probe has begun since it is the first in turn */
	bool lacks_fds; /* result was caused by a lack of descriptors */
	CUresult result;
	struct job job;
	struct slabs *slabs;
};
int slabs_request(struct slabs *slabs, struct slab_request *request);

/* A slab that was requested backs a slot from now on, which has its reference. */
void slab_place(struct slab *slab);
/* It backs one more slot, or one less, whose reference comes or goes. */
void slab_add_slot(struct slab *slab);
void slab_drop_slot(struct slab *slab, bool quarantined);
/* It was lent, is idle and of no slot, and its last references are about to be dropped. */
void slab_begin_return(struct slab *slab);
/* Adds a reference to a leased slab. */
struct slab *slab_ref(struct slab *slab);
/* Quarantines a reference: its holder may still write to the slab. The slab is
 * quarantined with its last reference. */
void slab_quarantine(struct slab *slab);
/* Drops a reference; `quarantined` says whether it was. The caller has removed the
 * mapping it stood for. After the last one the slab returns to the budget: an exported
 * slab retires, any other becomes ready. A stuck one stays quarantined permanently. */
void slab_unref(struct slab *slab, bool quarantined);
