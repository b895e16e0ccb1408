/* SPDX-License-Identifier: Apache-2.0 */
/* lend_check: counts again what a device lends, some slabs at a time (tally.h), and compares
 * with what it counts. */
#include "daemon/region/lend.h"

void lend_check_begin(struct lend *lend)
{
	tally_begin(&lend->all);
	lend->fault = NULL;
}

/* Of one replica: its loans and slots are its holds, but for those of requests. */
static const char *lend_check_replica(const struct replica *replica, const struct lent *lent,
				      uint32_t cell)
{
	if (replica->lent != lent || replica->cell != cell)
		return "a replica is not where its slab has it";
	if (replica->loan_count + replica->slots > replica->holds)
		return "a replica has more loans and slots than holds";
	if (replica->number == 0 && replica->holds == 0)
		return "a replica that no request finds is kept";

	return NULL;
}

static const char *lend_check_lent(const struct lent *lent)
{
	uint64_t holds = 0;
	uint32_t used = 0, live = 0;
	const char *fault = NULL;

	for (uint32_t i = 0; i < lent->cell_count && !fault; i++) {
		const struct replica *replica = lent->cells[i];
		if (!replica)
			continue;

		used++;
		live += replica->number != 0;
		holds += replica->holds;
		fault = lend_check_replica(replica, lent, i);
	}

	if (fault)
		return fault;
	if (used != lent->used || live != lent->live || holds != lent->holds)
		return "the replicas of lent slabs do not add up";
	if ((holds == 0) == list_empty(&lent->idle))
		return "lent slabs are idle that are held, or the reverse";
	if (lent->charge.amount != lent_bytes(lent))
		return "lent slabs are not charged to their user";

	return NULL;
}

static const char *lend_check_slabs(const struct lent *lent)
{
	for (uint32_t i = 0; i < lent->slab_count && lent->state == LENT_OPEN; i++)
		if (lent->slabs[i]->refs == 0 || lent->slabs[i]->bytes != lent->slab_bytes)
			return "lent slabs without a reference";

	return NULL;
}

bool lend_check_some(struct lend *lend, uint32_t max)
{
	for (uint32_t passed = 0; passed < max && !tally_is_over(&lend->all);) {
		struct lent *lent = container_of(lend->all.next, struct lent, link);

		passed += lent->cell_count + lent->slab_count;

		if (!lend->fault)
			lend->fault = lend_check_lent(lent);
		if (!lend->fault)
			lend->fault = lend_check_slabs(lent);
		tally_pass(&lend->all, &lent->mark, lent_bytes(lent));
	}

	return !tally_is_over(&lend->all);
}

const char *lend_check_end(const struct lend *lend)
{
	if (lend->fault)
		return lend->fault;
	if (lend->bytes > lend->budget)
		return "more bytes are lent than may be";
	if (lend->busy > lend->bytes)
		return "more lent bytes are held than there are";

	return lend->all.sum == lend->bytes ? NULL : "the lent slabs do not add up";
}
