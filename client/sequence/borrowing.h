/* SPDX-License-Identifier: Apache-2.0 */
/*
 * borrowing: blocks of tokens (blocks.h) on their way to a sequence without a copy: they are
 * borrowed, and their slabs are mapped where the sequence has, or will have, these tokens. The
 * mapped slabs keep what is borrowed, so the loans are returned at once.
 *
 * 	open -> borrow -> map -> close
 *
 * Nothing is wrong where a block is not borrowed: it is copied there instead, by the caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct hbm_loan;
struct hbm_sequence;
struct hbm_token_blocks;

struct borrowing {
	struct hbm_sequence *sequence;
	const struct hbm_token_blocks *blocks;
	size_t first, end;       /* of the blocks: those that are wanted, and not found missing */
	bool is_lent;            /* the daemon lends blocks, whether or not it has these */
	struct hbm_loan **loans; /* of each block; NULL: it is not borrowed */
};

/* Of blocks [first, end). False: no memory. */
bool hbm_borrowing_open(struct borrowing *borrowing, struct hbm_sequence *sequence,
			const struct hbm_token_blocks *blocks, size_t first, size_t end);
/* Borrows those from the first on that are whole slabs; `end` becomes that of the first that the
 * cache does not have. 0, also if the daemon lends none of them; or why the call failed, with
 * the pool's line. */
int hbm_borrowing_borrow(struct borrowing *borrowing);
/* Maps what is borrowed, in place of what the slot has there. */
int hbm_borrowing_map(struct borrowing *borrowing);
/* Returns the loans: what is mapped stays. */
void hbm_borrowing_close(struct borrowing *borrowing);
