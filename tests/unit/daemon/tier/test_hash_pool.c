/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash pool: right checksums from any number of threads, the order in which jobs are
 * computed, and by the threads of which NUMA node. For that a pool of one thread is held: its first job is of a page that may not
 * be read, and the thread waits in the signal that says so until the others are queued.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/base/checksum.h"
#include "daemon/base/list.h"
#include "daemon/base/numa.h"
#include "daemon/tier/hash_pool.h"

enum { JOBS = 64, BYTES = 4096, LARGE = 1 << 20 };

static struct rig {
	struct loop *loop;
	struct link_stats *link_stats;
	struct hash_pool *pool;
	char *bytes, *gate; /* a page */
	sem_t reached, open;
	struct entry {
		struct hash_job job;
		char name;
	} entries[JOBS];
	unsigned posted, done, batches;
	unsigned stop_at; /* so many done; 0: all */
	char order[JOBS + 1];
} rig;

static void entry_done(struct hash_job *job)
{
	struct entry *entry = container_of(job, struct entry, job);

	rig.order[rig.done++] = entry->name;
	if (rig.done == (rig.stop_at > 0 ? rig.stop_at : rig.posted))
		loop_stop(rig.loop);
}

static void batch_done(void *arg)
{
	(void)arg;
	rig.batches++;
}

static struct hash_job *post_at(char *host, char name, uint64_t payer, uint64_t bytes, bool urgent)
{
	struct entry *entry = &rig.entries[rig.posted++];

	*entry = (struct entry){
		.name = name,
		.job = {.payer = {.id = payer}, .host = host, .bytes = bytes, .done = entry_done}};
	hash_pool_post(rig.pool, &entry->job, urgent);

	return &entry->job;
}

static struct hash_job *post(char name, uint64_t payer, uint64_t bytes, bool urgent)
{
	return post_at(rig.bytes + 8 * (rig.posted + 1), name, payer, bytes, urgent);
}

/* ---- the gate ---- */

static void at_gate(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if ((char *)info->si_addr < rig.gate || (char *)info->si_addr >= rig.gate + BYTES)
		_exit(128 + signal);

	sem_post(&rig.reached);
	while (sem_wait(&rig.open) < 0)
		;
	mprotect(rig.gate, BYTES, PROT_READ);
}

static void hold_pool(void)
{
	const struct sigaction action = {.sa_sigaction = at_gate, .sa_flags = SA_SIGINFO};
	struct hash_job *job = &rig.entries[rig.posted++].job;

	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
	*job = (struct hash_job){.host = rig.gate, .bytes = BYTES, .done = entry_done};
	container_of(job, struct entry, job)->name = '-';
	hash_pool_post(rig.pool, job, true);
	while (sem_wait(&rig.reached) < 0)
		;
}

static void release_pool(void)
{
	sem_post(&rig.open);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(signal(SIGSEGV, SIG_DFL) == SIG_ERR, 0);
}

/* ---- ---- */

static void open_pool(unsigned threads)
{
	const struct hash_pool_options options = {
		.loop = rig.loop, .link_stats = rig.link_stats, .threads = threads};

	assert_int_equal(hash_pool_new(&rig.pool, &options), 0);
	hash_pool_on_batch(rig.pool, batch_done, NULL);
}

static int setup(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	sem_init(&rig.reached, 0, 0);
	sem_init(&rig.open, 0, 0);
	rig.bytes = malloc(2 * LARGE);
	assert_non_null(rig.bytes);
	for (unsigned i = 0; i < 2 * LARGE; i++)
		rig.bytes[i] = (char)(i * 7 + i / 251);
	rig.gate = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(rig.gate, MAP_FAILED);
	assert_int_equal(link_stats_new(&rig.link_stats), 0);
	assert_int_equal(loop_new(&rig.loop, &(struct loop_options){.io_depth = 1}), 0);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(hash_pool_free(rig.pool));
	assert_null(hash_pool_free(NULL));
	loop_free(rig.loop);
	link_stats_free(rig.link_stats);
	munmap(rig.gate, BYTES);
	free(rig.bytes);

	return 0;
}

