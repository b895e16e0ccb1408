/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally: a list whose elements are added up again in steps, while elements come at its end
 * and go. What has been passed and goes is subtracted, so that the sum is that of the list
 * whenever nothing is left to be passed. Each element has a mark: the round in which it was
 * passed last.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct tally {
	struct list list;
	struct list *next; /* the first that has not been passed; the list itself: none */
	uint32_t round;
	uint64_t sum; /* of those that have been passed */
};

static inline void tally_init(struct tally *tally)
{
	list_init(&tally->list);
	tally->next = &tally->list;
	tally->round = 0;
	tally->sum = 0;
}

static inline void tally_push(struct tally *tally, struct list *node, uint32_t *mark)
{
	*mark = tally->round - 1;
	list_push_back(&tally->list, node);
	if (tally->next == &tally->list)
		tally->next = node;
}

static inline void tally_remove(struct tally *tally, struct list *node, uint32_t mark,
				uint64_t amount)
{
	if (tally->next == node)
		tally->next = node->next;
	if (mark == tally->round)
		tally->sum -= amount;

	list_remove(node);
}

/* Begins again with the first. */
static inline void tally_begin(struct tally *tally)
{
	tally->next = tally->list.next;
	tally->round++;
	tally->sum = 0;
}

static inline bool tally_is_over(const struct tally *tally)
{
	return tally->next == &tally->list;
}

/* Passes the next, whose mark and amount these are. */
static inline void tally_pass(struct tally *tally, uint32_t *mark, uint64_t amount)
{
	*mark = tally->round;
	tally->sum += amount;
	tally->next = tally->next->next;
}
