/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes of the NVMe tier on a real file, with both engines of the loop:
 * contents, joining of neighbours, faults of the n-th I/O for every n. Each operation's
 * done() must be called exactly once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/tier/nvme_io.h"
#include "tests/support/nvme_io_rig.h"
#include "tests/support/seed.h"

static void check_joining(enum loop_engine engine)
{
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 4, 16 * NVME_IO_BLOCK, "");
	uint64_t intervals;
	nvme_io_rig_write_all(rig, 1); /* ascending */
	assert_int_equal(nvme_io_rig_ios(rig, HBM_LINK_NVME_WRITE, &intervals), NVME_IO_BLOCKS);
	assert_int_equal(intervals, NVME_IO_BLOCKS / 16);
	nvme_io_rig_forget(rig);
	for (uint64_t block = NVME_IO_BLOCKS; block-- > 0;) /* descending */
		nvme_io_rig_submit(rig, false, block, 1, false);
	nvme_io_rig_run(rig);
	assert_int_equal(nvme_io_rig_ios(rig, HBM_LINK_NVME_READ, &intervals), NVME_IO_BLOCKS);
	assert_int_equal(intervals, NVME_IO_BLOCKS / 16);
	for (unsigned i = 0; i < NVME_IO_BLOCKS; i++)
		nvme_io_rig_assert_block(rig->works[i].op.memory, NVME_IO_BLOCKS - 1 - i, 1);
	nvme_io_rig_forget(rig);
	for (uint64_t block = 0; block < NVME_IO_BLOCKS; block += 2) /* no neighbours */
		nvme_io_rig_submit(rig, false, block, 1, false);
	nvme_io_rig_run(rig);
	nvme_io_rig_ios(rig, HBM_LINK_NVME_READ, &intervals);
	assert_int_equal(intervals, NVME_IO_BLOCKS / 16 + NVME_IO_BLOCKS / 2);
	nvme_io_rig_free(rig);
}

/* No more than the depth are in flight, whether it is fixed or found by trying. */
static void check_depth(enum loop_engine engine)
{
	static const unsigned depths[] = {1, 5, 0};
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, NVME_IO_BLOCK, "");

	for (unsigned i = 0; i < 3; i++) {
		unsigned begun = 0;

		nvme_io_rig_reopen(rig, depths[i], NVME_IO_BLOCK, "");
		nvme_io_rig_forget(rig);
		for (uint64_t block = 0; block < NVME_IO_BLOCKS; block++)
			nvme_io_rig_submit(rig, block % 2, block, 1, block % 3);
		nvme_io_dispatch(rig->nvme_io);
		for (unsigned n = 0; n < rig->used; n++)
			begun += rig->works[n].op.begun > 0;
		assert_int_equal(begun, depths[i] > 0 ? depths[i] : NVME_IO_DEPTH_MAX);
		assert_int_equal(nvme_flight_depth(nvme_io_flight(rig->nvme_io)), begun);
		nvme_io_rig_run(rig);
	}

	nvme_io_rig_free(rig);
}

/* Reads and writes of random blocks and sizes, none of a block that is being written. */
static void check_random(enum loop_engine engine)
{
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);
	struct seed seed;

	seed_open(&seed, "check_random");
	nvme_io_rig_open(rig, 3, 8 * NVME_IO_BLOCK, "");
	unsigned version[NVME_IO_BLOCKS];
	nvme_io_rig_write_all(rig, 0);
	memset(version, 0, sizeof(version));

	for (unsigned round = 1; round <= 100; round++) {
		bool used[NVME_IO_BLOCKS] = {false};
		uint64_t first[64];

		nvme_io_rig_forget(rig);

		for (unsigned i = 0; i < 64; i++) {
			uint64_t block = seed_below(&seed, NVME_IO_BLOCKS);
			bool write = seed_below(&seed, 2) == 0;

			first[i] = used[block] ? NVME_IO_BLOCKS : block;
			if (used[block])
				block = NVME_IO_BLOCKS - 1; /* a read that nobody looks at */

			struct nvme_io_work *work =
				nvme_io_rig_submit(rig, write && first[i] < NVME_IO_BLOCKS, block,
						   1, seed_below(&seed, 2));
			if (work->op.write)
				nvme_io_rig_fill(work->op.memory, block, version[block] = round);

			used[block] = true;
			if (seed_below(&seed, 8) == 0)
				nvme_io_dispatch(rig->nvme_io);
		}

		nvme_io_rig_run(rig);

		for (unsigned i = 0; i < 64; i++) {
			assert_int_equal(rig->works[i].op.error, 0);
			if (!rig->works[i].op.write && first[i] < NVME_IO_BLOCKS - 1)
				nvme_io_rig_assert_block(rig->works[i].op.memory, first[i],
							 version[first[i]]);
		}
	}

	nvme_io_rig_free(rig);
}

