/* SPDX-License-Identifier: Apache-2.0 */
/* slab_pool: what a pool is made of. Only the files named slab_ include this. */
#pragma once

#include "daemon/base/tally.h"
#include "daemon/region/held.h"
#include "daemon/region/promise.h"
#include "daemon/region/slab_books.h"
#include "daemon/region/slot_tally.h"

struct slab;

struct slabs {
	struct device *device;
	struct loop *loop;
	uint64_t default_slab, ahead;
	struct slabs_books books; /* ready includes the slab being created */
	struct tally ready, placed, lost;
	struct slot_recount recount;
	uint64_t slots;       /* bytes of all slots that those backed that were passed */
	uint64_t unplaced;    /* leased bytes of requests, which back no slot yet */
	struct list requests; /* waiting, in order */
	struct list left;     /* struct slab: lent only, and yet in the promise of its maker */
	struct promises promises;
	uint64_t releasing;         /* of the retiring bytes, those never handed out */
	struct list retiring;       /* slabs whose release the worker has not been asked for */
	uint64_t posted;            /* bytes of those for which it has been */
	uint32_t releases;          /* their number */
	void (*changed)(void *arg); /* or NULL */
	void *changed_arg;
	struct slab *making;
	struct held held;
	struct timer retry;
	uint64_t retry_ns;
	uint64_t retired_ns; /* when an exported slab was last released; 0: none was */
	bool draining;       /* no slab is created ahead */
	bool (*reclaim)(void *arg, uint64_t bytes);
	void *reclaim_arg;
	bool reclaiming;              /* it goes on with that */
	uint64_t returning;           /* bytes of slabs that were idle and are on their way back */
	struct {                      /* slab_budget.c */
		uint64_t bytes, gone; /* that it is to lose, and has lost for that */
		void (*done)(void *arg, uint64_t bytes);
		void *arg;
	} leaving;
	const struct region_kept *kept; /* NULL: nothing outlives the daemon */
	struct slab **adopted;          /* by their numbers, until slabs_adopted() */
	size_t adopted_count;
};

/* One of the pool, without a handle. NULL: no memory. */
struct slab *slab_new(struct slabs *slabs, uint64_t bytes);
/* On the control worker: makes its handle. */
CUresult slab_create(struct slab *slab);
void slab_push_ready(struct slabs *slabs, struct slab *slab);
void slab_remove_ready(struct slabs *slabs, struct slab *slab);
/* Retires ready slabs of other sizes until `enough` bytes are uncreated or will be. False
 * if there was none. */
bool slab_retire_others(struct slabs *slabs, uint64_t bytes, uint64_t enough);
/* So much is due: what is idle elsewhere makes way, before anything is waited for that clients
 * hold. */
void slab_reclaim(struct slabs *slabs, uint64_t need);
/* What a request can have at once. */
uint64_t slab_free_bytes(const struct slabs *slabs);
/* Its bytes are free again. */
void slab_unuse(struct slab *slab);
/* Takes from the budget what is to leave it and is not created (slab_budget.c). */
void slab_budget_leave(struct slabs *slabs);
/* Serves requests as far as possible, then creates ahead. */
void slab_pump(struct slabs *slabs);

/* A slab that is kept is about to be released: its descriptor is parked no longer, as that would
 * hold the memory itself. Until it is known that its memory is free the next daemon takes it for
 * held. */
void slab_unpark(struct slab *slab);
void slab_unkeep(struct slab *slab); /* its memory is free, or out of reach */
/* Takes what an earlier daemon has kept of the device; before anything is created. -ENOMEM. */
int slab_adopt_all(struct slabs *slabs);

/* Serves the first request if possible; false if it must wait. */
bool slab_request_serve_first(struct slabs *slabs);