static void the_checksums_are_right(void **state)
{
	(void)state;
	static const unsigned threads[] = {1, 3, 0};

	for (unsigned n = 0; n < 3; n++) {
		rig.posted = rig.done = rig.batches = 0;
		open_pool(threads[n]);
		for (unsigned i = 0; i < JOBS; i++)
			post('a', i % 3, 1 + i * 4099, i % 2);
		assert_int_equal(loop_run(rig.loop), 0);
		for (unsigned i = 0; i < JOBS; i++) {
			const struct hash_job *job = &rig.entries[i].job;
			assert_int_equal(job->checksum, XXH3_64bits(job->host, job->bytes));
		}

		assert_in_range(rig.batches, 1, JOBS);
		rig.pool = hash_pool_free(rig.pool);
	}

	struct hbm_wire_link link;
	link_stats_link(rig.link_stats, HBM_LINK_HASH, &link);
	assert_int_equal(link.count, 3 * JOBS);
	assert_int_equal(link.bytes, 3 * (JOBS + 4099ull * JOBS * (JOBS - 1) / 2));
}

/* What follows what has been added before, in jobs of any size, is as if it came at once. */
static void a_stream_is_as_one(void **state)
{
	(void)state;
	struct checksum_stream *stream = checksum_stream_new();
	uint64_t at = 0;

	assert_non_null(stream);
	open_pool(2);
	for (unsigned i = 0; i < JOBS; i++) {
		struct hash_job *job = &rig.entries[rig.posted++].job;

		*job = (struct hash_job){.host = rig.bytes + at,
					 .bytes = i * 401,
					 .stream = stream,
					 .done = entry_done};
		hash_pool_post(rig.pool, job, i % 2);
		assert_int_equal(loop_run(rig.loop), 0);
		at += i * 401;
		assert_int_equal(checksum_stream_end(stream), XXH3_64bits(rig.bytes, at));
	}

	checksum_stream_free(stream);
}

/* But of eight in a row one is not urgent. */
static void urgent_ones_go_first(void **state)
{
	(void)state;
	open_pool(1);
	hold_pool();
	for (unsigned i = 0; i < 3; i++)
		post('b', 0, BYTES, false);
	for (unsigned i = 0; i < 12; i++)
		post('u', 1, BYTES, true);
	release_pool();
	assert_int_equal(strspn(rig.order + 1, "u"), 6);
	assert_string_equal(rig.order + 7, "buuuuuubb");
}

static void payers_take_turns(void **state)
{
	(void)state;
	open_pool(1);
	hold_pool();
	for (unsigned i = 0; i < 4; i++)
		post('m', 1, LARGE, true);
	for (unsigned i = 0; i < 4; i++)
		post('f', 2, LARGE, true);
	release_pool();
	assert_true(strcmp(rig.order + 1, "mfmfmfmf") == 0 ||
		    strcmp(rig.order + 1, "fmfmfmfm") == 0);
}

/* A hastened one goes before those that are not urgent, and one that a thread has stays. */
static void one_is_hastened(void **state)
{
	(void)state;
	open_pool(1);
	hold_pool();
	for (unsigned i = 0; i < 4; i++)
		post('b', 0, BYTES, false);
	struct hash_job *last = post('h', 0, BYTES, false);
	hash_pool_hasten(&rig.entries[0].job, (struct fair_payer){.id = 3});
	hash_pool_hasten(last, (struct fair_payer){.id = 3});
	hash_pool_hasten(last, (struct fair_payer){.id = 4});
	release_pool();
	assert_string_equal(rig.order, "-hbbbb");
}

/* The loop runs no more: what ends then finds its owner, and no pool is left behind it. */
static void what_is_in_flight_ends_with_the_pool(void **state)
{
	(void)state;
	open_pool(1);
	for (unsigned i = 0; i < JOBS; i++)
		post('a', 0, LARGE, false);
	rig.pool = hash_pool_free(rig.pool);
	assert_int_equal(rig.done, JOBS);
	assert_int_equal(rig.batches, 0);
}

/* ---- NUMA nodes ---- */

/* Nodes 0 and 7 have a half of each tier: of staging, which begins at rig.bytes, and of DDR,
 * behind it. */
static struct tier staging, ddr;
static struct numa numa;