/* Eight operations in two runs, of whose I/Os the n-th does what it is told: how many
 * operations failed. */
static unsigned fail_nth(struct nvme_io_rig *rig, bool write, unsigned nth, const char *what)
{
	char fault[64];

	snprintf(fault, sizeof(fault), "%s:%u:%s", write ? "write" : "read", nth, what);
	nvme_io_rig_reopen(rig, 2, 4 * NVME_IO_BLOCK, fault);
	nvme_io_rig_forget(rig);
	for (uint64_t block = 0; block < 8; block++)
		nvme_io_rig_fill(nvme_io_rig_submit(rig, write, block, 1, true)->op.memory, block,
				 write ? nth : 999);
	nvme_io_rig_run(rig);
	unsigned failed = 0;
	for (unsigned i = 0; i < 8; i++)
		failed += rig->works[i].op.error != 0;

	return failed;
}

static void check_contents(struct nvme_io_rig *rig, unsigned version)
{
	nvme_io_rig_reopen(rig, 2, 4 * NVME_IO_BLOCK, "");
	nvme_io_rig_forget(rig);
	for (uint64_t block = 0; block < 8; block++)
		nvme_io_rig_submit(rig, false, block, 1, true);
	nvme_io_rig_run(rig);
	for (unsigned i = 0; i < 8; i++)
		nvme_io_rig_assert_block(rig->works[i].op.memory, i, version);
}

/* A fault that passes costs nobody anything: the run is tried again, in part or each
 * operation alone. */
static void check_passing_faults(enum loop_engine engine)
{
	static const char *const what[] = {"EIO", "short", "EINTR", "ENOSPC"};
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 2, 4 * NVME_IO_BLOCK, "");
	nvme_io_rig_write_all(rig, 1);

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			assert_int_equal(fail_nth(rig, false, nth, what[w]), 0);
			for (unsigned i = 0; i < 8; i++)
				nvme_io_rig_assert_block(rig->works[i].op.memory, i, 1);
		}
	}

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			assert_int_equal(fail_nth(rig, true, nth, what[w]), 0);
			check_contents(rig, nth);
			nvme_io_rig_write_all(rig, 1);
		}
	}

	nvme_io_rig_free(rig);
}

/* The first I/O, of four joined operations, fails; then the n-th of those that take it
 * apart: that costs one. */
static void check_lasting_fault(enum loop_engine engine)
{
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, 4 * NVME_IO_BLOCK, "");
	nvme_io_rig_write_all(rig, 1);

	for (unsigned nth = 2; nth <= 5; nth++) {
		char fault[64];

		snprintf(fault, sizeof(fault), "read:1:EIO,read:%u:EIO", nth);
		nvme_io_rig_reopen(rig, 1, 4 * NVME_IO_BLOCK, fault);
		nvme_io_rig_forget(rig);
		for (uint64_t block = 0; block < 4; block++)
			memset(nvme_io_rig_submit(rig, false, block, 1, true)->op.memory, 0,
			       NVME_IO_BLOCK);
		nvme_io_rig_run(rig);
		unsigned failed = 0;
		for (unsigned i = 0; i < 4; i++) {
			failed += rig->works[i].op.error == -EIO;
			if (rig->works[i].op.error == 0)
				nvme_io_rig_assert_block(rig->works[i].op.memory, i, 1);
		}

		assert_int_equal(failed, 1);
		assert_int_equal(rig->works[nth - 2].op.error, -EIO);
	}

	nvme_io_rig_free(rig);
}

