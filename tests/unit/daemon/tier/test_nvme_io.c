/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes of the NVMe tier on a real file, with both engines of the loop:
 * contents, joining of neighbours, faults of the n-th I/O for every n, order. Each
 * operation's done() must be called exactly once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/tier/nvme_io.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

enum { BLOCKS = 256, OPS = 4096 };
#define BLOCK 4096ull
#define START (3 * BLOCK)
#define PATIENCE 20000000000ull

struct bench;

struct work {
	struct nvme_op op;
	struct bench *bench;
	unsigned over; /* how often done() was called */
	unsigned turn; /* as which it ended */
};

struct bench {
	struct leaks leaks;
	struct loop *loop;
	struct link_stats *link_stats;
	struct nvme_io *nvme_io;
	int fd;
	struct timer watchdog;
	struct work works[OPS];
	unsigned used, ended;
	char *memory; /* a block for each work */
};

static void over(struct nvme_op *op)
{
	struct work *work = container_of(op, struct work, op);
	work->over++;
	work->turn = work->bench->ended++;
	if (work->bench->ended == work->bench->used)
		loop_stop(work->bench->loop);
}

static void batch_done(void *arg)
{
	struct bench *bench = arg;
	nvme_io_dispatch(bench->nvme_io);
}

static void too_long(struct timer *timer)
{
	struct bench *bench = container_of(timer, struct bench, watchdog);
	print_error("%u of %u operations have ended\n", bench->ended, bench->used);
	fail();
}

static void open_nvme_io(struct bench *bench, unsigned depth, uint64_t merge, const char *fault)
{
	struct nvme_faults faults;
	char error[128];
	assert_int_equal(nvme_faults_parse(&faults, fault, &(struct reason){error, sizeof(error)}),
			 0);
	const struct nvme_io_options options = {.loop = bench->loop,
						.link_stats = bench->link_stats,
						.fd = bench->fd,
						.start = START,
						.depth = depth,
						.merge = merge,
						.faults = &faults};
	assert_int_equal(nvme_io_new(&bench->nvme_io, &options), 0);
	nvme_io_on_batch(bench->nvme_io, batch_done, bench);
}

static struct bench *bench_new(enum loop_engine engine)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	leaks_begin(&bench->leaks);
	log_open(LOG_CRIT);
	assert_int_equal(
		loop_new(&bench->loop, &(struct loop_options){.engine = engine, .io_depth = 8}), 0);
	assert_int_equal(link_stats_new(&bench->link_stats), 0);
	char path[] = "/var/tmp/hbmd-disk-XXXXXX";
	int fd = mkstemp(path);
	assert_in_range(fd, 0, INT32_MAX);
	assert_int_equal(ftruncate(fd, START + BLOCKS * BLOCK), 0);
	close(fd);
	bench->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (bench->fd < 0)
		bench->fd = open(path, O_RDWR | O_CLOEXEC);

	assert_in_range(bench->fd, 0, INT32_MAX);
	unlink(path);
	bench->memory = aligned_alloc(BLOCK, OPS * BLOCK);
	assert_non_null(bench->memory);
	bench->watchdog.fire = too_long;

	return bench;
}

/* What lies before the disk's first byte is not its own. */
static void assert_head_untouched(const struct bench *bench)
{
	static const char nothing[START];
	assert_int_equal(pread(bench->fd, bench->memory, START, 0), START);
	assert_memory_equal(bench->memory, nothing, START);
}

static void bench_free(struct bench *bench)
{
	bench->nvme_io = nvme_io_free(bench->nvme_io);
	assert_head_untouched(bench);
	bench->loop = loop_free(bench->loop);
	bench->link_stats = link_stats_free(bench->link_stats);
	close(bench->fd);
	free(bench->memory);
	struct leaks leaks = bench->leaks;
	free(bench);
	assert_int_equal(leaks_end(&leaks), 0);
}

/* A new disk on the same file. */
static void reopen(struct bench *bench, unsigned depth, uint64_t merge, const char *fault)
{
	bench->nvme_io = nvme_io_free(bench->nvme_io);
	open_nvme_io(bench, depth, merge, fault);
}

