/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog.h"

#include "daemon/base/log.h"
#include "daemon/catalog/catalog_batch.h"
#include "daemon/catalog/catalog_left.h"
#include "daemon/catalog/catalog_start.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_NS UINT64_C(1000000000) /* after a failure */

struct catalog {
	struct catalog_options options;
	char *path; /* options.path */
	enum catalog_state state;
	struct worker *worker;
	struct block_listener listener;
	struct timer timer, timeout; /* the second: of a flush that blocks wait for */

	struct catalog_changes changes;
	struct catalog_ids ids;
	struct catalog_source source;
	struct catalog_waits waits;
	struct catalog_left left;
	struct catalog_start start; /* its store is used until the end */

	/* the job, one at a time; what it uses is the worker's until it is done */
	struct job job;
	struct catalog_made *made;
	bool flush, busy;
	bool data_failed; /* the flush of the NVMe file */
	bool silent;      /* the job has taken too long */
	int result;
	atomic_bool stop;

	uint64_t changed_ns; /* when the first of what is queued came */
	uint64_t flushed_ns; /* the last flush */
	uint64_t retry_ns;   /* not before; 0: the last one succeeded */
	uint64_t unflushed;  /* changes committed since */
	/* How many changes are taken when those of all durable blocks that were dropped are; 0: they
	 * are flushed. */
	uint64_t forget_until;
	uint64_t forgets, forgotten; /* such blocks, so far; of them, up to which all are */
	uint64_t records;            /* before the transaction that is in flight */
	uint64_t failures;
	uint64_t durable;
};

static void catalog_arm(struct catalog *catalog);

/* ---- what changes ---- */

/* What is to be forgotten is queued. */
static void catalog_set_forget_until(struct catalog *catalog)
{
	catalog->forget_until = catalog->changes.taken + catalog->changes.queued;
}

static void catalog_mark(struct catalog *catalog, uint32_t number)
{
	if (catalog->state == CATALOG_WITHOUT || catalog->start.recovering)
		return;

	if (catalog->changes.queued == 0)
		catalog->changed_ns = clock_now();
	catalog_changes_mark(&catalog->changes, number);
	catalog_arm(catalog);
}

static void catalog_placed(struct block_listener *listener, uint32_t number, struct tier *to,
			   struct tier *from)
{
	struct catalog *catalog = container_of(listener, struct catalog, listener);

	(void)from;
	if (to != catalog->options.cache->nvme || catalog->start.recovering)
		return;

	catalog_changes_came(&catalog->changes, number);
	catalog_mark(catalog, number);
}

/* It may leave a copy: what there is will be seen when it is written. */
static void catalog_unplaced(struct block_listener *listener, uint32_t number, struct tier *from,
			     struct tier *to)
{
	struct catalog *catalog = container_of(listener, struct catalog, listener);

	(void)to;
	if (from == catalog->options.cache->nvme)
		catalog_mark(catalog, number);
}

static void catalog_uncopied(struct block_listener *listener, uint32_t number)
{
	catalog_mark(container_of(listener, struct catalog, listener), number);
}

/* A durable block, whose record has to go. */
static void catalog_forget(struct catalog *catalog, uint32_t number)
{
	const struct cache *cache = catalog->options.cache;

	catalog_set_forget_until(catalog);
	namespaces_get(cache->namespaces, cache_block(cache, number)->ns)->forgets =
		++catalog->forgets;
}

static void catalog_dropped(struct block_listener *listener, uint32_t number)
{
	struct catalog *catalog = container_of(listener, struct catalog, listener);

	if (catalog->changes.table[number].stamp == 0)
		return;

	catalog_mark(catalog, number);
	if (cache_block(catalog->options.cache, number)->durable)
		catalog_forget(catalog, number);
}

/* ---- transactions ---- */

static void catalog_write(struct catalog *catalog)
{
	int r = 0;

	if (catalog->flush && fdatasync(catalog->options.fd) < 0)
		r = -errno;
	catalog->data_failed = r < 0;
	if (r == 0)
		r = catalog_store_apply(catalog->start.store, &catalog->made->batch,
					catalog->flush);
	catalog->result = r;
}

/* Makes the next batch, which is flushed if it is time to, or if a block waits for it. A batch with
 * nothing in it is one to be flushed, or none. */
static bool catalog_prepare(struct catalog *catalog, bool flush)
{
	catalog->records = catalog->changes.records;
	catalog_batch_make(catalog->made, &catalog->source);
	catalog->flush = catalog_waits_begin(&catalog->waits) || flush ||
			 catalog->options.cache->nvme->left.count > 0;

	return catalog->made->batch.change_count > 0 || catalog->flush;
}

