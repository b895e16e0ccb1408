/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/loan.h"

#include <assert.h>
#include <stdlib.h>

void borrower_init(struct borrower *borrower, struct payer *payer, struct holder *holder)
{
	*borrower = (struct borrower){.payer = payer, .holder = holder};
	list_init(&borrower->exports);
	list_init(&borrower->settling);
	for (size_t i = 0; i < LOAN_BUCKETS; i++)
		list_init(&borrower->loans[i]);
}

bool borrower_is_empty(const struct borrower *borrower)
{
	return borrower->count == 0 && !borrower->works;
}

/* ---- exports ---- */

/* Whose session has ended may go with it. */
static void loan_free_export(struct export *export)
{
	struct holder *kept = export->ended ? export->holder : NULL;

	list_remove(&export->by_lent);
	list_remove(&export->by_borrower);
	free(export);
	if (kept)
		holder_let_go(kept);
}

/* Its session has ended, and stays until that is forgotten or charged to it. */
static void loan_end_export(struct export *export)
{
	if (!export->ended)
		holder_keep(export->holder);
	export->ended = true;
}

/* Whether the session has the descriptors. */
static bool loan_export_is_known(const struct export *export)
{
	return export->loans + export->named > 0;
}

static bool loan_export_is_alone(const struct export *export)
{
	const struct list *list = &export->lent->exports;

	return list->next == &export->by_lent && list->prev == &export->by_lent;
}

static bool loan_export_is_used(const struct export *export)
{
	return export->loans + export->slots + export->replies > 0;
}

/* Whether regions of sessions that live have some of the slabs as their own. */
static bool loan_is_of_regions(const struct lent *lent)
{
	for (uint32_t i = 0; lent->adopted && i < lent->slab_count; i++)
		if (lent->slabs[i]->slots > lent->slabs[i]->quarantined)
			return true;

	return false;
}

/* Forgets it if the session has the slabs no more, and somebody else has them, or its process is
 * gone. One of a session that has ended takes the slabs along that no one else has, at the end
 * of the last hold at the latest (replica_unhold). */
static void loan_settle_export(struct export *export, const struct borrower *borrower)
{
	struct lent *lent = export->lent;
	if (loan_export_is_used(export))
		return;

	if (!export->sent || !loan_export_is_alone(export) || borrower->released ||
	    (borrower->ended && loan_is_of_regions(lent))) {
		loan_free_export(export);
	} else if (borrower->ended) {
		loan_end_export(export); /* who holds or reads them now ends that */
		if (lent->holds == 0)
			lend_evict(lent);
	}
}

static struct export *loan_find_export(const struct borrower *borrower, const struct lent *lent)
{
	list_for_each (node, &lent->exports) {
		struct export *export = container_of(node, struct export, by_lent);
		if (export->holder == borrower->holder)
			return export;
	}

	return NULL;
}

static struct export *loan_new_export(struct borrower *borrower, struct lent *lent)
{
	struct export *export = calloc(1, sizeof(*export));
	if (!export)
		return NULL;

	export->lent = lent;
	export->holder = borrower->holder;
	list_push_back(&lent->exports, &export->by_lent);
	list_push_back(&borrower->exports, &export->by_borrower);

	return export;
}

struct export *export_begin(struct borrower *borrower, struct lent *lent, bool *named)
{
	struct export *export = loan_find_export(borrower, lent);
	if (!export)
		export = loan_new_export(borrower, lent);
	if (!export)
		return NULL;

	*named = loan_export_is_known(export);
	export->replies++;
	export->named += *named;

	return export;
}

void export_end(struct export *export, const struct borrower *borrower, bool named)
{
	assert(export->replies > 0 && export->named >= named);

	export->replies--;
	export->named -= named;
	loan_settle_export(export, borrower);
}

bool borrower_owns(struct borrower *borrower, struct lent *lent)
{
	struct export *export = loan_new_export(borrower, lent);
	if (!export)
		return false;

	export->sent = true;

	return true;
}

/* Those before it have the slabs no more, and are charged no more. */
static void loan_take_over(struct export *export)
{
	list_for_each_safe (node, after, &export->lent->exports) {
		struct export *other = container_of(node, struct export, by_lent);
		if (other != export && !loan_export_is_used(other))
			loan_free_export(other);
	}
}

/* Slabs that back slots are those of one replica: their only one. */
static struct replica *loan_replica_of(const struct slab *slab)
{
	assert(slab->lent && slab->lent->cell_count == 1 && slab->lent->cells[0]);

	return slab->lent->cells[0];
}

void export_hold(struct borrower *borrower, const struct slab *slab)
{
	struct export *export = loan_find_export(borrower, slab->lent);
	struct replica *replica = loan_replica_of(slab);
	struct lend *lend = slab->lent->lend;

	assert(export);
	export->slots++;
	replica->slots++;
	lend->in_slots += slab->bytes;
	replica_hold(replica);
}

void export_unhold(struct borrower *borrower, const struct slab *slab)
{
	struct export *export = loan_find_export(borrower, slab->lent);
	struct replica *replica = loan_replica_of(slab);
	struct lend *lend = slab->lent->lend;

	assert(export && export->slots > 0 && replica->slots > 0);
	export->slots--;
	replica->slots--;
	lend->in_slots -= slab->bytes;
	loan_settle_export(export, borrower);
	replica_unhold(replica);
}

/* ---- loans ---- */

static struct list *loan_bucket(const struct borrower *borrower, uint64_t id)
{
	return (struct list *)&borrower->loans[id % LOAN_BUCKETS];
}