static struct work *submit_for(struct bench *bench, uint64_t payer, bool write, uint64_t block,
			       uint64_t blocks, bool urgent)
{
	uint32_t nth = bench->used;

	assert_in_range(nth + blocks, 1, OPS);
	struct work *work = &bench->works[nth];
	*work = (struct work){.bench = bench};
	work->op = (struct nvme_op){.payer = {.id = payer},
				    .write = write,
				    .offset = block * BLOCK,
				    .bytes = blocks * BLOCK,
				    .memory = bench->memory + nth * BLOCK,
				    .done = over};
	bench->used++;
	nvme_io_submit(bench->nvme_io, &work->op, urgent);

	return work;
}

static struct work *submit(struct bench *bench, bool write, uint64_t block, uint64_t blocks,
			   bool urgent)
{
	return submit_for(bench, 0, write, block, blocks, urgent);
}

static void run(struct bench *bench)
{
	nvme_io_dispatch(bench->nvme_io);
	assert_int_equal(loop_timer_set(bench->loop, &bench->watchdog, clock_now() + PATIENCE), 0);
	if (bench->ended < bench->used)
		assert_int_equal(loop_run(bench->loop), 0);

	loop_timer_stop(bench->loop, &bench->watchdog);
	assert_int_equal(bench->ended, bench->used);
	for (unsigned i = 0; i < bench->used; i++)
		assert_int_equal(bench->works[i].over, 1);
}

static void forget(struct bench *bench)
{
	bench->used = bench->ended = 0;
}

static void fill(char *memory, uint64_t block, unsigned version)
{
	uint64_t *words = (uint64_t *)(void *)memory;
	for (uint64_t i = 0; i < BLOCK / sizeof(*words); i++)
		words[i] = (block << 32 | version) * 0x9e3779b97f4a7c15u + i;
}

static void assert_block(const char *memory, uint64_t block, unsigned version)
{
	char expected[BLOCK];
	fill(expected, block, version);
	assert_memory_equal(memory, expected, BLOCK);
}

static uint64_t ios(struct bench *bench, enum hbm_link link, uint64_t *intervals)
{
	struct hbm_wire_interval kept[64];
	uint64_t cursor = 0;
	struct hbm_wire_link record;

	link_stats_link(bench->link_stats, link, &record);
	*intervals = 0;
	for (uint32_t count;
	     (count = link_stats_intervals(bench->link_stats, &cursor, kept, 64)) > 0;
	     cursor += count)
		for (uint32_t i = 0; i < count; i++)
			*intervals += kept[i].link == link;

	return record.count;
}

static void write_all(struct bench *bench, unsigned version)
{
	forget(bench);
	for (uint64_t block = 0; block < BLOCKS; block++)
		fill(submit(bench, true, block, 1, false)->op.memory, block, version);
	run(bench);
}

/* ---- tests, for an engine ---- */

static void check_joining(enum loop_engine engine)
{
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 4, 16 * BLOCK, "");
	uint64_t intervals;
	write_all(bench, 1); /* ascending */
	assert_int_equal(ios(bench, HBM_LINK_NVME_WRITE, &intervals), BLOCKS);
	assert_int_equal(intervals, BLOCKS / 16);
	forget(bench);
	for (uint64_t block = BLOCKS; block-- > 0;) /* descending */
		submit(bench, false, block, 1, false);
	run(bench);
	assert_int_equal(ios(bench, HBM_LINK_NVME_READ, &intervals), BLOCKS);
	assert_int_equal(intervals, BLOCKS / 16);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_block(bench->works[i].op.memory, BLOCKS - 1 - i, 1);
	forget(bench);
	for (uint64_t block = 0; block < BLOCKS; block += 2) /* no neighbours */
		submit(bench, false, block, 1, false);
	run(bench);
	ios(bench, HBM_LINK_NVME_READ, &intervals);
	assert_int_equal(intervals, BLOCKS / 16 + BLOCKS / 2);
	bench_free(bench);
}