static void catalog_fail(struct catalog *catalog)
{
	if (catalog->retry_ns == 0)
		log_error("nvme: cannot write %s: %s; what comes to NVMe is not found after a "
			  "restart until it can be written again",
			  catalog->options.path, strerror(-catalog->result));

	catalog->failures++;
	catalog->retry_ns = clock_now() + RETRY_NS;
	catalog_batch_take_back(catalog->made, &catalog->source);
	if (catalog->data_failed)
		catalog_changes_fail(&catalog->changes);
	if (catalog->forget_until != 0)
		catalog_set_forget_until(catalog);
	catalog_waits_fail(&catalog->waits, catalog->data_failed);
	if (catalog->flush)
		catalog_left_fail(&catalog->left, catalog->data_failed);
}

/* A flush has all that was taken so far. */
static void catalog_end_forgetting(struct catalog *catalog)
{
	if (catalog->forget_until > catalog->changes.taken)
		return;

	catalog->forget_until = 0;
	catalog->forgotten = catalog->forgets;
}

static void catalog_succeed(struct catalog *catalog)
{
	if (catalog->retry_ns != 0)
		log_notice("nvme: %s can be written again", catalog->options.path);

	catalog->retry_ns = 0;
	catalog->unflushed += catalog->made->batch.change_count;
	if (catalog->flush) {
		catalog->unflushed = 0;
		catalog_end_forgetting(catalog);
		catalog->flushed_ns = clock_now();
		catalog->durable += list_length(&catalog->waits.flushing);
		for (uint32_t i = 0; i < catalog->made->batch.change_count; i++)
			catalog_waits_trust(&catalog->waits, catalog->made->numbers[i]);
		catalog_waits_succeed(&catalog->waits);
	}
}

static void catalog_settle(struct catalog *catalog)
{
	if (catalog->result < 0)
		catalog_fail(catalog);
	else
		catalog_succeed(catalog);
}

static void catalog_end_job(struct catalog *catalog)
{
	catalog->busy = catalog->silent = false;
	loop_timer_stop(catalog->options.loop, &catalog->timeout);
}

static void catalog_run_write(struct job *job)
{
	catalog_write(container_of(job, struct catalog, job));
}

static void catalog_written(struct job *job)
{
	struct catalog *catalog = container_of(job, struct catalog, job);

	catalog_end_job(catalog);
	catalog_settle(catalog);
	catalog_arm(catalog);
}

/* Somebody waits for the job, or for the one behind it. */
static void catalog_limit_time(struct catalog *catalog)
{
	if (catalog->busy && !timer_is_set(&catalog->timeout))
		loop_timer_set(catalog->options.loop, &catalog->timeout,
			       clock_now() + catalog->options.timeout_ns);
}

/* Whoever waits by now waits for this job, whatever it does. */
static void catalog_post(struct catalog *catalog, void (*run)(struct job *job),
			 void (*done)(struct job *job))
{
	catalog->busy = true;
	catalog->job = (struct job){.run = run, .done = done};
	worker_post(catalog->worker, &catalog->job);
	if (catalog_waits_are_limited(&catalog->waits) || catalog->left.waits)
		catalog_limit_time(catalog);
}

static uint64_t catalog_flush_due(const struct catalog *catalog)
{
	return catalog->flushed_ns + catalog->options.flush_ns;
}

/* When the next transaction is due; 0: there is none. What a barrier waits for is queued by then. A
 * block that waits does so for its record, which is, too, or for its bytes: then it is looked for now
 * and then. */
static uint64_t catalog_due(const struct catalog *catalog)
{
	bool waits = catalog_waits_any(&catalog->waits);

	if (catalog->retry_ns != 0)
		return catalog->retry_ns; /* a flush shows whether it can be written again */
	if (catalog->changes.queued > 0)
		return catalog->changed_ns + (waits ? 0 : catalog->options.commit_ns);
	if (catalog_waits_barred(&catalog->waits))
		return clock_now();
	if (waits)
		return clock_now() + catalog->options.commit_ns;

	return catalog->unflushed > 0 ? catalog_flush_due(catalog) : 0;
}

/* Sets the time of the next transaction, if there is to be one. */
static void catalog_arm(struct catalog *catalog)
{
	if (catalog->state != CATALOG_KEEPING || catalog->busy || atomic_load(&catalog->stop))
		return;

	uint64_t due = catalog_due(catalog);
	if (due == 0)
		return;

	if (!timer_is_set(&catalog->timer) || due < catalog->timer.at_ns)
		loop_timer_set(catalog->options.loop, &catalog->timer, due);
}

static void catalog_fire(struct timer *timer)
{
	struct catalog *catalog = container_of(timer, struct catalog, timer);
	uint64_t now = clock_now();

	if (catalog_prepare(catalog, now >= catalog_flush_due(catalog) || catalog->retry_ns != 0))
		catalog_post(catalog, catalog_run_write, catalog_written);
	catalog->changed_ns = now;
	catalog_arm(catalog);
}

