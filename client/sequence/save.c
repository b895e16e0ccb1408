/* SPDX-License-Identifier: Apache-2.0 */
/* save: sequences saved by name, the most valuable first, as far as the time allows. */
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/saved.h"
#include "client/sequence/saving.h"
#include "client/sequence/sequence.h"

#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Time ---- */

struct limit {
	const struct hbm_save_options *options;
	uint64_t deadline; /* of save_now(); 0: none */
	bool passed;
};

static uint64_t save_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool save_is_over(void *arg)
{
	struct limit *limit = arg;
	const struct hbm_save_options *options = limit->options;

	if (!limit->passed && limit->deadline && save_now() >= limit->deadline)
		limit->passed = true;
	if (!limit->passed && options->stop && options->stop(options->stop_arg))
		limit->passed = true;

	return limit->passed;
}

/* One that is later than the clock goes is none. */
static uint64_t save_deadline(uint64_t us)
{
	uint64_t ns, deadline;

	return us > 0 && checked_mul(us, 1000, &ns) && checked_add(save_now(), ns, &deadline)
		       ? deadline
		       : 0;
}

static struct limit save_limit(const struct hbm_save_options *options)
{
	return (struct limit){
		.options = options,
		.deadline = save_deadline(options->deadline_us),
	};
}

/* ---- Order ---- */

struct order {
	const struct hbm_save *save;
	size_t index;
};

static int save_by_name(const void *a, const void *b)
{
	return strcmp(((const struct order *)a)->save->name, ((const struct order *)b)->save->name);
}

/* The highest priority first; of equals, as they were given. */
static int save_by_value(const void *a, const void *b)
{
	const struct order *x = a, *y = b;
	const int32_t p = x->save->sequence->priority, q = y->save->sequence->priority;

	if (p != q)
		return p > q ? -1 : 1;

	return x->index < y->index ? -1 : x->index > y->index;
}

static int save_check_names(struct hbm_pool *pool, struct order *order, size_t count)
{
	qsort(order, count, sizeof(*order), save_by_name);
	for (size_t i = 1; i < count; i++)
		if (save_by_name(&order[i - 1], &order[i]) == 0)
			return hbm_pool_fail(pool, HBM_INVALID,
					     "two sequences by the name \"%s\" in one call",
					     order[i].save->name);

	return 0;
}

static int save_check(struct hbm_pool *pool, const struct hbm_save *saves, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = hbm_sequence_check(pool, saves[i].sequence);
		if (r == 0)
			r = hbm_saved_check_name(pool, saves[i].name);
		if (r == 0)
			r = hbm_manifest_check_room(pool, saves[i].sequence);
	}

	return r;
}

/* ---- Save ---- */

static int save_one(struct archive *archive, const struct hbm_save *save,
		    const struct hbm_save_options *options, struct limit *limit, uint64_t *saved)
{
	struct hbm_sequence *sequence = save->sequence;
	const struct saving saving = {
		.archive = archive,
		.options = options,
		.name = save->name,
		.sequence = sequence,
		.first = sequence->first,
		.tokens = sequence->tokens,
		.committed = save->committed,
		.stop = save_is_over,
		.arg = limit,
	};
	struct chain chain;
	int r = hbm_prefix_map(sequence);

	if (r == 0)
		r = hbm_archive_use_of(archive, sequence);
	if (r == 0)
		r = hbm_archive_land(archive);

	return r ? r : hbm_saving_run(&saving, &chain, saved);
}

static int save_all(struct hbm_pool *pool, const struct order *order, size_t count,
		    const struct hbm_save_options *options, uint64_t *saved)
{
	struct limit limit = save_limit(options);
	struct archive *archive;
	int r = hbm_archive_open(pool, &options->space, "", &archive);

	for (size_t i = 0; r == 0 && i < count && !save_is_over(&limit); i++)
		r = save_one(archive, order[i].save, options, &limit, &saved[order[i].index]);
	hbm_archive_close(archive);

	return r;
}

static int save_locked(struct hbm_pool *pool, const struct hbm_save *saves, size_t count,
		       const struct hbm_save_options *options, uint64_t *saved)
{
	int r = save_check(pool, saves, count);
	if (r || count == 0)
		return r;

	struct order *order = calloc(count, sizeof(*order));
	if (!order)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the order of %zu sequences",
				     count);

	for (size_t i = 0; i < count; i++)
		order[i] = (struct order){&saves[i], i};
	r = save_check_names(pool, order, count);
	if (r == 0) {
		qsort(order, count, sizeof(*order), save_by_value);
		r = save_all(pool, order, count, options, saved);
	}
	free(order);

	return r;
}

int hbm_sequences_save(struct hbm_pool *pool, const struct hbm_save *saves, size_t count,
		       const struct hbm_save_options *options, uint64_t *saved)
{
	for (size_t i = 0; i < count; i++)
		saved[i] = 0;

	hbm_pool_lock(pool);
	int r = save_locked(pool, saves, count, options, saved);
	hbm_pool_unlock(pool);

	return r;
}