/* Reads and writes of random blocks and sizes, none of a block that is being written. */
static void check_random(enum loop_engine engine)
{
	struct bench *bench = bench_new(engine);
	struct seed seed;

	seed_open(&seed, "check_random");
	open_nvme_io(bench, 3, 8 * BLOCK, "");
	unsigned version[BLOCKS];
	write_all(bench, 0);
	memset(version, 0, sizeof(version));

	for (unsigned round = 1; round <= 100; round++) {
		bool used[BLOCKS] = {false};
		uint64_t first[64];

		forget(bench);

		for (unsigned i = 0; i < 64; i++) {
			uint64_t block = seed_below(&seed, BLOCKS);
			bool write = seed_below(&seed, 2) == 0;

			first[i] = used[block] ? BLOCKS : block;
			if (used[block])
				block = BLOCKS - 1; /* a read that nobody looks at */

			struct work *work = submit(bench, write && first[i] < BLOCKS, block, 1,
						   seed_below(&seed, 2));
			if (work->op.write)
				fill(work->op.memory, block, version[block] = round);

			used[block] = true;
			if (seed_below(&seed, 8) == 0)
				nvme_io_dispatch(bench->nvme_io);
		}

		run(bench);

		for (unsigned i = 0; i < 64; i++) {
			assert_int_equal(bench->works[i].op.error, 0);
			if (!bench->works[i].op.write && first[i] < BLOCKS - 1)
				assert_block(bench->works[i].op.memory, first[i],
					     version[first[i]]);
		}
	}

	bench_free(bench);
}

/* Eight operations in two runs, of whose I/Os the n-th does what it is told: how many
 * operations failed. */
static unsigned fail_nth(struct bench *bench, bool write, unsigned nth, const char *what)
{
	char fault[64];

	snprintf(fault, sizeof(fault), "%s:%u:%s", write ? "write" : "read", nth, what);
	reopen(bench, 2, 4 * BLOCK, fault);
	forget(bench);
	for (uint64_t block = 0; block < 8; block++)
		fill(submit(bench, write, block, 1, true)->op.memory, block, write ? nth : 999);
	run(bench);
	unsigned failed = 0;
	for (unsigned i = 0; i < 8; i++)
		failed += bench->works[i].op.error != 0;

	return failed;
}

static void check_contents(struct bench *bench, unsigned version)
{
	reopen(bench, 2, 4 * BLOCK, "");
	forget(bench);
	for (uint64_t block = 0; block < 8; block++)
		submit(bench, false, block, 1, true);
	run(bench);
	for (unsigned i = 0; i < 8; i++)
		assert_block(bench->works[i].op.memory, i, version);
}

/* A fault that passes costs nobody anything: the run is tried again, in part or each
 * operation alone. */
static void check_passing_faults(enum loop_engine engine)
{
	static const char *const what[] = {"EIO", "short", "EINTR", "ENOSPC"};
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 2, 4 * BLOCK, "");
	write_all(bench, 1);

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			assert_int_equal(fail_nth(bench, false, nth, what[w]), 0);
			for (unsigned i = 0; i < 8; i++)
				assert_block(bench->works[i].op.memory, i, 1);
		}
	}

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			assert_int_equal(fail_nth(bench, true, nth, what[w]), 0);
			check_contents(bench, nth);
			write_all(bench, 1);
		}
	}

	bench_free(bench);
}

/* The first I/O, of four joined operations, fails; then the n-th of those that take it
 * apart: that costs one. */