static void check_faults_that_do_not_pass(enum loop_engine engine)
{
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, 4 * NVME_IO_BLOCK,
			 "read:1:EINTR,read:2:EINTR,read:3:EINTR,read:4:EINTR");
	nvme_io_rig_submit(rig, false, 0, 1, true);
	nvme_io_rig_run(rig);
	assert_int_equal(rig->works[0].op.error, -EINTR);
	nvme_io_rig_reopen(rig, 1, 4 * NVME_IO_BLOCK,
			   "read:1:short,read:2:short,read:3:short,read:4:short");
	nvme_io_rig_forget(rig);
	nvme_io_rig_submit(rig, false, 0, 1, true);
	nvme_io_rig_run(rig);
	assert_int_equal(rig->works[0].op.error, -EIO);
	nvme_io_rig_free(rig);
}

/* A read beyond the end is an error, not a wait. */
static void check_end_of_file(enum loop_engine engine)
{
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, 4 * NVME_IO_BLOCK, "");
	for (uint64_t block = NVME_IO_BLOCKS - 2; block < NVME_IO_BLOCKS + 2; block++)
		nvme_io_rig_submit(rig, false, block, 1, true);
	nvme_io_rig_run(rig);
	assert_int_equal(rig->works[0].op.error, 0);
	assert_int_equal(rig->works[1].op.error, 0);
	assert_int_equal(rig->works[2].op.error, -EIO);
	assert_int_equal(rig->works[3].op.error, -EIO);
	nvme_io_rig_free(rig);
}

/* What is larger than an I/O is moved in pieces, whatever happens to one of them; it joins no
 * neighbour. The small one goes first. */
static void check_pieces(enum loop_engine engine)
{
	enum { LARGE = 10 };
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);
	uint64_t before, after;

	nvme_io_rig_open(rig, 1, 4 * NVME_IO_BLOCK, "");
	nvme_io_rig_write_all(rig, 7);

	for (unsigned nth = 0; nth <= 5; nth++) {
		char fault[64] = "";
		if (nth > 0)
			snprintf(fault, sizeof(fault), "read:%u:%s", nth,
				 nth < 5 ? "EIO" : "EINTR");
		nvme_io_rig_reopen(rig, 1, 4 * NVME_IO_BLOCK, fault);
		nvme_io_rig_forget(rig);
		nvme_io_rig_ios(rig, HBM_LINK_NVME_READ, &before);
		struct nvme_io_work *large = nvme_io_rig_submit(rig, false, 20, LARGE, true);
		rig->used += LARGE - 1; /* its memory */
		for (unsigned i = 1; i < LARGE; i++)
			rig->works[i] = (struct nvme_io_work){.over = 1};
		rig->ended += LARGE - 1;
		nvme_io_rig_submit(rig, false, 20 + LARGE, 1, true);
		memset(large->op.memory, 0, LARGE * NVME_IO_BLOCK);
		nvme_io_rig_run(rig);
		nvme_io_rig_ios(rig, HBM_LINK_NVME_READ, &after);
		assert_int_equal(after - before, 3 + 1);
		assert_int_equal(large->op.error, nth >= 2 && nth <= 4 ? -EIO : 0);
		for (unsigned i = 0; i < LARGE && large->op.error == 0; i++)
			nvme_io_rig_assert_block(large->op.memory + i * NVME_IO_BLOCK, 20 + i, 7);
		assert_int_equal(rig->works[LARGE].op.error, nth == 1 ? -EIO : 0);
		if (nth != 1)
			nvme_io_rig_assert_block(rig->works[LARGE].op.memory, 20 + LARGE, 7);
	}

	nvme_io_rig_free(rig);
}

static void test_neighbours_are_joined(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_joining);
}

static void test_random_operations(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_random);
}

static void test_faults_that_pass_cost_nothing(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_passing_faults);
}

static void test_a_lasting_fault_costs_one_operation(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_lasting_fault);
}

static void test_retries_are_bounded(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_faults_that_do_not_pass);
}

static void test_the_end_of_the_file(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_end_of_file);
}

static void test_no_more_than_the_depth(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_depth);
}

static void test_large_operations_in_pieces(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_pieces);
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
		cmocka_unit_test(test_large_operations_in_pieces),
		cmocka_unit_test(test_no_more_than_the_depth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
