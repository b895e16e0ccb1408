/* SPDX-License-Identifier: Apache-2.0 */
/* credit: see credit.h. */
#include "client/sequence/credit.h"

#include "client/layout.h"
#include "client/sequence/books.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/warm.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <time.h>

/* A reply may be handled by another thread's call: then the descriptor says nothing. */
#define CREDIT_LOOK_MS 20

static uint64_t credit_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t credit_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- For tokens ---- */

/* The most that a buffer has mapped for its window, in front of it and ahead. */
static uint64_t credit_window_bytes(const struct hbm_pool *pool, const struct hbm_buffer *buffer)
{
	const uint64_t tokens =
		buffer->window + 2 * credit_min(pool->ahead_tokens, pool->max_tokens);

	return (tokens * buffer->token_bytes / buffer->step_bytes + 2) * buffer->step_bytes;
}

uint64_t hbm_credit_bytes(const struct hbm_pool *pool, const struct hbm_layout *layout,
			  uint64_t first, uint64_t expected)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; first <= expected && i < layout->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];
		uint64_t offset, bytes;

		hbm_layout_range(layout, i, first, expected, &offset, &bytes);
		if (buffer->window && buffer->token_bytes)
			bytes = credit_min(bytes, credit_window_bytes(pool, buffer));
		sum += bytes;
	}

	return sum;
}

/* ---- The daemon ---- */

/* Credit that is to be given: whether any, and what of it is not mapped. */
struct credit_wish {
	bool is_any;
	uint64_t more;
};

static const struct credit_wish credit_none;

/* The lock is open while there is nothing to do. */
static int credit_wait(struct hbm_pool *pool, hbm_ticket ticket)
{
	int r;

	while ((r = hbm_wait(pool->hbm, ticket, 0)) == -ETIMEDOUT) {
		struct pollfd fd = {.fd = hbm_fd(pool->hbm), .events = POLLIN};

		hbm_pool_unlock(pool);
		poll(&fd, 1, CREDIT_LOOK_MS);
		hbm_pool_lock(pool);
	}

	return r;
}

static int credit_change(struct hbm_pool *pool, int64_t bytes, uint32_t timeout_ms, bool let_go)
{
	const struct hbm_reserve_change change = {.device = pool->books->device, .bytes = bytes};
	hbm_ticket ticket;
	int r = hbm_submit_reserve(pool->hbm, &change, 1, timeout_ms, &ticket);
	if (r == 0)
		r = let_go && pool->own_connection ? credit_wait(pool, ticket)
						   : hbm_wait(pool->hbm, ticket, -1);
	if (r == 0)
		pool->books->reserved += (uint64_t)bytes;

	return r;
}

/* What is not reserved and should be, if that is given. */
static uint64_t credit_lack(const struct books *books, struct credit_wish wish)
{
	const uint64_t due = hbm_books_due(books, wish.is_any) + wish.more;

	return due > books->reserved ? due - books->reserved : 0;
}

static bool credit_is_short(int status)
{
	return status == HBM_NO_SPACE || status == HBM_LIMIT;
}

/* ---- Of sequences ---- */

static uint64_t credit_mapped(const struct hbm_sequence *sequence)
{
	return sequence->slot->slabs * sequence->pool->slab;
}

/* What it is promised, and has neither mapped nor as credit. */
static uint64_t credit_missing(const struct hbm_sequence *sequence)
{
	const uint64_t has = credit_max(credit_mapped(sequence), sequence->account.credit);

	if (sequence->state != HBM_SEQUENCE_OPEN || sequence->lost)
		return 0;

	return sequence->account.promised > has ? sequence->account.promised - has : 0;
}

static struct credit_wish credit_missing_all(struct hbm_sequence *const *sequences, size_t count)
{
	struct credit_wish wish = {0};

	for (size_t i = 0; i < count; i++) {
		wish.is_any |= sequences[i]->account.promised > 0;
		wish.more += credit_missing(sequences[i]);
	}

	return wish;
}

static void credit_set(struct hbm_sequence *sequence, uint64_t credit)
{
	sequence->account.credit = credit;
	hbm_books_look(sequence->pool, &sequence->account, credit_mapped(sequence));
}