/* ---- durable blocks ---- */

/* The flush has taken too long. How it ends does not matter any more to those who waited for it,
 * and no other store waits before it has. */
static void catalog_time_out(struct timer *timer)
{
	struct catalog *catalog = container_of(timer, struct catalog, timeout);

	catalog->silent = true;
	catalog_waits_give_up(&catalog->waits);
	catalog_left_fail(&catalog->left, false);
}

void catalog_flush_all(struct catalog *catalog, struct catalog_barrier *barrier)
{
	if (catalog->state == CATALOG_WITHOUT)
		barrier->done(barrier);
	else if (catalog->silent && barrier->failed)
		barrier->failed(barrier);
	else
		catalog_waits_bar(&catalog->waits, barrier);
	catalog_limit_time(catalog);
	catalog_arm(catalog);
}

static void catalog_flush_left(void *arg, struct catalog_barrier *barrier)
{
	catalog_flush_all(arg, barrier);
}

static void catalog_free_left(void *arg)
{
	struct catalog *catalog = arg;

	catalog->options.progress(catalog->options.arg);
}

/* What its record says may change, even if the block does not. */
void catalog_await(struct catalog *catalog, struct catalog_wait *wait)
{
	uint32_t number = index_find(catalog->options.cache->index, wait->ns, &wait->key);

	if (catalog->silent || catalog->state == CATALOG_WITHOUT) {
		wait->done(wait, HBM_IO);
		return;
	}

	catalog_waits_add(&catalog->waits, wait);
	if (number != 0)
		catalog_mark(catalog, number);
	catalog_limit_time(catalog);
	catalog_arm(catalog);
}

/* ---- the start ---- */

static void catalog_begin_keeping(struct catalog *catalog, enum catalog_state state)
{
	struct tier *nvme = catalog->options.cache->nvme;

	if (nvme->claiming && nvme->dirty)
		tier_wipe_gap(nvme, 0, UINT32_MAX);
	if (nvme->claiming)
		tier_end_claims(nvme);
	catalog->state = state;
	catalog->flushed_ns = clock_now();
	catalog_arm(catalog);
	catalog->options.progress(catalog->options.arg);
}

static void catalog_run_step(struct job *job)
{
	struct catalog *catalog = container_of(job, struct catalog, job);

	catalog->start.run(&catalog->start);
}

static void catalog_stepped(struct job *job)
{
	struct catalog *catalog = container_of(job, struct catalog, job);

	catalog_end_job(catalog);
	catalog->start.done(&catalog->start);
	catalog_arm(catalog);
}

static void catalog_post_step(void *arg)
{
	catalog_post(arg, catalog_run_step, catalog_stepped);
}

static void catalog_begin_recovery(void *arg)
{
	struct catalog *catalog = arg;

	catalog->source.stamp = catalog->start.contents.stamp;
	catalog->state = CATALOG_RECOVERY;
}

static void catalog_end_start(void *arg, bool with)
{
	struct catalog *catalog = arg;

	if (!with) {
		catalog_waits_give_up(&catalog->waits);
		catalog_left_end(&catalog->left);
	}
	catalog_begin_keeping(catalog, with ? CATALOG_KEEPING : CATALOG_WITHOUT);
}

static void catalog_make_start(struct catalog *catalog)
{
	const struct catalog_options *options = &catalog->options;

	catalog->start = (struct catalog_start){.loop = options->loop,
						.cache = options->cache,
						.changes = &catalog->changes,
						.ids = &catalog->ids,
						.path = catalog->path,
						.file = options->file,
						.checksums = options->checksums,
						.fits = options->fits,
						.fits_arg = options->fits_arg,
						.stop = &catalog->stop,
						.post = catalog_post_step,
						.begin = catalog_begin_recovery,
						.end = catalog_end_start,
						.arg = catalog};
}

/* ---- opening and closing ---- */

static int catalog_set_up(struct catalog *catalog)
{
	const struct catalog_options *options = &catalog->options;
	int r = catalog_changes_open(&catalog->changes, index_max(options->cache->index));
	if (r == 0)
		r = catalog_ids_open(&catalog->ids, options->cache->namespaces);
	if (r == 0 && !(catalog->made = malloc(sizeof(*catalog->made))))
		r = -ENOMEM;

	if (r == 0)
		r = catalog_left_open(&catalog->left);

	return r < 0 ? r : worker_new(&catalog->worker, options->loop, "catalog", NULL, NULL);
}

static void catalog_free(struct catalog *catalog)
{
	catalog_start_close(&catalog->start);
	catalog_left_close(&catalog->left);
	catalog_ids_close(&catalog->ids);
	catalog_changes_close(&catalog->changes);
	free(catalog->path);
	free(catalog->made);
	free(catalog);
}

