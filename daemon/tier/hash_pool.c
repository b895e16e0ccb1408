/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/hash_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/checksum.h"
#include "daemon/base/list.h"
#include "daemon/loop/completions.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/lossless.h"

#define QUANTUM (1ull << 20) /* of a payer's turn */
#define FAIR 8               /* one job in so many is not urgent */
#define CPUS_EACH 4          /* of a thread */
#define THREADS_MAX 8        /* unless more are asked for */

struct hash_thread {
	struct hash_pool *pool;
	struct lossless *lossless;
	pthread_t thread;
};

struct hash_pool {
	struct link_stats *link_stats;
	struct completions completions;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct fair_queue urgent, background; /* these, and what follows, under the lock */
	unsigned taken;
	bool ending;
	unsigned count;
	struct hash_thread threads[];
};

/* ---- on the pool's threads ---- */

/* The queue to serve next; NULL: both are empty. */
static struct fair_queue *hash_pool_next_queue(struct hash_pool *pool)
{
	bool background_first = (pool->taken + 1) % FAIR == 0;
	struct fair_queue *first = background_first ? &pool->background : &pool->urgent;
	struct fair_queue *second = background_first ? &pool->urgent : &pool->background;

	if (!fair_queue_empty(first))
		return first;
	return fair_queue_empty(second) ? NULL : second;
}

/* Waits for a job; NULL: the pool is to end. */
static struct hash_job *hash_pool_take(struct hash_pool *pool)
{
	struct hash_job *job = NULL;
	struct fair_queue *queue;

	pthread_mutex_lock(&pool->lock);

	while (!(queue = hash_pool_next_queue(pool)) && !pool->ending)
		pthread_cond_wait(&pool->wake, &pool->lock);
	if (queue) {
		struct fair_item *item = fair_queue_next(queue);
		job = container_of(item, struct hash_job, item);
		job->queued = false;
		pool->taken++;
		fair_queue_take(queue, item);
	}

	pthread_mutex_unlock(&pool->lock);

	return job;
}

static void hash_pool_hash(struct hash_pool *pool, struct hash_job *job)
{
	uint64_t started_ns = link_stats_begin(pool->link_stats, HBM_LINK_HASH);

	if (job->stream)
		checksum_stream_add(job->stream, job->host, job->bytes);
	else
		job->checksum = checksum(job->host, job->bytes);
	link_stats_end(pool->link_stats, HBM_LINK_HASH, 0, started_ns, 1, job->bytes, 0);
}

/* What bytes encoded into `size` take with their padding. */
static uint64_t hash_pool_padded(uint64_t size, uint64_t bytes)
{
	uint64_t step = EXTENT_UNIT * HASH_STORED_SIZES;
	step = (bytes + step - 1) / step * EXTENT_UNIT;

	return (size + step - 1) / step * step;
}

static void hash_pool_encode(struct lossless *lossless, struct hash_job *job)
{
	uint64_t size = lossless_encode(lossless, job->coded, job->coded_bytes, job->host,
					job->bytes, job->element);
	uint64_t padded = hash_pool_padded(size, job->bytes);
	if (padded > job->coded_bytes)
		padded = 0;
	if (padded > 0)
		memset(job->coded + size, 0, padded - size);

	job->coded_bytes = padded;
}

static void hash_pool_decode(struct lossless *lossless, struct hash_job *job)
{
	if (!lossless_decode(lossless, job->host, job->bytes, job->coded, job->coded_bytes,
			     job->element))
		job->coded_bytes = 0;
}

static void hash_pool_code(struct hash_thread *thread, struct hash_job *job)
{
	enum hbm_link link = job->work == HASH_ENCODE ? HBM_LINK_ENCODE : HBM_LINK_DECODE;
	uint64_t started_ns = link_stats_begin(thread->pool->link_stats, link);

	if (job->work == HASH_ENCODE)
		hash_pool_encode(thread->lossless, job);
	else
		hash_pool_decode(thread->lossless, job);

	link_stats_end(thread->pool->link_stats, link, 0, started_ns, 1, job->bytes, 0);
}

