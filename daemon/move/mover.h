/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mover: makes the bytes of blocks follow the policy. Three kinds of transfer, each with
 * a module of its own:
 *
 * 	store	from a client's memory into an extent of the block's target (store.h)
 * 	move	from one tier's extent to another's, or only into host memory, for loads to read
 * 		there (move.h)
 * 	load	from a block's extent, or the host copy a move makes of it, to a client (load.h)
 *
 * How the bytes travel is transfer.h's. When a move begins, and how space is freed if
 * something waits for an extent, is pump.h's. This module has what they share.
 *
 * A source extent is freed when its move has ended and nothing reads it. If a move
 * fails its block is dropped; later loads miss, and wrong bytes are never served. A move
 * that fails after its block's target has changed leaves the block where it was.
 *
 * A tier that does not answer: silence.h.
 *
 * A device that is lost (device_is_lost) takes the blocks in its HBM along, and is no
 * block's target from then on. Blocks elsewhere stay for the other devices.
 */
#pragma once

#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/loop/event.h"
#include "daemon/move/due_moves.h"
#include "daemon/move/io_share.h"
#include "daemon/move/transfer.h"
#include "daemon/move/waiting_loads.h"

struct link_stats;
struct move;
struct wiper;

/* Open to store.c, load.c, move.c and pump.c. */
struct mover {
	struct cache *cache;
	struct transfer_context context;
	const struct devices *devices;
	enum config_checksum checksums; /* of which blocks */
	struct move **moves;            /* by number, from 1 */
	uint32_t *vacant;               /* numbers not in use */
	uint64_t numbers, vacant_count;
	struct list serving;                /* struct move: with readers that are not ready yet */
	struct payer for_policy, for_loads; /* of the moves that each wants */
	struct due_moves due[TIER_NUMBERS]; /* to each tier, by deadline */
	struct link_stats *link_stats;      /* of how fast they arrive; NULL: not known */
	struct waiting_loads loads;         /* for a move number, or a share of the disk's */
	struct wiper *wiper;
	struct io_share io_share;
	struct list writes; /* moves to a disk, oldest first */
	uint64_t late_ns;   /* one that is older is late; 0: none is */
	struct log_quota mismatches;
	struct loop *loop;
	struct background rest;        /* of what is to be dropped, and of moves that can begin */
	void (*batch_done)(void *arg); /* mover_listen()'s */
	struct mover_late {
		struct late_listener listener;
		struct mover *mover;
	} late[HBM_WIRE_DEVICES_MAX]; /* of each device */
	bool pumping, again;
	bool cut; /* the last pump_run(): the rest follows in the background */
};

struct mover_options {
	struct cache *cache;
	const struct devices *devices;
	struct tier *staging;
	struct hash_pool *hash_pool;
	uint64_t piece; /* of a large transfer: transfer.h */
	enum config_checksum checksums;
	struct ledger *ledger;
	struct link_stats *link_stats;
	uint64_t late_ns;
};

int mover_new(struct mover **out, const struct mover_options *options);
struct mover *mover_free(struct mover *mover); /* nothing may be active */

/* Completions free slots, buffers and numbers, and so does the knowledge that late copies are
 * over: batch_done(mover) follows each batch of them. NULL: stop listening. */
void mover_listen(struct mover *mover, void (*batch_done)(void *arg));
uint64_t mover_moves(const struct mover *mover);  /* of blocks, in flight */
uint64_t mover_active(const struct mover *mover); /* transfers begun and not ended */

/* Handles a failed transfer of a block: counts it, and gives up a lost device. Wrong bytes
 * of the daemon before (CHECKSUM_VERIFY) are counted once, by the first transfer that finds them:
 * then they are dropped. */
void mover_failed(struct mover *mover, const struct transfer *transfer, uint32_t number);
/* A write into a moving extent has failed. The tier is lost if too much of it has. secret: what
 * was to be overwritten may be there, and stays. */
void mover_fail_extent(struct mover *mover, struct place place, uint64_t bytes, bool secret);
/* Whether nothing moves but what a silent tier does not answer. */
bool mover_is_idle(const struct mover *mover);
/* The daemon stops: more than a disk overwrites in some time is left to the next start. */
void mover_stop(struct mover *mover);
/* The blocks in the HBM of devices that are lost are gone: none is found from now on. */
void mover_give_up_lost_devices(struct mover *mover);
