/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_roof: how fast blocks can be stored on a disk here by a program that does what no
 * store can do without, and nothing else: a thread copies each block to a buffer, another
 * takes its checksum, and io_uring writes it to the file at the same time. No client, no
 * index, no allocation. Prints "store value GiB/s", the median of the rounds.
 *
 * 	bench_roof FILE BLOCK_BYTES COUNT DEPTH ROUNDS
 *
 * FILE has room for COUNT blocks. There are DEPTH buffers, and as many blocks in flight.
 */
#include "tests/support/measure.h"

#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* as in daemon/base/checksum.c */
#else
#include <xxhash.h>
#endif

enum { HUGE = 2097152, DEPTH_MAX = 64, ROUNDS_MAX = 64 };

/* Of a buffer: how many blocks that had it have been through each stage. */
struct slot {
	uint64_t copied, hashed, written;
};

struct roof {
	int fd;
	uint64_t bytes, count, depth;
	char *from, *host; /* [depth] of bytes */
	struct io_uring ring;
	uint64_t checksums; /* the sum of all: they are not for nothing */

	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct slot slots[DEPTH_MAX];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* A stage has had the block, the n-th. */
static void roof_pass(struct roof *roof, uint64_t *stage)
{
	pthread_mutex_lock(&roof->lock);
	(*stage)++;
	pthread_cond_broadcast(&roof->moved);
	pthread_mutex_unlock(&roof->lock);
}

static void roof_await(struct roof *roof, const uint64_t *stage, uint64_t passed)
{
	pthread_mutex_lock(&roof->lock);
	while (*stage < passed)
		pthread_cond_wait(&roof->moved, &roof->lock);
	pthread_mutex_unlock(&roof->lock);
}

static void *roof_copy(void *arg)
{
	struct roof *roof = arg;

	for (uint64_t n = 0; n < roof->count; n++) {
		uint64_t at = n % roof->depth, turn = n / roof->depth;
		struct slot *slot = &roof->slots[at];

		roof_await(roof, &slot->hashed, turn);
		roof_await(roof, &slot->written, turn);
		memcpy(roof->host + at * roof->bytes, roof->from + at * roof->bytes, roof->bytes);
		roof_pass(roof, &slot->copied);
	}

	return NULL;
}

static void *roof_hash(void *arg)
{
	struct roof *roof = arg;

	for (uint64_t n = 0; n < roof->count; n++) {
		uint64_t at = n % roof->depth;
		struct slot *slot = &roof->slots[at];

		roof_await(roof, &slot->copied, n / roof->depth + 1);
		roof->checksums += XXH3_64bits(roof->host + at * roof->bytes, roof->bytes);
		roof_pass(roof, &slot->hashed);
	}

	return NULL;
}

static void *roof_write(void *arg)
{
	struct roof *roof = arg;

	for (uint64_t n = 0; n < roof->count; n++) {
		uint64_t at = n % roof->depth;
		struct slot *slot = &roof->slots[at];

		roof_await(roof, &slot->copied, n / roof->depth + 1);
		struct io_uring_sqe *sqe = io_uring_get_sqe(&roof->ring);
		io_uring_prep_write(sqe, roof->fd, roof->host + at * roof->bytes,
				    (unsigned)roof->bytes, n * roof->bytes);
		io_uring_sqe_set_data(sqe, slot);
		if (io_uring_submit(&roof->ring) != 1)
			die("io_uring_submit");
	}

	return NULL;
}

static void roof_reap(struct roof *roof)
{
	for (uint64_t n = 0; n < roof->count; n++) {
		struct io_uring_cqe *cqe;

		if (io_uring_wait_cqe(&roof->ring, &cqe) < 0 || cqe->res != (int)roof->bytes)
			die("write");
		struct slot *slot = io_uring_cqe_get_data(cqe);
		io_uring_cqe_seen(&roof->ring, cqe);
		roof_pass(roof, &slot->written);
	}
}

/* GiB/s. */
static double roof_round(struct roof *roof)
{
	void *(*const stages[])(void *) = {roof_copy, roof_hash, roof_write};
	pthread_t threads[3];

	memset(roof->slots, 0, sizeof(roof->slots));
	double start = measure_now();
	for (unsigned i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, stages[i], roof) != 0)
			die("pthread_create");

	roof_reap(roof);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);

	double took = measure_now() - start;
	return (double)(roof->bytes * roof->count) / MEASURE_GIB / took;
}

/* In huge pages, as hbmd's buffers are. */
static char *roof_memory(uint64_t bytes)
{
	bytes = (bytes + HUGE - 1) / HUGE * HUGE;
	char *memory = aligned_alloc(HUGE, bytes);
	if (!memory)
		die("aligned_alloc");

	madvise(memory, bytes, MADV_HUGEPAGE);
	memset(memory, 1, bytes);

	return memory;
}

int main(int argc, char **argv)
{
	static struct roof roof = {.lock = PTHREAD_MUTEX_INITIALIZER,
				   .moved = PTHREAD_COND_INITIALIZER};
	double rates[ROUNDS_MAX];

	if (argc != 6) {
		fprintf(stderr, "usage: bench_roof FILE BLOCK_BYTES COUNT DEPTH ROUNDS\n");
		return 2;
	}

	roof.bytes = strtoull(argv[2], NULL, 10);
	roof.count = strtoull(argv[3], NULL, 10);
	roof.depth = strtoull(argv[4], NULL, 10);
	uint64_t rounds = strtoull(argv[5], NULL, 10);
	if (roof.depth < 1 || roof.depth > DEPTH_MAX || rounds < 1 || rounds > ROUNDS_MAX)
		return 2;

	roof.fd = open(argv[1], O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (roof.fd < 0)
		die(argv[1]);
	if (io_uring_queue_init(DEPTH_MAX, &roof.ring, 0) < 0)
		die("io_uring");
	roof.from = roof_memory(roof.bytes * roof.depth);
	roof.host = roof_memory(roof.bytes * roof.depth);

	for (uint64_t round = 0; round < rounds; round++)
		rates[round] = roof_round(&roof);
	printf("store %.3f GiB/s\n", measure_median(rates, rounds));

	io_uring_queue_exit(&roof.ring);
	close(roof.fd);
	free(roof.from);
	free(roof.host);

	return 0;
}
