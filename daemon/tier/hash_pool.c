/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/hash_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/checksum.h"
#include "daemon/base/list.h"
#include "daemon/base/numa.h"
#include "daemon/loop/completions.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/lossless.h"

#define QUANTUM (1ull << 20) /* of a payer's turn */
#define FAIR 8               /* one job in so many is not urgent */
#define CPUS_EACH 4          /* of a thread */
#define THREADS_MAX 8        /* unless more are asked for */

struct hash_thread {
	struct hash_node *node;
	struct lossless *lossless;
	pthread_t thread;
};

struct hash_node {
	struct hash_pool *pool;
	int number;    /* of numa; -1: there is one, of threads that run anywhere */
	uint64_t done; /* bytes; atomic */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct fair_queue urgent, background; /* these, and what follows, under the lock */
	unsigned taken;
	bool ending;
	unsigned count;
	struct hash_thread *threads;
};

struct hash_pool {
	struct link_stats *link_stats;
	const struct numa *numa;
	const struct tier *staging, *ddr;
	struct completions completions;
	uint32_t count;
	struct hash_node nodes[];
};

/* ---- on the pool's threads ---- */

/* The queue to serve next; NULL: both are empty. */
static struct fair_queue *hash_pool_next_queue(struct hash_node *node)
{
	bool background_first = (node->taken + 1) % FAIR == 0;
	struct fair_queue *first = background_first ? &node->background : &node->urgent;
	struct fair_queue *second = background_first ? &node->urgent : &node->background;

	if (!fair_queue_empty(first))
		return first;
	return fair_queue_empty(second) ? NULL : second;
}

/* Waits for a job; NULL: the pool is to end. */
static struct hash_job *hash_pool_take(struct hash_node *node)
{
	struct hash_job *job = NULL;
	struct fair_queue *queue;

	pthread_mutex_lock(&node->lock);

	while (!(queue = hash_pool_next_queue(node)) && !node->ending)
		pthread_cond_wait(&node->wake, &node->lock);
	if (queue) {
		struct fair_item *item = fair_queue_next(queue);
		job = container_of(item, struct hash_job, item);
		job->queued = false;
		node->taken++;
		fair_queue_take(queue, item);
	}

	pthread_mutex_unlock(&node->lock);

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
	if (job->work == HASH_COPY) {
		memcpy(job->coded, job->host, job->bytes);
		return;
	}

	enum hbm_link link = job->work == HASH_ENCODE ? HBM_LINK_ENCODE : HBM_LINK_DECODE;
	uint64_t started_ns = link_stats_begin(thread->node->pool->link_stats, link);

	if (job->work == HASH_ENCODE)
		hash_pool_encode(thread->lossless, job);
	else
		hash_pool_decode(thread->lossless, job);

	link_stats_end(thread->node->pool->link_stats, link, 0, started_ns, 1, job->bytes, 0);
}

/* The calling thread is one of the node's. */
static void hash_pool_settle(const struct hash_node *node)
{
	char name[16] = "hash";

	if (node->number >= 0) {
		numa_run_on(node->pool->numa, node->number);
		snprintf(name, sizeof(name), "hash-%u", node->pool->numa->ids[node->number]);
	}

	pthread_setname_np(pthread_self(), name);
}

