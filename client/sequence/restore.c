/* SPDX-License-Identifier: Apache-2.0 */
/* restore: a saved sequence, or a slice of it, opened in a pool again. */
#include "client/sequence/close.h"
#include "client/sequence/fit.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved.h"
#include "client/sequence/sequence.h"
#include "client/sequence/window.h"

struct restore {
	struct hbm_pool *pool;
	const struct hbm_saved_space *space;
	const char *name;
	const struct hbm_slice *slice; /* NULL: all */
	uint64_t max;                  /* tokens that it may have */
	struct saved saved;
	struct slice part;
	uint64_t tokens; /* that it will have */
	bool replaced;   /* something newer has the name now */
};

/* ---- What there is ---- */

static int restore_find(struct restore *restore)
{
	struct hbm_pool *pool = restore->pool;
	struct saved *saved = &restore->saved;
	int r = hbm_saved_open(pool, restore->space, "", restore->name, saved);
	if (r == 0)
		r = hbm_fit_check(pool, pool->layout, saved->layout, restore->slice,
				  &restore->part);
	if (r == 0 && saved->present < hbm_chain_count(&saved->chain))
		r = hbm_saved_missing(saved, restore->name, &restore->replaced);
	if (r)
		return r;

	restore->tokens = hbm_chain_tokens(&saved->chain, saved->present);
	if (restore->tokens == 0 && saved->manifest.tokens > 0)
		return hbm_saved_evicted(saved, restore->name);
	if (restore->tokens > restore->max)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "%llu tokens are saved, where sequences have at most %llu",
				     (unsigned long long)restore->tokens,
				     (unsigned long long)restore->max);

	return hbm_archive_land(saved->archive);
}

/* ---- The sequence ---- */

/* It begins where the saved one did. */
static void restore_begin(struct hbm_sequence *sequence, uint64_t first)
{
	sequence->first = first;
	sequence->tokens = first;
	hbm_sequence_refresh(sequence);
}

/* In front of its windows it has memory and no tokens. */
static int restore_windows(const struct restore *restore, struct hbm_sequence *sequence)
{
	const uint64_t slid = restore->saved.chain.slid;

	sequence->before[0] = sequence->before[1] = slid;

	return hbm_window_slide(sequence);
}

static int restore_load(struct restore *restore, struct hbm_sequence *sequence, uint64_t *tokens)
{
	const struct saved *saved = &restore->saved;
	uint64_t done = 0;
	int r = hbm_chain_load(&saved->chain, sequence, &restore->part, saved->manifest.first, NULL,
			       saved->present, &done);

	*tokens = hbm_chain_tokens(&saved->chain, done);
	if (r == 0 && done < saved->present)
		r = hbm_saved_missing(saved, restore->name, &restore->replaced);
	if (r == 0 && *tokens == 0 && restore->tokens > 0)
		r = hbm_saved_evicted(saved, restore->name);

	return r;
}

/* Tokens of a sequence that was just opened. */
static int restore_fill(struct restore *restore, struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = restore->pool;
	uint64_t tokens = restore->tokens;

	hbm_pool_lock(pool);
	restore_begin(sequence, restore->saved.manifest.first);
	hbm_pool_unlock(pool);

	int r = hbm_step(pool, &sequence, &tokens, 1);
	if (r)
		return r;

	hbm_pool_lock(pool);
	r = restore_load(restore, sequence, &tokens);
	if (r == 0)
		r = restore_windows(restore, sequence);
	hbm_pool_unlock(pool);

	return r == 0 && tokens < restore->tokens ? hbm_sequence_truncate(sequence, tokens) : r;
}

static int restore_open(struct restore *restore, const struct hbm_sequence_options *options,
			struct hbm_sequence **out)
{
	struct hbm_sequence *sequence;
	int r = hbm_sequence_open(restore->pool, options, &sequence);

	if (r)
		return r;

	r = restore_fill(restore, sequence);
	if (r)
		return hbm_sequence_abandon(sequence, r);

	*out = sequence;

	return 0;
}

static int restore_try(struct restore *restore, const struct hbm_sequence_options *options,
		       struct hbm_sequence **out)
{
	struct hbm_pool *pool = restore->pool;

	hbm_pool_lock(pool);
	int r = restore_find(restore);
	hbm_pool_unlock(pool);

	if (r == 0)
		r = restore_open(restore, options, out);

	hbm_pool_lock(pool);
	hbm_saved_close(&restore->saved);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_sequence_restore_slice(struct hbm_pool *pool, const struct hbm_saved_space *space,
			       const char *name, const struct hbm_slice *slice,
			       const struct hbm_sequence_options *options,
			       struct hbm_sequence **out)
{
	const uint64_t max = options && options->max ? options->max : pool->max_tokens;
	int r = HBM_NOT_FOUND;

	for (int i = 0; i < SAVED_TRIES; i++) {
		struct restore restore = {
			.pool = pool, .space = space, .name = name, .slice = slice, .max = max};

		r = restore_try(&restore, options, out);
		if (!restore.replaced)
			return r;
	}

	return r;
}

int hbm_sequence_restore(struct hbm_pool *pool, const struct hbm_saved_space *space,
			 const char *name, const struct hbm_sequence_options *options,
			 struct hbm_sequence **out)
{
	return hbm_sequence_restore_slice(pool, space, name, NULL, options, out);
}
