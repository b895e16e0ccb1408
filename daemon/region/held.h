/* SPDX-License-Identifier: Apache-2.0 */
/*
 * held: device memory that the daemon has released and that is not free, because the
 * client it was handed to keeps a descriptor or a mapping of it, or has not read the
 * message it came with.
 *
 * The driver does not say who holds what. It says how much of the device is free
 * (cuMemGetInfo), and the daemon knows what it has itself, in its pool and its HBM tier; the rest
 * is what others have:
 *
 * 	others = total - free - created - tier
 *
 * Around each release `others` is measured on the control worker. Grown by more than half
 * of what was released: that memory is held. `base` is what others had when nothing was
 * held, so `others - base` is what is held by now. It is measured again while anything is
 * held, by a timer and before a request is refused for it. When it has fallen, what was
 * given back last counts as free first: an honest client may be late by a moment, and what
 * has been held for long is meant to be.
 *
 * Other processes of the device blur that. What they allocate in the moment of a release,
 * or while something is held, keeps memory counted as held that is free, until they free
 * it or nothing is held; what they free meanwhile hides as much that is held. Without them
 * the account is exact. That a driver says so is tried by tests/gpu/gpu_claims.c.
 *
 * `base` outlives the daemon (region_kept.h), so that what clients let go of while none runs does not
 * count. A daemon that is killed between the first release since nothing was held and its
 * measurement leaves the base of before.
 *
 * Each part is charged to its holder while the holder's process lives. After that no
 * session is charged: the part counts as free as soon as the device has room for all that is
 * not created.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/tally.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"

struct region_kept;

/* Who is charged for what it was handed, gave back, and holds: one of each session. */
struct holder {
	struct payer *payer;
	uint64_t session;   /* by which what it has is kept (region_kept.h); 0: by none */
	uint64_t releasing; /* bytes that it gave back and that are being released */
	uint64_t kept;      /* how often it is kept, for what may be charged to it later */
	bool gone;          /* its process has ended */
	struct list parts;  /* struct held_part, charged to it */
	/* after the last part or release, or when it is kept no longer; may free it */
	void (*settled)(struct holder *holder);
};

/* One allocation on its way from its release to being free; zeroed before. */
struct held_part {
	uint64_t bytes;
	struct holder *holder; /* NULL: it was never handed out, or its holder is gone */
	/* The rest is held.c's. */
	struct held *held;
	struct list link, by_holder;
	uint32_t mark; /* in held->parts */
	struct charge charge;
	bool first; /* nothing is held or being released: the base is measured with it */
	bool kept;  /* others had as much more after its release */
	uint64_t others_before;
};

/* What the driver says at one moment. */
struct held_reading {
	bool known;
	uint64_t free, others;
};

struct held {
	struct device *device;
	struct loop *loop;
	void (*returned)(struct held_part *part); /* it is free; may free it */
	void (*probed)(struct held *held);        /* a probe has ended */
	uint64_t bytes;                           /* of all parts */
	/* The rest is held.c's. */
	struct tally parts; /* in the order of their release */
	const char *fault;  /* of those that the check has passed, or NULL */
	uint64_t base;
	bool guessed;      /* the base, for there were parts before anything was measured */
	uint64_t releases; /* that have begun, and not ended */
	const struct region_kept *kept;
	uint32_t record; /* of the device there */
	struct timer timer;
	uint64_t timer_ns;
	bool probing, again, closed;
	struct job job;
	uint64_t uncreated; /* of the pool, when the probe began */
	const uint64_t *pool_uncreated, *pool_releasing;
	struct held_reading probe; /* of the last probe */
	uint64_t created;          /* bytes the pool has; the control worker's */
};

void holder_init(struct holder *holder, struct payer *payer);
bool holder_is_settled(const struct holder *holder); /* it holds nothing, and is not kept */
/* It is not settled until it is let go of as often, which may call settled(). */
void holder_keep(struct holder *holder);
void holder_let_go(struct holder *holder);
/* Its process has ended: its parts are no longer charged. Does not call settled(). */
void holder_end(struct holder *holder);

/* The pool's counts are read when a probe begins: bytes without a handle, and those whose
 * release the control worker has been asked for. */
void held_open(struct held *held, struct device *device, struct loop *loop,
	       const uint64_t *pool_uncreated, const uint64_t *pool_releasing);
/* Where the base is kept, NULL: nowhere; before anything else. */
void held_keep(struct held *held, const struct region_kept *kept);
/* After what has been adopted: a base that is not known is measured, if nothing is held. */
void held_begin(struct held *held);
/* Whether something is held whose holder is gone. */
bool held_has_orphans(const struct held *held);
/* For the time after loop_run(): no more timers and no more probes. */
void held_close(struct held *held);
/* Then: a part that is still held, without a holder; NULL: none. */
struct held_part *held_pop(struct held *held);

/* On the control worker. */
CUresult held_create(struct held *held, CUmemGenericAllocationHandle *handle, uint64_t bytes);
/* part NULL: it was never handed out. */
CUresult held_release(struct held *held, CUmemGenericAllocationHandle handle, uint64_t bytes,
		      struct held_part *part);

/* The release of the part is posted to the control worker. */
void held_release_begins(struct held *held, struct held_part *part);
/* Its release is done, or has failed: whether the part is held. If so it belongs to `held`
 * until returned(). */
bool held_release_ended(struct held *held, struct held_part *part, bool released);
/* A part of an earlier daemon is held still, as far as is known; without a holder. Before anything
 * else is done with it. A base that was not kept is taken for what others have beside all parts,
 * and rises with that. */
void held_adopt(struct held *held, struct held_part *part);
/* It has a holder, which is charged. */
void held_charge(struct held_part *part, struct holder *holder);
/* Measures; probed() follows. If a probe is on its way, whose answer may be from before
 * this call, another follows it. */
void held_probe(struct held *held);
/* Checks the account as slabs_check_begin(), _some() and _end() do. */
void held_check_begin(struct held *held);
bool held_check_some(struct held *held, uint32_t max);
const char *held_check_end(const struct held *held);
