/* SPDX-License-Identifier: Apache-2.0 */
/* slab_check: adds up a pool's slabs, some at a time (tally.h), and compares with what it
 * counts. */
#include "daemon/region/slab.h"

#include "daemon/region/slab_pool.h"
#include "daemon/region/slot_recount.h"

void slabs_check_begin(struct slabs *slabs)
{
	tally_begin(&slabs->ready);
	tally_begin(&slabs->placed);
	slabs->slots = 0;
	tally_begin(&slabs->lost);
	held_check_begin(&slabs->held);
	slot_recount_begin(&slabs->recount);
}

/* Passes at most `max` slabs; how many more it might have been. */
static uint32_t slab_check_pass(struct tally *tally, uint32_t max)
{
	for (; max > 0 && !tally_is_over(tally); max--) {
		struct slab *slab = container_of(tally->next, struct slab, link);

		tally_pass(tally, &slab->mark, slab->bytes);
	}

	return max;
}

/* The same for those that back slots, whose slots are counted, too. */
static uint32_t slab_check_pass_placed(struct slabs *slabs, uint32_t max)
{
	for (; max > 0 && !tally_is_over(&slabs->placed); max--) {
		struct slab *slab = container_of(slabs->placed.next, struct slab, link);

		slabs->slots += slab->slots * slab->bytes;
		tally_pass(&slabs->placed, &slab->mark, slab->bytes);
	}

	return max;
}

bool slabs_check_some(struct slabs *slabs, uint32_t max)
{
	max = slab_check_pass(&slabs->ready, max);
	max = slab_check_pass_placed(slabs, max);
	max = slab_check_pass(&slabs->lost, max);

	return slot_recount_some(&slabs->recount, max) || held_check_some(&slabs->held, max) ||
	       !tally_is_over(&slabs->ready) || !tally_is_over(&slabs->placed) ||
	       !tally_is_over(&slabs->lost);
}

static const char *slab_check_promises(const struct slabs *slabs)
{
	const struct slabs_books *books = &slabs->books;
	const char *fault = promises_check(&slabs->promises);
	if (fault)
		return fault;

	if (slabs->releasing > books->retiring)
		return "more is being released that was never handed out than in all";
	if (slabs->promises.used != books->leased + books->quarantined - slabs->lost.sum +
					    books->retiring - slabs->releasing + books->held)
		return "what the sessions use is not what the pool has out";
	if (slabs->promises.promised > slab_free_bytes(slabs) + slabs->lost.sum)
		return "more is promised than is free";

	return NULL;
}

const char *slabs_check_end(const struct slabs *slabs)
{
	const struct slabs_books *books = &slabs->books;
	uint64_t making = slabs->making ? slabs->making->bytes : 0;

	if (books->leased + books->quarantined + books->retiring + books->ready + books->uncreated +
		    books->held !=
	    books->budget)
		return "leased, quarantined, retiring, ready, uncreated and held do not add up to "
		       "the budget";
	if (books->held != slabs->held.bytes)
		return "the held bytes are counted twice, differently";
	if (slabs->ready.sum + making != books->ready)
		return "the ready slabs do not add up";
	if (slabs->lost.sum > books->quarantined)
		return "more bytes are lost than quarantined";
	if (slabs->placed.sum + slabs->lost.sum + slabs->unplaced !=
	    books->leased + books->quarantined)
		return "the slabs of regions do not add up";

	const char *fault = held_check_end(&slabs->held);

	return fault ? fault : slab_check_promises(slabs);
}

struct slot_recount *slabs_slots(struct slabs *slabs)
{
	return &slabs->recount;
}

uint64_t slabs_check_slots(const struct slabs *slabs)
{
	return slabs->slots;
}

const char *slabs_check(struct slabs *slabs)
{
	slabs_check_begin(slabs);
	(void)slabs_check_some(slabs, UINT32_MAX);

	return slabs_check_end(slabs);
}
