/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passage: sequences on their way out to the stash, and others on their way in, in one
 * operation: a suspend has none of the second, a resume none of the first.
 *
 * It is submitted, and goes on whenever its user looks at it or waits for it: hbm_passage_go()
 * looks at what has ended, sends what can be sent, and never waits for a transfer. When all
 * has arrived it ends, or when something has failed and all is as it was before.
 */
#pragma once

#include "client/sequence/arrival.h"
#include "client/sequence/carry.h"
#include "client/sequence/handover.h"
#include "daemon/base/list.h"

#include <hbm/sequence.h>

struct passage_group {
	struct hbm_sequence **list;
	size_t count;
};

struct hbm_switch {
	struct hbm_pool *pool;
	struct list link; /* in the pool's */
	struct passage_group out, in;
	struct carry departure;
	struct arrival arrival;
	struct handover handover;
	enum hbm_tier tier;
	bool has_fences;
	uint32_t fence_slot;
	uint64_t fence_value;
	uint32_t group;          /* the next to be sent */
	uint64_t held;           /* bytes, of the books */
	bool may_be_called_back; /* no caller has asked for it: hbm_passage_call_back() */
	bool has_ended;
	int status;
};

/* Looks at what has ended, and goes on. */
void hbm_passage_go(struct hbm_switch *change);
/* Waits for what is in flight, and ends it with a status: 0, or all is as it was before. */
void hbm_passage_end(struct hbm_switch *change, int status);
/* If a sequence is on its way out and no caller has named it, but a watermark or
 * hbm_pool_balance() has chosen it: ends that, and waits for what is in flight. It is as before,
 * and not idle. */
void hbm_passage_call_back(struct hbm_pool *pool, const struct hbm_sequence *sequence);
/* It has ended. */
void hbm_passage_free(struct hbm_switch *change);
/* Ends it if it has not, and frees it. */
void hbm_passage_abandon(struct hbm_switch *change);