static void check_lasting_fault(enum loop_engine engine)
{
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, 4 * BLOCK, "");
	write_all(bench, 1);

	for (unsigned nth = 2; nth <= 5; nth++) {
		char fault[64];

		snprintf(fault, sizeof(fault), "read:1:EIO,read:%u:EIO", nth);
		reopen(bench, 1, 4 * BLOCK, fault);
		forget(bench);
		for (uint64_t block = 0; block < 4; block++)
			memset(submit(bench, false, block, 1, true)->op.memory, 0, BLOCK);
		run(bench);
		unsigned failed = 0;
		for (unsigned i = 0; i < 4; i++) {
			failed += bench->works[i].op.error == -EIO;
			if (bench->works[i].op.error == 0)
				assert_block(bench->works[i].op.memory, i, 1);
		}

		assert_int_equal(failed, 1);
		assert_int_equal(bench->works[nth - 2].op.error, -EIO);
	}

	bench_free(bench);
}

static void check_faults_that_do_not_pass(enum loop_engine engine)
{
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, 4 * BLOCK, "read:1:EINTR,read:2:EINTR,read:3:EINTR,read:4:EINTR");
	submit(bench, false, 0, 1, true);
	run(bench);
	assert_int_equal(bench->works[0].op.error, -EINTR);
	reopen(bench, 1, 4 * BLOCK, "read:1:short,read:2:short,read:3:short,read:4:short");
	forget(bench);
	submit(bench, false, 0, 1, true);
	run(bench);
	assert_int_equal(bench->works[0].op.error, -EIO);
	bench_free(bench);
}

/* A read beyond the end is an error, not a wait. */
static void check_end_of_file(enum loop_engine engine)
{
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, 4 * BLOCK, "");
	for (uint64_t block = BLOCKS - 2; block < BLOCKS + 2; block++)
		submit(bench, false, block, 1, true);
	run(bench);
	assert_int_equal(bench->works[0].op.error, 0);
	assert_int_equal(bench->works[1].op.error, 0);
	assert_int_equal(bench->works[2].op.error, -EIO);
	assert_int_equal(bench->works[3].op.error, -EIO);
	bench_free(bench);
}

/* What is waited for goes first, but the others get one I/O in eight. */
static void check_order(enum loop_engine engine)
{
	enum { EACH = 40 };
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, BLOCK, "");
	for (uint64_t i = 0; i < EACH; i++)
		submit(bench, i % 2 == 0, 2 * i, 1, false);
	for (uint64_t i = 0; i < EACH; i++)
		submit(bench, i % 2 == 0, 2 * (EACH + i), 1, true);
	run(bench);
	unsigned early = 0; /* background ones that ended before the last urgent one */
	unsigned last = 0;
	for (unsigned i = EACH; i < 2 * EACH; i++)
		last = bench->works[i].turn > last ? bench->works[i].turn : last;
	for (unsigned i = 0; i < EACH; i++)
		early += bench->works[i].turn < last;
	assert_in_range(early, 4, 7);
	bench_free(bench);
}

/* Beside 25 operations of one payer, each of two I/Os, another's waits for what has been
 * started and for a turn of the first. */
static void check_turns(enum loop_engine engine)
{
	enum { LARGE = 25, EACH = 8 };
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, EACH / 2 * BLOCK, "");
	for (uint64_t i = 0; i < LARGE; i++)
		submit_for(bench, 1, false, i * EACH, EACH, true);
	nvme_io_dispatch(bench->nvme_io);
	const struct work *late = submit_for(bench, 2, false, LARGE * EACH, EACH, true);
	run(bench);
	assert_in_range(late->turn, 0, 2);
	bench_free(bench);
}

/* What was background becomes urgent, whole or half done; what has been issued stays. */
static void check_hastening(enum loop_engine engine)
{
	enum { EACH = 40 };
	struct bench *bench = bench_new(engine);

	open_nvme_io(bench, 1, 2 * BLOCK, "");
	for (uint64_t i = 0; i < EACH; i++)
		submit(bench, false, 6 * i, 4, false);
	nvme_io_dispatch(bench->nvme_io);
	nvme_io_hasten(bench->nvme_io, &bench->works[0].op, (struct fair_payer){.id = 1});
	nvme_io_hasten(bench->nvme_io, &bench->works[EACH - 1].op, (struct fair_payer){.id = 2});

	run(bench);
	assert_in_range(bench->works[0].turn, 0, 1);
	assert_in_range(bench->works[EACH - 1].turn, 0, 1);
	nvme_io_hasten(bench->nvme_io, &bench->works[1].op, (struct fair_payer){.id = 1});
	bench_free(bench);
}

