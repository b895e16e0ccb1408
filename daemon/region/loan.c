/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/loan.h"

#include <assert.h>
#include <stdlib.h>

void borrower_init(struct borrower *borrower, struct payer *payer, struct holder *holder)
{
	*borrower = (struct borrower){.payer = payer, .holder = holder};
	list_init(&borrower->exports);
	for (size_t i = 0; i < LOAN_BUCKETS; i++)
		list_init(&borrower->loans[i]);
}

bool borrower_is_empty(const struct borrower *borrower)
{
	return borrower->count == 0;
}

/* ---- exports ---- */

static struct export *loan_free_export(struct export *export)
{
	list_remove(&export->by_lent);
	list_remove(&export->by_borrower);
	free(export);

	return NULL;
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

/* Forgets it if the session has the slabs no more, and somebody else has them, or its process is
 * gone. One of a session that has ended takes the slabs along that no one else has, at the end
 * of the last hold at the latest (replica_unhold). */
static void loan_settle_export(struct export *export, const struct borrower *borrower)
{
	struct lent *lent = export->lent;
	if (loan_export_is_used(export))
		return;

	if (!export->sent || borrower->released || !loan_export_is_alone(export))
		loan_free_export(export);
	else if (borrower->ended && lent->holds == 0)
		lend_evict(lent);
	else
		export->ended = borrower->ended; /* who holds them now ends that */
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

/* ---- the end ---- */

/* What goes with an export may let others of the session go: none is remembered meanwhile. */
void borrower_end(struct borrower *borrower)
{
	struct list all = LIST_INIT(all);

	borrower->ended = true;
	for (struct list *node; (node = list_pop_front(&borrower->exports));)
		list_push_back(&all, node);
	for (struct list *node; (node = list_pop_front(&all));) {
		list_push_back(&borrower->exports, node);
		loan_settle_export(container_of(node, struct export, by_borrower), borrower);
	}
}

void borrower_release(struct borrower *borrower)
{
	borrower->ended = borrower->released = true;
	for (size_t i = 0; i < LOAN_BUCKETS; i++)
		while (!list_empty(&borrower->loans[i]))
			loan_free(container_of(borrower->loans[i].next, struct loan, by_borrower));

	list_for_each_safe (node, after, &borrower->exports) {
		struct export *export = container_of(node, struct export, by_borrower);
		if (!loan_export_is_used(export))
			loan_free_export(export);
	}
}