static void open_nodes(unsigned threads)
{
	staging = (struct tier){.host = rig.bytes,
				.capacity = LARGE,
				.divided = LARGE,
				.parts = {{.begin = 0}, {.begin = LARGE / 2}},
				.part_count = 2};
	ddr = staging;
	ddr.host += LARGE;
	numa = (struct numa){.count = 2, .ids = {0, 7}};

	const struct hash_pool_options options = {.loop = rig.loop,
						  .link_stats = rig.link_stats,
						  .threads = threads,
						  .numa = &numa,
						  .staging = &staging,
						  .ddr = &ddr};
	assert_int_equal(hash_pool_new(&rig.pool, &options), 0);
}

/* While the only thread of one node is held, those of the other do what is in its memory. */
static void jobs_go_to_their_memorys_node(void **state)
{
	(void)state;
	enum { HALF = LARGE / 2 };

	open_nodes(2);
	hold_pool(); /* memory of no node: the first does it */
	post_at(rig.bytes, 'a', 0, BYTES, true);
	post_at(rig.bytes + HALF, 'A', 0, BYTES, true);
	post_at(rig.bytes + LARGE, 'b', 0, BYTES, true);
	post_at(rig.bytes + LARGE + HALF, 'B', 0, BYTES, true);
	struct hash_job *last = post_at(rig.bytes + HALF - BYTES, 'c', 0, BYTES, false);
	hash_pool_hasten(last, (struct fair_payer){.id = 3});

	rig.stop_at = 2;
	assert_int_equal(loop_run(rig.loop), 0);
	assert_string_equal(rig.order, "AB");
	assert_int_equal(hash_pool_done(rig.pool, 0), 0);
	assert_int_equal(hash_pool_done(rig.pool, 1), 2 * BYTES);

	rig.stop_at = 0;
	release_pool();
	assert_int_equal(rig.done, 6);
	assert_int_equal(hash_pool_done(rig.pool, 0), 4 * BYTES);
	assert_int_equal(hash_pool_done(rig.pool, 1), 2 * BYTES);
	for (unsigned i = 1; i < rig.posted; i++) {
		const struct hash_job *job = &rig.entries[i].job;
		assert_int_equal(job->checksum, XXH3_64bits(job->host, job->bytes));
	}
}

static unsigned count_threads(const char *name)
{
	unsigned count = 0;
	DIR *folder = opendir("/proc/self/task");

	assert_non_null(folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		char path[300], comm[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		FILE *file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file))
			comm[strcspn(comm, "\n")] = '\0';
		count += strcmp(comm, name) == 0;
		fclose(file);
	}

	closedir(folder);

	return count;
}

/* Waits until the threads have begun, and so have their names. */
static void run_a_job_at_each(void)
{
	rig.posted = rig.done = 0;
	for (unsigned i = 0; i < JOBS; i++)
		post_at(rig.bytes + i % 2 * (LARGE / 2), 'a', i, 1, false);
	assert_int_equal(loop_run(rig.loop), 0);
}

/* As many as were asked for, one for each node at least. */
static void threads_are_shared_out(void **state)
{
	(void)state;
	static const unsigned asked[] = {1, 2, 3, 5}, first[] = {1, 1, 2, 3},
			      second[] = {1, 1, 1, 2};

	for (unsigned i = 0; i < 4; i++) {
		open_nodes(asked[i]);
		while (count_threads("hash-0") + count_threads("hash-7") < first[i] + second[i])
			run_a_job_at_each();
		assert_int_equal(count_threads("hash-0"), first[i]);
		assert_int_equal(count_threads("hash-7"), second[i]);
		rig.pool = hash_pool_free(rig.pool);
	}

	assert_int_equal(hash_pool_bytes(1, 2), hash_pool_bytes(2, 1));
	assert_int_equal(hash_pool_bytes(3, 2), hash_pool_bytes(3, 1));
	assert_int_equal(hash_pool_bytes(0, 2), 2 * hash_pool_bytes(0, 1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_checksums_are_right),
		TEST(a_stream_is_as_one),
		TEST(urgent_ones_go_first),
		TEST(payers_take_turns),
		TEST(one_is_hastened),
		TEST(what_is_in_flight_ends_with_the_pool),
		TEST(jobs_go_to_their_memorys_node),
		TEST(threads_are_shared_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