/* ---- Open ---- */

static uint64_t credit_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Reserves what is lacking now for it. */
static int credit_acquire(struct hbm_pool *pool, struct credit_wish wish)
{
	uint64_t lack = credit_lack(pool->books, wish);
	int r = lack ? credit_change(pool, (int64_t)lack, 0, false) : 0;

	if (r == HBM_NO_SPACE && hbm_warm_release(pool, (lack + pool->slab - 1) / pool->slab) > 0) {
		lack = credit_lack(pool->books, wish);
		r = lack ? credit_change(pool, (int64_t)lack, 0, false) : 0;
	}

	return r;
}

/* The daemon refused at once, though it was to wait: with so much the connection would have more
 * than the device has, so it is this pool that has to give some up. Whether another thread may:
 * the lock is open for a moment. */
static int credit_refused(struct hbm_pool *pool, uint64_t until)
{
	if (!pool->own_connection)
		return HBM_NO_SPACE;
	if (credit_now_ms() >= until)
		return HBM_TIMEOUT;

	hbm_pool_unlock(pool);
	poll(NULL, 0, CREDIT_LOOK_MS);
	hbm_pool_lock(pool);

	return 0;
}

int hbm_credit_open(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		    uint32_t timeout_ms)
{
	const uint64_t until = credit_now_ms() + timeout_ms;
	int r = credit_acquire(pool, credit_missing_all(sequences, count));
	uint64_t lack;

	/* Others commit while it waits, and then more is lacking. */
	if (r == HBM_NO_SPACE && timeout_ms > 0)
		r = 0;
	while (r == 0 &&
	       (lack = credit_lack(pool->books, credit_missing_all(sequences, count))) > 0) {
		const uint64_t now = credit_now_ms();

		r = credit_change(pool, (int64_t)lack, now < until ? (uint32_t)(until - now) : 1,
				  true);
		if (r == HBM_NO_SPACE)
			r = credit_refused(pool, until);
	}
	if (r)
		return hbm_pool_fail_call(pool, r, "memory for the expected tokens");

	for (size_t i = 0; i < count; i++)
		credit_set(sequences[i], sequences[i]->account.promised);

	return 0;
}

/* ---- Growth ---- */

/* The sequence in whose slot a slab is; NULL: in none's. */
static struct hbm_sequence *credit_payer(const struct hbm_pool *pool, const struct hbm_range *range,
					 uint64_t at)
{
	return range->region == pool->region ? pool->slots[at / pool->slot_bytes].sequence : NULL;
}

/* What pool->grow has within credit. */
static uint64_t credit_within(const struct hbm_pool *pool)
{
	uint64_t within = 0;

	for (int counts = 1; counts >= 0; counts--)
		for (size_t i = 0; i < pool->grow.count; i++) {
			const struct hbm_range *range = &pool->grow.list[i];

			for (uint64_t at = 0; at < range->bytes; at += pool->slab) {
				struct hbm_sequence *payer =
					credit_payer(pool, range, range->offset + at);

				if (payer && !counts)
					payer->account.growing = 0;
				if (payer && counts &&
				    payer->account.growing < payer->account.unused) {
					payer->account.growing += pool->slab;
					within += pool->slab;
				}
			}
		}

	return within;
}

int hbm_credit_cover(struct hbm_pool *pool)
{
	const struct books *books = pool->books;
	uint64_t due = hbm_books_due(books, false);
	if (due > 0)
		due += pool->grow.bytes - credit_within(pool);
	if (due <= books->reserved)
		return 0;

	const uint64_t lack = due - books->reserved;
	int r = credit_change(pool, (int64_t)(lack + CREDIT_CHUNK), 0, false);
	if (credit_is_short(r))
		r = credit_change(pool, (int64_t)lack, 0, false);

	return r;
}

/* ---- What is shared ---- */

static uint64_t credit_cut(struct hbm_sequence *sequence, uint64_t bytes)
{
	const uint64_t cut = credit_min(sequence->account.unused, bytes);

	if (cut > 0)
		credit_set(sequence, sequence->account.credit - cut);

	return cut;
}