static void *hash_pool_thread(void *arg)
{
	struct hash_thread *thread = arg;
	struct hash_node *node = thread->node;
	struct hash_pool *pool = node->pool;

	hash_pool_settle(node);
	for (struct hash_job *job; (job = hash_pool_take(node));) {
		if (job->work == HASH_WIPE)
			memset(job->host, 0, job->bytes);
		else if (job->work != HASH_ONLY)
			hash_pool_code(thread, job);
		if (!job->without_checksum)
			hash_pool_hash(pool, job);
		__atomic_fetch_add(&node->done, job->bytes, __ATOMIC_RELAXED);
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

/* The node that memory is at; the first one for memory of none. */
static struct hash_node *hash_pool_node_at(struct hash_pool *pool, const char *host)
{
	int part = -1;

	if (pool->count > 1)
		part = tier_part_of(pool->staging, host);
	if (pool->count > 1 && part < 0)
		part = tier_part_of(pool->ddr, host);

	return &pool->nodes[part < 0 ? 0 : part];
}

void hash_pool_post(struct hash_pool *pool, struct hash_job *job, bool urgent)
{
	struct hash_node *node = hash_pool_node_at(pool, job->host);

	job->node = node;
	job->post.run = hash_pool_job_done;

	pthread_mutex_lock(&node->lock);
	job->queued = true;
	job->urgent = urgent;
	fair_queue_push(urgent ? &node->urgent : &node->background, &job->item, job->payer,
			job->bytes, job->bytes);
	pthread_mutex_unlock(&node->lock);
	pthread_cond_signal(&node->wake);
}

void hash_pool_on_batch(struct hash_pool *pool, void (*batch_done)(void *arg), void *arg)
{
	completions_on_batch(&pool->completions, batch_done, arg);
}

void hash_pool_hasten(struct hash_job *job, struct fair_payer payer)
{
	struct hash_node *node = job->node;

	pthread_mutex_lock(&node->lock);

	if (job->queued && !job->urgent) {
		fair_queue_remove(&node->background, &job->item);
		fair_queue_push(&node->urgent, &job->item, payer, job->bytes, job->bytes);
		job->urgent = true;
	}

	pthread_mutex_unlock(&node->lock);
}

uint64_t hash_pool_done(const struct hash_pool *pool, uint32_t node)
{
	return __atomic_load_n(&pool->nodes[node].done, __ATOMIC_RELAXED);
}

/* ---- a node ---- */

/* How many threads the n-th of so many nodes has, of those that were asked for. */
static unsigned hash_pool_threads(unsigned asked, uint32_t nodes, uint32_t n)
{
	long each = sysconf(_SC_NPROCESSORS_ONLN) / nodes / CPUS_EACH;
	if (asked > 0)
		each = asked / nodes + (n < asked % nodes);
	else if (each > THREADS_MAX)
		each = THREADS_MAX;

	return each < 1 ? 1 : (unsigned)each;
}

static int hash_pool_start(struct hash_node *node, struct hash_thread *thread)
{
	int r = lossless_new(&thread->lossless);
	if (r < 0)
		return r;

	thread->node = node;
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

static void hash_pool_close_node(struct hash_node *node)
{
	pthread_mutex_lock(&node->lock);
	node->ending = true;
	pthread_cond_broadcast(&node->wake);
	pthread_mutex_unlock(&node->lock);

	while (node->count > 0)
		hash_pool_stop(&node->threads[--node->count]);
	free(node->threads);
	pthread_cond_destroy(&node->wake);
	pthread_mutex_destroy(&node->lock);
}

static int hash_pool_open_node(struct hash_pool *pool, uint32_t n, unsigned threads)
{
	struct hash_node *node = &pool->nodes[n];

	node->threads = calloc(threads, sizeof(*node->threads));
	if (!node->threads)
		return -ENOMEM;

	node->pool = pool;
	node->number = pool->staging && pool->staging->part_count > 0 ? (int)n : -1;
	fair_queue_open(&node->urgent, QUANTUM);
	fair_queue_open(&node->background, QUANTUM);
	pthread_mutex_init(&node->lock, NULL);
	pthread_cond_init(&node->wake, NULL);

	for (; node->count < threads; node->count++) {
		int r = hash_pool_start(node, &node->threads[node->count]);
		if (r < 0) {
			hash_pool_close_node(node);
			return r;
		}
	}

	return 0;
}

/* ---- the pool ---- */

uint64_t hash_pool_bytes(uint64_t threads, uint32_t nodes)
{
	uint64_t most = threads > 0 ? threads : (uint64_t)nodes * THREADS_MAX;
	return (most > nodes ? most : nodes) * LOSSLESS_BYTES;
}

int hash_pool_new(struct hash_pool **out, const struct hash_pool_options *options)
{
	const struct tier *staging = options->staging;
	uint32_t nodes = staging && staging->part_count > 0 ? staging->part_count : 1;
	struct hash_pool *pool = calloc(1, sizeof(*pool) + nodes * sizeof(pool->nodes[0]));
	if (!pool)
		return -ENOMEM;

	pool->link_stats = options->link_stats;
	pool->numa = options->numa;
	pool->staging = staging;
	pool->ddr = options->ddr;
	completions_open(&pool->completions, options->loop);

	for (; pool->count < nodes; pool->count++) {
		unsigned threads = hash_pool_threads(options->threads, nodes, pool->count);
		int r = hash_pool_open_node(pool, pool->count, threads);
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

	for (uint32_t i = 0; i < pool->count; i++)
		hash_pool_close_node(&pool->nodes[i]);

	/* Whom a batch is told may be gone. */
	completions_on_batch(&pool->completions, NULL, NULL);
	if (pool->completions.first)
		loop_flush(pool->completions.loop);
	completions_close(&pool->completions);
	free(pool);

	return NULL;
}
