/* SPDX-License-Identifier: Apache-2.0 */
/*
 * books: the device memory of the pools of a connection, as the daemon counts it: by
 * connection and device. All in bytes:
 *
 * 	reserved	by these pools, of what the daemon reserves for the connection
 * 	committed	slabs that they have, each once, however many slots have it; what is
 * 			borrowed from the cache is the cache's
 * 	credit		of all sequences (credit.h)
 * 	promised	of it, what is not used: the sum of what each may have, less what is
 * 			mapped in its slot, shared or not
 * 	held		for switches under way, so that they can end, and can be undone
 *
 * What is due is committed, promised and held, if there is any credit or anything is held,
 * else nothing. It is
 *
 * 	due <= reserved
 *
 * whenever memory is asked for. So what the daemon still has to give to the connection is at
 * least what the pools have promised, and a commit within it never lacks memory. What is
 * unmapped is promised again by that alone. Where nothing is expected of any sequence, nothing
 * is reserved, and no call is made for it.
 *
 * Slabs that are in two places for a moment, as they are exchanged, count twice.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct hbm_pool;

struct books {
	struct list link; /* in hbm->books */
	uint32_t device, pools;
	uint64_t reserved, committed, credit, promised, held;
};

/* Of a sequence: credit.h. */
struct account {
	uint64_t promised, credit, unused;
	uint64_t known;   /* credit that is in the books */
	uint64_t growing; /* of what is unused, while it is counted */
};

/* The pool has those of its connection and device from now on. False: no memory. */
bool hbm_books_join(struct hbm_pool *pool);
/* Takes all that the pool has committed out of them: its sequences have no credit any more. */
void hbm_books_empty(struct hbm_pool *pool);
/* The pool has none any more. */
void hbm_books_leave(struct hbm_pool *pool);
/* Also: if there will be credit. */
uint64_t hbm_books_due(const struct books *books, bool will_be);
/* So much memory of the pool was committed, or is not any more if negative. A pool without
 * books counts nothing. */
void hbm_books_count(struct hbm_pool *pool, int64_t bytes);
/* The credit of a sequence, or how many bytes are mapped in its slot, has changed. */
void hbm_books_look(struct hbm_pool *pool, struct account *account, uint64_t mapped);
