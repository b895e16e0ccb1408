/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credit: memory that the daemon promises to a sequence for the tokens that it is expected to
 * get, before it needs it. It is the sequence's own: what others of the pool, or of other
 * pools of the connection, have beyond theirs is reserved first (books.h), so that it never is
 * what this one was promised.
 *
 * Of a sequence there are
 *
 * 	promised	bytes for the expected tokens, as it was opened, or has kept less
 * 	credit		of them, what it may have: all, but while it is suspended, and where
 * 			copies of shared slabs have taken some
 * 	unused		of these, what it can still have: the rest is mapped in its slot
 *
 * Who pays:
 *
 * A slab of several slots is paid for once. Each of their sequences has it, so none of them
 * needs credit for it any more. Forks are promised nothing: what they commit, their last
 * slabs to begin with, is beyond credit. When one of the sequences gives the slab up, which
 * others keep, it needs a new one to get as far again, so more is reserved for it.
 *
 * The copy of a shared slab that is written is paid for by who writes, with credit that it has
 * not used, else beyond it. Afterwards as much is reserved for it again.
 *
 * In both cases, should the daemon have no more, the sequence is promised so much less. So
 * only what a sequence shares itself can lessen what it is promised, never what others do.
 *
 * What is borrowed from the cache costs nothing, and needs no credit. Lent slabs that a sequence
 * gives up are promised to it again, though the daemon has them as used by the connection until
 * there is other memory for that or the cache drops them, which it does when they are wanted and
 * they are on loan to no one (daemon/region/promise.h).
 *
 * Warm slabs are committed, and no sequence's. One that is opened in their slot has them, and
 * is promised the rest.
 *
 * What is beyond credit is reserved CREDIT_CHUNK bytes ahead, for all sequences of the
 * connection, and returned when one of them is closed, cut or suspended.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hbm_layout;
struct hbm_pool;
struct hbm_sequence;

#define CREDIT_CHUNK (32ull << 20)

/* What tokens [first, expected) of a sequence need at most at a time. Of layers with a window:
 * as long as no step has more tokens than half of those that are mapped ahead. */
uint64_t hbm_credit_bytes(const struct hbm_pool *pool, const struct hbm_layout *layout,
			  uint64_t first, uint64_t expected);
/* Gives sequences that were just started the credit for what they are promised, all or none.
 * Waits for it at most timeout_ms, after who asked before. Warm slabs go first. The lock is
 * held, and let go of while it waits. */
int hbm_credit_open(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		    uint32_t timeout_ms);
/* Reserves what pool->grow takes beyond the credit of the sequences in whose slots it is, as
 * long as any has some. */
int hbm_credit_cover(struct hbm_pool *pool);
/* A copy of so many bytes is made on credit of the sequence, as far as it has some. */
void hbm_credit_spend(struct hbm_sequence *sequence, uint64_t bytes);
/* It needs less for its expected tokens, by its layout or as it was slid, and is promised less. */
void hbm_credit_lessen(struct hbm_sequence *sequence);
/* After slabs were unmapped that others keep, or copied: sequences have the credit again that
 * they are promised, as far as the daemon has it. 0, or negative errno. */
int hbm_credit_mend(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
/* The same, and what is promised to none is returned. */
int hbm_credit_settle(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
/* For a switch: gives `out` no credit any more, and holds what is needed to suspend them and to
 * resume `in`, or to undo that: *held. Warm slabs go first. */
int hbm_credit_hold(struct hbm_pool *pool, struct hbm_sequence *const *out, size_t out_count,
		    struct hbm_sequence *const *in, size_t in_count, uint64_t *held);
/* So much of it, or all, is committed now, or not held any more. */
void hbm_credit_unhold(struct hbm_pool *pool, uint64_t *held, uint64_t bytes);
/* The pool has no sequences and no slabs any more. */
int hbm_credit_leave(struct hbm_pool *pool);