void hbm_credit_spend(struct hbm_sequence *sequence, uint64_t bytes)
{
	credit_cut(sequence, bytes);
}

/* As far as what is reserved goes. */
static void credit_raise(struct hbm_sequence *sequence)
{
	const struct books *books = sequence->pool->books;
	const uint64_t taken = books->committed + books->promised + books->held;
	const uint64_t missing = credit_missing(sequence);
	const uint64_t more =
		taken < books->reserved ? credit_min(missing, books->reserved - taken) : 0;

	if (more > 0)
		credit_set(sequence,
			   credit_max(credit_mapped(sequence), sequence->account.credit) + more);
}

/* The daemon has no more: what lacks is not promised any more. */
static void credit_cut_all(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			   size_t count)
{
	for (size_t i = 0; i < count; i++)
		credit_cut(sequences[i], credit_lack(pool->books, credit_none));
}

int hbm_credit_mend(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	uint64_t lack = credit_lack(pool->books, credit_missing_all(sequences, count));
	int r = lack ? credit_change(pool, (int64_t)lack, 0, false) : 0;

	if (credit_is_short(r) && (lack = credit_lack(pool->books, credit_none)) > 0) {
		r = credit_change(pool, (int64_t)lack, 0, false);
		if (credit_is_short(r))
			credit_cut_all(pool, sequences, count);
	}
	for (size_t i = 0; i < count; i++)
		credit_raise(sequences[i]);

	return r < 0 ? r : 0;
}

/* ---- What is over ---- */

void hbm_credit_lessen(struct hbm_sequence *sequence)
{
	const uint64_t bytes = hbm_credit_bytes(sequence->pool, hbm_sequence_layout(sequence),
						sequence->first, sequence->expected);

	sequence->account.promised = credit_min(sequence->account.promised, bytes);
	credit_set(sequence, credit_min(sequence->account.credit, bytes));
}

static int credit_return(struct hbm_pool *pool)
{
	const struct books *books = pool->books;
	const uint64_t due = hbm_books_due(books, false);
	int r = books->reserved > due
			? credit_change(pool, -(int64_t)(books->reserved - due), 0, false)
			: 0;

	return r < 0 ? r : 0;
}

int hbm_credit_settle(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	int r = hbm_credit_mend(pool, sequences, count);

	return r ? r : credit_return(pool);
}

int hbm_credit_leave(struct hbm_pool *pool)
{
	list_for_each (node, &pool->open)
		credit_set(container_of(node, struct hbm_sequence, link), 0);
	hbm_books_empty(pool);

	/* A connection that ends has nothing reserved. */
	int r = pool->own_connection ? 0 : credit_return(pool);

	hbm_books_leave(pool);

	return r;
}

/* ---- Switches ---- */

/* To undo it takes what those that go out may still have; to end it, what those that come in
 * are to have, beyond what the others leave. */
int hbm_credit_hold(struct hbm_pool *pool, struct hbm_sequence *const *out, size_t out_count,
		    struct hbm_sequence *const *in, size_t in_count, uint64_t *held)
{
	uint64_t credit = 0, unused = 0, leaving = 0, promised = 0, coming = 0;

	for (size_t i = 0; i < out_count; i++) {
		credit += out[i]->account.credit;
		unused += out[i]->account.unused;
	}
	for (size_t i = 0; i < in_count; i++) {
		promised += in[i]->account.promised;
		coming += credit_max(in[i]->account.promised, in[i]->stash.count * pool->slab);
	}
	if (credit + promised == 0)
		return 0;

	for (size_t i = 0; i < out_count; i++) {
		leaving += hbm_slot_owned_bytes(pool, out[i]->slot);
		credit_set(out[i], 0);
	}
	*held = credit_max(unused, coming > leaving ? coming - leaving : 0);
	pool->books->held += *held;

	int r = credit_acquire(pool, credit_none);

	return r ? hbm_pool_fail_call(pool, r, "memory for the expected tokens") : 0;
}

void hbm_credit_unhold(struct hbm_pool *pool, uint64_t *held, uint64_t bytes)
{
	const uint64_t less = credit_min(*held, bytes);

	*held -= less;
	pool->books->held -= less;
}