/* What is larger than an I/O is moved in pieces, whatever happens to one of them; it joins no
 * neighbour. The small one goes first. */
static void check_pieces(enum loop_engine engine)
{
	enum { LARGE = 10 };
	struct bench *bench = bench_new(engine);
	uint64_t before, after;

	open_nvme_io(bench, 1, 4 * BLOCK, "");
	write_all(bench, 7);

	for (unsigned nth = 0; nth <= 5; nth++) {
		char fault[64] = "";
		if (nth > 0)
			snprintf(fault, sizeof(fault), "read:%u:%s", nth,
				 nth < 5 ? "EIO" : "EINTR");
		reopen(bench, 1, 4 * BLOCK, fault);
		forget(bench);
		ios(bench, HBM_LINK_NVME_READ, &before);
		struct work *large = submit(bench, false, 20, LARGE, true);
		bench->used += LARGE - 1; /* its memory */
		for (unsigned i = 1; i < LARGE; i++)
			bench->works[i] = (struct work){.over = 1};
		bench->ended += LARGE - 1;
		submit(bench, false, 20 + LARGE, 1, true);
		memset(large->op.memory, 0, LARGE * BLOCK);
		run(bench);
		ios(bench, HBM_LINK_NVME_READ, &after);
		assert_int_equal(after - before, 3 + 1);
		assert_int_equal(large->op.error, nth >= 2 && nth <= 4 ? -EIO : 0);
		for (unsigned i = 0; i < LARGE && large->op.error == 0; i++)
			assert_block(large->op.memory + i * BLOCK, 20 + i, 7);
		assert_int_equal(bench->works[LARGE].op.error, nth == 1 ? -EIO : 0);
		if (nth != 1)
			assert_block(bench->works[LARGE].op.memory, 20 + LARGE, 7);
	}

	bench_free(bench);
}

static void for_both(void (*check)(enum loop_engine engine))
{
	struct loop *loop = NULL;

	check(LOOP_THREADS);

	if (loop_new(&loop, &(struct loop_options){.engine = LOOP_URING, .io_depth = 1}) < 0) {
		print_message("io_uring is not available here: only the threads are tested\n");
		return;
	}

	loop_free(loop);
	check(LOOP_URING);
}

static void test_neighbours_are_joined(void **state)
{
	(void)state;
	for_both(check_joining);
}

static void test_random_operations(void **state)
{
	(void)state;
	for_both(check_random);
}

static void test_faults_that_pass_cost_nothing(void **state)
{
	(void)state;
	for_both(check_passing_faults);
}

static void test_a_lasting_fault_costs_one_operation(void **state)
{
	(void)state;
	for_both(check_lasting_fault);
}

static void test_retries_are_bounded(void **state)
{
	(void)state;
	for_both(check_faults_that_do_not_pass);
}

static void test_the_end_of_the_file(void **state)
{
	(void)state;
	for_both(check_end_of_file);
}

static void test_urgent_before_background(void **state)
{
	(void)state;
	for_both(check_order);
}

static void test_payers_take_turns(void **state)
{
	(void)state;
	for_both(check_turns);
}

static void test_background_becomes_urgent(void **state)
{
	(void)state;
	for_both(check_hastening);
}

static void test_large_operations_in_pieces(void **state)
{
	(void)state;
	for_both(check_pieces);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbours_are_joined),
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_faults_that_pass_cost_nothing),
		cmocka_unit_test(test_a_lasting_fault_costs_one_operation),
		cmocka_unit_test(test_retries_are_bounded),
		cmocka_unit_test(test_the_end_of_the_file),
		cmocka_unit_test(test_urgent_before_background),
		cmocka_unit_test(test_payers_take_turns),
		cmocka_unit_test(test_large_operations_in_pieces),
		cmocka_unit_test(test_background_becomes_urgent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
