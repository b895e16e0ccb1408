/* SPDX-License-Identifier: Apache-2.0 */
/*
 * variant: the whole slabs of a module where it lies at some position of a sequence, as blocks
 * of the cache, so that other sequences map them instead of copying the module's pieces.
 *
 * Blocks have as many tokens as are whole slabs in all buffers, and begin where such a number
 * of tokens of the sequence does. So at another position a module can be cut at other tokens:
 * it has a variant for each lead, its tokens in front of the first block, which are fewer than
 * those of a block.
 *
 * Variants are beside what is saved: who puts a module, or maps one whose slabs are not there,
 * lends those of its sequence. They can be evicted, and nothing is lost with them. Of each schema
 * and layout they are in a namespace of their own. Their keys are made of the module's name, of
 * the random number of its save, so that each version has its own, of the lead, and of the
 * number of the block.
 */
#pragma once

#include "client/sequence/borrowing.h"
#include "client/sequence/chain.h"

#include <hbm/sequence.h>

/* Of a module that is, or will be, some tokens of a sequence. */
struct variant {
	struct hbm_token_blocks
		blocks; /* of the sequence: those from `first` on are the variant's */
	hbm_key *keys;  /* blocks.keys */
	size_t first;   /* blocks.count: it has none */
	struct borrowing borrowing;
	size_t missing; /* the first that the cache does not have */
};

/* Of a module with that chain at token `at`, with the namespace, which the pool keeps open. Where
 * none can be, it has no blocks. -ENOMEM. Closed by hbm_variant_close(), also after that. */
int hbm_variant_open(struct variant *variant, struct hbm_sequence *sequence,
		     const struct chain *chain, uint64_t at);
void hbm_variant_close(struct variant *variant);
/* Borrows its leading blocks, as far as the daemon lends them. */
void hbm_variant_borrow(struct variant *variant);
/* Maps them in a sequence that has all tokens in front of them. 0, or a negative errno. */
int hbm_variant_map(struct variant *variant);
/* The tokens of the sequence in front of those that are borrowed, and up to their end: equal,
 * if none are. */
uint64_t hbm_variant_begin(const struct variant *variant);
uint64_t hbm_variant_end(const struct variant *variant);
/* The sequence has the module now: lends those of its blocks that the cache does not have, if it
 * lends any. To a tier as of hbm_block. */
void hbm_variant_lend(struct variant *variant, enum hbm_tier tier);
/* Drops those of a save, of all leads, or of a schema, in the layout of the pool: as far as that
 * goes. */
void hbm_variants_remove(struct archive *archive, const char *name, uint64_t save, uint64_t tokens);
void hbm_variants_drop(struct archive *archive);