int catalog_open(struct catalog **out, const struct catalog_options *options)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));
	if (!catalog)
		return -ENOMEM;

	catalog->options = *options;
	catalog->left = (struct catalog_left){.tier = options->cache->nvme,
					      .flush = catalog_flush_left,
					      .progress = catalog_free_left,
					      .arg = catalog};
	catalog->path = strdup(options->path);
	catalog->options.path = catalog->path;
	int r = catalog->path ? catalog_set_up(catalog) : -ENOMEM;
	if (r < 0) {
		catalog_free(catalog);
		return r;
	}

	catalog->source = (struct catalog_source){
		.cache = options->cache, .changes = &catalog->changes, .ids = &catalog->ids};
	catalog_make_start(catalog);
	catalog_waits_init(&catalog->waits, options->cache, &catalog->changes);
	catalog->timer.fire = catalog_fire;
	catalog->timeout.fire = catalog_time_out;
	catalog->listener = (struct block_listener){.placed = catalog_placed,
						    .unplaced = catalog_unplaced,
						    .uncopied = catalog_uncopied,
						    .dropped = catalog_dropped};
	block_listen(&options->cache->blocks, &catalog->listener);
	catalog_start_begin(&catalog->start);
	*out = catalog;

	return 0;
}

/* Whether the tier has bytes that are to be overwritten and that no record names: the stop is none
 * of those that leave nothing to do at the next start. */
static bool catalog_leaves_bytes(const struct catalog *catalog)
{
	const struct cache *cache = catalog->options.cache;

	return tier_has_wiped(cache->nvme) || namespaces_have_wiped(cache->namespaces, true);
}

/* Writes all that is queued; then the last flush, and that the stop was clean. */
static void catalog_write_rest(struct catalog *catalog)
{
	catalog->result = 0;
	while (catalog->result == 0 && catalog->changes.queued > 0) {
		(void)catalog_prepare(catalog, false);
		catalog_write(catalog);
		catalog_settle(catalog);
	}

	if (catalog->result == 0 && fdatasync(catalog->options.fd) == 0 &&
	    !catalog_leaves_bytes(catalog))
		(void)catalog_store_mark(catalog->start.store, true);
}

/* Before all that was there is back, too. While it is read nothing has come to the tier. */
static void catalog_stop_cleanly(struct catalog *catalog)
{
	if (catalog->state == CATALOG_READING && catalog->start.store && catalog->start.was_clean)
		(void)catalog_store_mark(catalog->start.store, true);
	if (catalog->state == CATALOG_RECOVERY)
		catalog_start_finish(&catalog->start);
	if (catalog->state == CATALOG_RECOVERY || catalog->state == CATALOG_KEEPING)
		catalog_write_rest(catalog);
}

struct catalog *catalog_close(struct catalog *catalog, bool clean)
{
	if (!catalog)
		return NULL;

	struct loop *loop = catalog->options.loop;

	atomic_store(&catalog->stop, true);
	list_remove(&catalog->listener.link);
	loop_timer_stop(loop, &catalog->timer);
	loop_timer_stop(loop, &catalog->timeout);
	catalog_start_stop(&catalog->start);
	catalog->worker = worker_free(catalog->worker);
	loop_flush(loop);
	/* Who still waits has no reply. */
	catalog_waits_init(&catalog->waits, catalog->options.cache, &catalog->changes);

	if (clean)
		catalog_stop_cleanly(catalog);
	catalog_free(catalog);

	return NULL;
}

enum catalog_state catalog_state(const struct catalog *catalog)
{
	return catalog->state;
}

uint64_t catalog_forgets(const struct catalog *catalog)
{
	return catalog ? catalog->forgets : 0;
}

bool catalog_has_to_forget(const struct catalog *catalog, const struct namespace *ns,
			   uint64_t since)
{
	return catalog && catalog->state != CATALOG_WITHOUT &&
	       ns->forgets > (since > catalog->forgotten ? since : catalog->forgotten);
}

struct catalog_figures catalog_figures(const struct catalog *catalog)
{
	bool commits = catalog->busy && catalog->job.done == catalog_written;
	uint64_t in_flight = commits ? catalog->made->batch.change_count : 0;

	return (struct catalog_figures){
		.records = commits ? catalog->records : catalog->changes.records,
		.unflushed = catalog->unflushed + catalog->changes.queued + in_flight,
		.restored = catalog->start.recovery.restored,
		.refused = catalog->start.refused,
		.failures = catalog->failures + catalog->start.failures,
		.failing = catalog->retry_ns != 0 || catalog->state == CATALOG_WITHOUT,
		.durable = catalog->durable};
}

uint64_t catalog_bytes_for(uint64_t max_blocks)
{
	return catalog_changes_bytes_for(max_blocks) + catalog_contents_bytes_for(max_blocks) +
	       sizeof(struct catalog_made);
}