int loan_new(struct loan **out, struct borrower *borrower)
{
	struct loan *loan = calloc(1, sizeof(*loan));
	if (!loan)
		return HBM_NO_SPACE;

	list_init(&loan->by_borrower);
	list_init(&loan->by_replica);
	loan->borrower = borrower;
	if (ledger_charge(&loan->charge, borrower->payer, LEDGER_LOANS, 1) != HBM_OK) {
		free(loan);
		return HBM_LIMIT;
	}

	*out = loan;

	return HBM_OK;
}

void loan_make(struct loan *loan, struct replica *replica, struct export *export)
{
	struct borrower *borrower = loan->borrower;
	struct lend *lend = replica->lent->lend;

	replica_hold(replica);
	loan->replica = replica;
	loan->export = export;
	loan->id = ++borrower->last_id;
	export->loans++;
	export->sent = true;
	loan_take_over(export);
	list_push_back(loan_bucket(borrower, loan->id), &loan->by_borrower);
	list_push_back(&replica->loans, &loan->by_replica);
	replica->loan_count++;
	borrower->count++;
	borrower->bytes += replica_bytes(replica);
	lend->loans++;
}

/* The replica may go, and with it all that is known of its slabs: it comes last. */
static void loan_return(struct loan *loan)
{
	struct borrower *borrower = loan->borrower;
	struct replica *replica = loan->replica;
	struct lend *lend = replica->lent->lend;

	list_remove(&loan->by_borrower);
	list_remove(&loan->by_replica);
	replica->loan_count--;
	borrower->count--;
	borrower->bytes -= replica_bytes(replica);
	lend->loans--;

	loan->export->loans--;
	loan_settle_export(loan->export, borrower);
	replica_unhold(replica);
}

struct loan *loan_free(struct loan *loan)
{
	if (!loan)
		return NULL;

	ledger_release(&loan->charge);
	if (loan->replica)
		loan_return(loan);
	free(loan);

	return NULL;
}

struct loan *loan_find(const struct borrower *borrower, uint64_t id)
{
	list_for_each (node, loan_bucket(borrower, id)) {
		struct loan *loan = container_of(node, struct loan, by_borrower);
		if (loan->id == id)
			return loan;
	}

	return NULL;
}

bool loan_is_earlier(const struct borrower *borrower, uint64_t id)
{
	return id > 0 && id <= borrower->earlier;
}

void borrower_go_on(struct borrower *borrower, uint64_t last_id)
{
	borrower->last_id = borrower->earlier = last_id;
}

/* ---- the end ---- */

/* What it takes along at most if it is settled now. */
static uint32_t loan_settling_units(const struct export *export)
{
	return loan_export_is_used(export) ? 1 : 1 + export->lent->used + export->lent->slab_count;
}

/* What goes with one may let others go. */
static uint32_t loan_settle_some(struct borrower *borrower, uint32_t max)
{
	uint32_t units = 0;

	while (units < max && !list_empty(&borrower->settling)) {
		struct list *node = list_pop_front(&borrower->settling);
		struct export *export = container_of(node, struct export, by_borrower);

		units += loan_settling_units(export);
		list_push_back(&borrower->exports, node);
		loan_settle_export(export, borrower);
	}

	return units;
}

static void loan_return_some(struct borrower *borrower, uint32_t max)
{
	for (size_t i = 0; i < LOAN_BUCKETS && max > 0; i++)
		for (; max > 0 && !list_empty(&borrower->loans[i]); max--)
			loan_free(container_of(borrower->loans[i].next, struct loan, by_borrower));
}

static bool loan_has_work(const struct borrower *borrower)
{
	return !list_empty(&borrower->settling) || (borrower->released && borrower->count > 0);
}

static bool loan_work_some(struct borrower *borrower)
{
	uint32_t units = loan_settle_some(borrower, BORROWER_SLICE);

	if (borrower->released && units < BORROWER_SLICE)
		loan_return_some(borrower, BORROWER_SLICE - units);

	return loan_has_work(borrower);
}

static bool loan_work(struct background *background)
{
	struct borrower *borrower = container_of(background, struct borrower, work);
	if (loan_work_some(borrower))
		return true;

	borrower->works = false;
	if (borrower->settled)
		borrower->settled(borrower);

	return false;
}

/* Of a device that it has something of. */
static struct loop *loan_loop(const struct borrower *borrower)
{
	const struct lent *lent = NULL;

	if (!list_empty(&borrower->settling))
		lent = container_of(borrower->settling.next, struct export, by_borrower)->lent;
	for (size_t i = 0; i < LOAN_BUCKETS && !lent; i++)
		if (!list_empty(&borrower->loans[i]))
			lent = container_of(borrower->loans[i].next, struct loan, by_borrower)
				       ->replica->lent;

	return ((const struct lend *)lent->lend)->loop;
}

/* A slice now, the rest in the background. */
static void loan_begin_work(struct borrower *borrower)
{
	borrower->work.run = loan_work;
	borrower->works = loan_work_some(borrower);
	if (borrower->works)
		loop_background(loan_loop(borrower), &borrower->work);
	else
		loop_background_stop(&borrower->work);
}

/* All exports are to be looked at, again. */
static void loan_settle_all(struct borrower *borrower)
{
	struct list *exports = &borrower->exports, *settling = &borrower->settling;
	if (list_empty(exports))
		return;

	exports->next->prev = settling->prev;
	settling->prev->next = exports->next;
	exports->prev->next = settling;
	settling->prev = exports->prev;
	list_init(exports);
}

void borrower_end(struct borrower *borrower)
{
	borrower->ended = true;
	loan_settle_all(borrower);
	loan_begin_work(borrower);
}

void borrower_release(struct borrower *borrower)
{
	borrower->ended = borrower->released = true;
	loan_settle_all(borrower);
	loan_begin_work(borrower);
}
