/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain: the contents of a save in the cache: a chain of blocks, so that the last are evicted
 * first and removing the first removes all.
 */
#pragma once

#include "client/sequence/archive.h"
#include "client/sequence/reshape.h"

struct hbm_sequence;

/* A save that is stored or loaded. */
struct chain {
	struct archive *archive; /* with a landing */
	const char *name;
	uint64_t save;
	uint64_t first, tokens; /* of what was saved: tokens [first, tokens) */
	uint64_t least;         /* fewer tokens are of no use: of states, or of windows */
	uint64_t slid;          /* as of struct slice */
};

/* Tokens [begin, end) of it, counted from its first one, that a sequence has already. */
struct chain_gap {
	uint64_t begin, end;
};

/* Asked before each request; true: no more of them. */
typedef bool chain_stop(void *arg);

uint64_t hbm_chain_count(const struct chain *chain);
/* How many of the leading tokens so many leading pieces are: 0 if these are of no use. */
uint64_t hbm_chain_tokens(const struct chain *chain, uint64_t count);

/* Stores what a sequence has. *done: so many pieces, whatever the status. */
int hbm_chain_store(const struct chain *chain, const struct hbm_sequence *sequence,
		    const struct hbm_save_options *options, chain_stop *stop, void *arg,
		    uint64_t *done);
/* Pins the first `count` of them, until the connection ends, or, if they are kept, until they are
 * removed by this user. HBM_NO_SPACE: they are not all there. */
int hbm_chain_pin(const struct chain *chain, uint64_t count, bool keep);
/* The other way round, for the pin of this connection. */
void hbm_chain_unpin(const struct chain *chain, uint64_t count);
/* How many leading ones are there. */
int hbm_chain_present(const struct chain *chain, uint64_t *count);
/* Loads the first `count` to a sequence that has room for them, from token `at` on, but for the
 * tokens of a gap (NULL: none), where nothing is written. *done: as many as were still there, with
 * those that are not needed. */
int hbm_chain_load(const struct chain *chain, struct hbm_sequence *sequence,
		   const struct slice *slice, uint64_t at, const struct chain_gap *gap,
		   uint64_t count, uint64_t *done);
/* Counts as a use of all of them, as a load does. */
void hbm_chain_touch(const struct chain *chain);
/* Removes them, and pins of this user. HBM_DENIED: others pin some, and all are there. */
int hbm_chain_remove(const struct chain *chain);