static void *hash_pool_thread(void *arg)
{
	struct hash_thread *thread = arg;
	struct hash_pool *pool = thread->pool;

	pthread_setname_np(pthread_self(), "hash");
	for (struct hash_job *job; (job = hash_pool_take(pool));) {
		if (job->work != HASH_ONLY)
			hash_pool_code(thread, job);
		if (!job->without_checksum)
			hash_pool_hash(pool, job);
		job->post.next = NULL;
		completions_add(&pool->completions, &job->post);
	}

	return NULL;
}

/* ---- on the loop thread ---- */

static void hash_pool_job_done(struct post *post)
{
	struct hash_job *job = container_of(post, struct hash_job, post);
	job->done(job);
}

void hash_pool_post(struct hash_pool *pool, struct hash_job *job, bool urgent)
{
	job->pool = pool;
	job->post.run = hash_pool_job_done;

	pthread_mutex_lock(&pool->lock);
	job->queued = true;
	job->urgent = urgent;
	fair_queue_push(urgent ? &pool->urgent : &pool->background, &job->item, job->payer,
			job->bytes, job->bytes);
	pthread_mutex_unlock(&pool->lock);
	pthread_cond_signal(&pool->wake);
}

void hash_pool_on_batch(struct hash_pool *pool, void (*batch_done)(void *arg), void *arg)
{
	completions_on_batch(&pool->completions, batch_done, arg);
}

void hash_pool_hasten(struct hash_job *job, struct fair_payer payer)
{
	struct hash_pool *pool = job->pool;

	pthread_mutex_lock(&pool->lock);

	if (job->queued && !job->urgent) {
		fair_queue_remove(&pool->background, &job->item);
		fair_queue_push(&pool->urgent, &job->item, payer, job->bytes, job->bytes);
		job->urgent = true;
	}

	pthread_mutex_unlock(&pool->lock);
}

/* ---- the pool ---- */

static unsigned hash_pool_default_threads(void)
{
	long threads = sysconf(_SC_NPROCESSORS_ONLN) / CPUS_EACH;
	if (threads < 1)
		return 1;
	return threads < THREADS_MAX ? (unsigned)threads : THREADS_MAX;
}

static int hash_pool_start(struct hash_pool *pool, struct hash_thread *thread)
{
	int r = lossless_new(&thread->lossless);
	if (r < 0)
		return r;

	thread->pool = pool;
	r = pthread_create(&thread->thread, NULL, hash_pool_thread, thread);
	if (r != 0)
		thread->lossless = lossless_free(thread->lossless);

	return -r;
}

static void hash_pool_stop(struct hash_thread *thread)
{
	pthread_join(thread->thread, NULL);
	thread->lossless = lossless_free(thread->lossless);
}

uint64_t hash_pool_bytes(uint64_t threads)
{
	return (threads ? threads : THREADS_MAX) * LOSSLESS_BYTES;
}

int hash_pool_new(struct hash_pool **out, const struct hash_pool_options *options)
{
	unsigned threads = options->threads ? options->threads : hash_pool_default_threads();
	struct hash_pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
	if (!pool)
		return -ENOMEM;

	pool->link_stats = options->link_stats;
	completions_open(&pool->completions, options->loop);
	fair_queue_open(&pool->urgent, QUANTUM);
	fair_queue_open(&pool->background, QUANTUM);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);

	for (; pool->count < threads; pool->count++) {
		int r = hash_pool_start(pool, &pool->threads[pool->count]);
		if (r < 0) {
			hash_pool_free(pool);
			return r;
		}
	}

	*out = pool;

	return 0;
}

struct hash_pool *hash_pool_free(struct hash_pool *pool)
{
	if (!pool)
		return NULL;

	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);

	while (pool->count > 0)
		hash_pool_stop(&pool->threads[--pool->count]);

	/* Whom a batch is told may be gone. */
	completions_on_batch(&pool->completions, NULL, NULL);
	if (pool->completions.first)
		loop_flush(pool->completions.loop);
	completions_close(&pool->completions);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool);

	return NULL;
}
