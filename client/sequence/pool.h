/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: sequences of one layout on one device, in one region that is cut into slots.
 *
 * Whether a slab is mapped is written once: in the region's own slab states. A pool counts
 * per slot what is there, and never keeps a second list.
 *
 * With a thread of its own a pool has a connection of its own and a lock, and every call
 * takes it but a step that has nothing to do. Without, the pool uses the caller's
 * connection, one thread at a time, and there is no lock. The line of the last refusal is
 * the pool's, so that the thread's refusals never change what a caller reads.
 *
 * A pool of n sequences has n slots and n handles. A sequence has one of each while it is
 * open. Handles are used again in the order in which they were closed, so that a stale one
 * is noticed as long as possible.
 */
#pragma once

#include "client/notice.h"
#include "client/region.h"
#include "client/sequence/moves.h"
#include "client/sequence/ranges.h"
#include "client/sequence/shares.h"
#include "client/sequence/spaces.h"
#include "client/sequence/stash.h"
#include "daemon/base/list.h"

#include <hbm/sequence.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

struct books;
struct page;
struct page_table;
struct slot;
struct watermark;

struct hbm_pool {
	struct hbm *hbm;
	struct hbm_region *region;
	struct hbm_layout *layout; /* its own copy */
	uint32_t buffer_count;
	uint64_t slab, max_tokens;
	uint64_t slot_bytes, slot_slabs;
	uint64_t ahead_tokens, warm_slabs_max;
	void *stream;
	bool own_stream;
	bool copies_unsure; /* the device has not said that they have ended: copies.h */
	bool has_windows;   /* some layers of the layout have */
	bool memory_only;   /* nothing is suspended to NVMe */
	bool wipe_on_free;  /* of what is suspended */
	uint32_t max_sequences;
	struct hbm_sequence *sequences; /* max_sequences handles */
	uint32_t open_count;
	struct list open, closed; /* of them; closed: the oldest first */
	struct slot *slots;       /* max_sequences */
	struct list warm, cold;   /* free slots: with slabs, the last closed first; without */
	uint64_t warm_slabs;      /* mapped in free slots */
	struct books *books;      /* of its connection and device; NULL: it is being closed */
	uint64_t committed;       /* bytes of it there */
	struct page *spare_pages; /* page.h */
	size_t spare_count;
	/* a slot's slabs are shared with others, or no longer: slot.h */
	void (*sharing_changed)(const struct hbm_pool *pool, const struct page_table *table);
	/* a call names a sequence that is on its way out: passage.h */
	void (*call_back)(struct hbm_pool *pool, const struct hbm_sequence *sequence);
	/* watermark.h; watch: NULL, or hbm_watermark_go(), with the lock held */
	struct watermark *watermark;
	bool (*watch)(struct hbm_pool *pool);
	struct ranges grow, shrink; /* what is to be mapped, and unmapped */
	struct shares shares;       /* what is to be mapped once more */
	struct moves moves;         /* what is to be compacted */
	uint64_t bounce;            /* compaction.h: address of a slab there; 0: none */
	struct hbm_region *scratch; /* scratch.h; NULL: none yet */
	struct stashes stashes;     /* of suspended sequences */
	struct list switches;       /* struct hbm_switch, that have not been freed */
	uint64_t last_name;         /* switch.c */
	struct board board;         /* show.h */
	struct list events;         /* struct hbm_sequence, by event */
	uint64_t pressure;          /* bytes that the device lacks, to be said; 0: nothing */
	struct spaces spaces;       /* of slabs of modules */
	bool lends_nothing;         /* the daemon: there are none of these */
	struct hbm_pool_totals totals;
	_Atomic uint64_t steps;
	_Atomic uint32_t stepping; /* gate.h */
	_Atomic uint64_t *marks;   /* mark.h: a bit for each handle */
	_Atomic bool due;          /* a step has marked some since the last look */
	bool has_thread;           /* ahead.h */
	pthread_t thread;
	sem_t wake;
	_Atomic bool stop;
	bool own_connection;
	pthread_mutex_t lock; /* own_connection */
	bool is_quiet; /* the thread is at work: what it is refused is not the caller's line */
	char error[320];
};

/* Around every call that may have something to do. Without a thread they do nothing. */
void hbm_pool_lock(struct hbm_pool *pool);
void hbm_pool_unlock(struct hbm_pool *pool);
/* Writes the pool's line, and that of the caller's connection; returns status. */
int hbm_pool_fail(struct hbm_pool *pool, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Takes over the connection's line for a call that ended with status; returns status. */
int hbm_pool_fail_call(struct hbm_pool *pool, int status, const char *what);
