/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that begin with the tokens of another, end to end: what they share, what they
 * copy, and what each of them sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>
#include <string.h>

static struct pool_rig rig;
static unsigned fds;

static void start(const char *layout)
{
	const struct hbm_pool_options options = {.max_sequences = 8};

	if (daemon_.pid == 0) {
		spawn_start(&daemon_, NULL, NULL);
		fds = spawn_fds(&daemon_);
	}
	pool_rig_open(&rig, &daemon_, layout, &options);
}

static void finish(void)
{
	pool_rig_close(&rig);
	stage_finish(fds);
}

static struct hbm_sequence *filled(uint64_t tokens)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, sequence, tokens), 0);
	for (uint64_t i = 0; i < tokens; i++)
		pool_rig_write(&rig, sequence, i, i);

	return sequence;
}

static void grow(struct hbm_sequence *sequence, uint64_t from, uint64_t to, uint64_t value)
{
	assert_int_equal(pool_rig_step(&rig, sequence, to), 0);
	for (uint64_t i = from; i < to; i++)
		pool_rig_write(&rig, sequence, i, value + i);
}

/* Tokens up to `own` are the parent's; those from there to `end` are with `value`. */
static void expect(struct hbm_sequence *sequence, uint64_t own, uint64_t end, uint64_t value)
{
	for (uint64_t i = 0; i < end; i++)
		pool_rig_expect(&rig, sequence, i, i < own ? i : value + i);
}

static void test_forks_share_what_is_full_and_go_their_own_way(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		struct hbm_sequence *parent = filled(37), *forks[3];

		assert_int_equal(hbm_sequence_fork(parent, 3, forks), 0);
		for (size_t i = 0; i < 3; i++) {
			assert_int_equal(pool_rig_facts(forks[i]).tokens, 37);
			assert_true(pool_rig_facts(forks[i]).address !=
				    pool_rig_facts(parent).address);
		}

		/* The parent first: what it writes is in none of them. */
		grow(parent, 37, 50, 1000);
		for (size_t i = 0; i < 3; i++)
			grow(forks[i], 37, 45 + i, 2000 + 100 * i);
		expect(parent, 37, 50, 1000);
		for (size_t i = 0; i < 3; i++)
			expect(forks[i], 37, 45 + i, 2000 + 100 * i);

		/* Those that are left keep what they share. */
		assert_int_equal(hbm_sequence_close(parent), 0);
		assert_int_equal(hbm_sequence_close(forks[1]), 0);
		expect(forks[0], 37, 45, 2000);
		expect(forks[2], 37, 47, 2200);
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

static void test_a_fork_of_a_long_prefix_maps_no_more_than_of_a_short_one(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	const uint64_t lengths[] = {13, 63};
	uint64_t mapped[2];

	for (size_t i = 0; i < 2; i++) {
		struct hbm_sequence *parent = filled(lengths[i]), *fork;
		const uint64_t leased = pool_rig_leased(&rig);

		assert_int_equal(hbm_sequence_fork(parent, 1, &fork), 0);
		mapped[i] = pool_rig_facts(fork).mapped_bytes;
		assert_int_equal(pool_rig_leased(&rig), leased + mapped[i]);

		/* What it shares is mapped by the next map-ahead, and takes no memory. */
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		assert_true(pool_rig_facts(fork).ready >= lengths[i]);
		assert_int_equal(pool_rig_facts(fork).shared_bytes,
				 pool_rig_facts(parent).shared_bytes);
		assert_true(pool_rig_facts(fork).mapped_bytes > mapped[i]);
		assert_int_equal(pool_rig_leased(&rig), pool_rig_facts(parent).mapped_bytes +
								pool_rig_facts(fork).mapped_bytes -
								pool_rig_facts(fork).shared_bytes);
		expect(fork, lengths[i], lengths[i], 0);
		assert_int_equal(hbm_sequence_close(parent), 0);
		assert_int_equal(hbm_sequence_close(fork), 0);
	}
	assert_int_equal(mapped[0], mapped[1]);
	finish();
}

static void test_who_grows_into_a_shared_slab_copies_it(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		struct hbm_sequence *parent = filled(60), *forks[2];

		assert_int_equal(hbm_sequence_fork(parent, 2, forks), 0);
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);

		/* One fork, then the parent: into the same slab. */
		struct hbm_layout_use use;
		hbm_layout_use(rig.layout, 23, &use);
		assert_int_equal(hbm_sequence_truncate(forks[0], 23), 0);
		if (!strstr(*layout, "window"))
			assert_int_equal(pool_rig_facts(forks[0]).mapped_bytes, use.mapped_bytes);
		grow(forks[0], 23, 40, 1000);
		expect(parent, 60, 60, 0);
		expect(forks[1], 60, 60, 0);
		assert_int_equal(hbm_sequence_truncate(parent, 22), 0);
		grow(parent, 22, 30, 2000);
		expect(parent, 22, 30, 2000);
		expect(forks[0], 23, 40, 1000);
		expect(forks[1], 60, 60, 0);

		/* The last one has its slabs for itself, and copies nothing. */
		assert_int_equal(hbm_sequence_close(parent), 0);
		assert_int_equal(hbm_sequence_close(forks[0]), 0);
		assert_int_equal(pool_rig_facts(forks[1]).shared_bytes, 0);
		assert_int_equal(hbm_sequence_truncate(forks[1], 24), 0);
		const uint64_t leased = pool_rig_leased(&rig);
		grow(forks[1], 24, 25, 3000);
		assert_int_equal(pool_rig_leased(&rig), leased);
		expect(forks[1], 24, 25, 3000);
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

/* A fork that nothing has mapped yet: everything that may happen to it and its source. */
static void test_forks_that_are_not_mapped_yet(void **state)
{
	(void)state;
	enum { CLOSE, TRUNCATE, SLIDE, FORK, CLOSE_FORK, CASES };

	start(pool_rig_layouts[0]);
	for (unsigned what = 0; what < CASES; what++) {
		struct hbm_sequence *parent = filled(45), *fork, *second = NULL;

		assert_int_equal(hbm_sequence_fork(parent, 1, &fork), 0);
		switch (what) {
		case CLOSE:
			assert_int_equal(hbm_sequence_close(parent), 0);
			parent = filled(64);
			break;
		case TRUNCATE:
			assert_int_equal(hbm_sequence_truncate(parent, 5), 0);
			grow(parent, 5, 64, 900);
			break;
		case SLIDE:
			assert_int_equal(hbm_sequence_slide(parent, 40), 0);
			break;
		case FORK:
			assert_int_equal(hbm_sequence_fork(fork, 1, &second), 0);
			assert_int_equal(hbm_sequence_close(fork), 0);
			fork = second;
			break;
		case CLOSE_FORK:
			assert_int_equal(hbm_sequence_fork(fork, 1, &second), 0);
			assert_int_equal(hbm_sequence_close(second), 0);
			break;
		}
		assert_int_equal(pool_rig_step(&rig, fork, 45), 0);
		expect(fork, 45, 45, 0);
		assert_int_equal(hbm_sequence_close(parent), 0);
		grow(fork, 45, 64, 500);
		expect(fork, 45, 64, 500);
		assert_int_equal(hbm_sequence_close(fork), 0);
	}
	finish();
}

static void test_a_fork_takes_a_slot_that_is_warm(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 2, .warm_bytes = 1ull << 30};

	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	struct hbm_sequence *old = filled(64), *parent = filled(45), *fork;

	assert_int_equal(hbm_sequence_close(old), 0);
	assert_int_equal(hbm_sequence_fork(parent, 1, &fork), 0);
	grow(fork, 45, 64, 100);
	grow(parent, 45, 64, 200);
	expect(fork, 45, 64, 100);
	expect(parent, 45, 64, 200);
	finish();
}

static void test_forks_that_are_refused(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *parent = filled(45), *closed = filled(1), *forks[8] = {NULL};

	assert_int_equal(hbm_sequence_close(closed), 0);
	const uint64_t leased = pool_rig_leased(&rig);

	assert_int_equal(hbm_sequence_fork(closed, 1, forks), HBM_INVALID);
	assert_int_equal(hbm_sequence_fork(NULL, 1, forks), HBM_INVALID);
	assert_int_equal(hbm_sequence_fork(parent, 8, forks), HBM_LIMIT);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "8 forks"));
	assert_null(forks[0]);
	assert_int_equal(hbm_sequence_fork(parent, 0, forks), 0);
	assert_int_equal(pool_rig_leased(&rig), leased);

	/* No memory for the last tokens: as many are open as before. */
	struct hbm_pool_facts facts;
	struct hbm_sequence *big[6];
	for (size_t i = 0; i < 5; i++)
		big[i] = filled(64);
	while (pool_rig_step(&rig, parent, 64) == 0 && pool_rig_leased(&rig) < (168ull << 20)) {
		const struct hbm_region_options region = {.address_space = RIG_SLAB};
		struct hbm_region *taken;
		const struct hbm_range range = {NULL, 0, RIG_SLAB};

		assert_int_equal(hbm_region_create(rig.hbm, &region, &taken), 0);
		struct hbm_range one = range;
		one.region = taken;
		assert_int_equal(hbm_commit(rig.hbm, &one, 1), 0);
	}
	assert_int_equal(hbm_sequence_truncate(big[0], 63), 0);
	assert_int_equal(hbm_sequence_fork(big[0], 2, forks), HBM_NO_SPACE);
	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.open, 6);
	expect(parent, 45, 45, 0);
	finish();
}

/* ---- Reorder ---- */

static void test_beams_change_places(void **state)
{
	(void)state;
	static const uint32_t orders[][4] = {{1, 2, 3, 0}, {0, 0, 0, 0}, {3, 2, 1, 0},
					     {1, 0, 2, 2}, {0, 1, 2, 3}, {2, 2, 2, 1}};

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		struct hbm_sequence *beams[4] = {filled(21)};
		uint64_t values[4][RIG_MAX], lengths[4] = {21, 21, 21, 21}, address[4];

		assert_int_equal(hbm_sequence_fork(beams[0], 3, beams + 1), 0);
		for (size_t i = 0; i < 4; i++) {
			address[i] = pool_rig_facts(beams[i]).address;
			for (uint64_t n = 0; n < 21; n++)
				values[i][n] = n;
		}

		for (size_t round = 0; round < 6; round++) {
			uint64_t before[4][RIG_MAX];

			for (size_t i = 0; i < 4; i++)
				lengths[i] += 7;
			assert_int_equal(hbm_step(rig.pool, beams, lengths, 4), 0);
			for (size_t i = 0; i < 4; i++)
				for (uint64_t n = lengths[i] - 7; n < lengths[i]; n++) {
					values[i][n] = 1000 * (round + 1) + 100 * i + n;
					pool_rig_write(&rig, beams[i], n, values[i][n]);
				}

			memcpy(before, values, sizeof(before));
			assert_int_equal(hbm_sequences_reorder(rig.pool, beams, orders[round], 4),
					 0);
			for (size_t i = 0; i < 4; i++) {
				memcpy(values[i], before[orders[round][i]], sizeof(values[i]));
				assert_int_equal(pool_rig_facts(beams[i]).address, address[i]);
				for (uint64_t n = 0; n < lengths[i]; n++)
					pool_rig_expect(&rig, beams[i], n, values[i][n]);
			}
		}
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

static void test_a_common_prefix_stays_where_it_is(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *beams[3] = {filled(50)};

	assert_int_equal(hbm_sequence_fork(beams[0], 2, beams + 1), 0);
	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	const uint64_t leased = pool_rig_leased(&rig);
	const uint64_t shared = pool_rig_facts(beams[1]).shared_bytes;

	assert_int_equal(hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){2, 0, 0}, 3), 0);
	assert_int_equal(pool_rig_leased(&rig), leased);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pool_rig_facts(beams[i]).shared_bytes, shared);
	finish();
}

static void test_reorders_that_are_wrong(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	const struct hbm_sequence_options small = {.max = 20};
	struct hbm_sequence *a = filled(40), *b = filled(20), *closed = filled(1), *c;

	assert_int_equal(hbm_sequence_close(closed), 0);
	assert_int_equal(hbm_sequence_open(rig.pool, &small, &c), 0);
	const struct {
		struct hbm_sequence *sequences[2];
		uint32_t from[2];
		const char *line;
	} wrong[] = {
		{{a, b}, {1, 2}, "is to become sequence 2"},
		{{a, a}, {1, 0}, "twice"},
		{{a, closed}, {1, 0}, "closed"},
		{{a, NULL}, {1, 0}, "NULL"},
		{{a, c}, {1, 0}, "of at most 20"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(
			hbm_sequences_reorder(rig.pool, wrong[i].sequences, wrong[i].from, 2),
			HBM_INVALID);
		assert_non_null(strstr(hbm_pool_error(rig.pool), wrong[i].line));
	}
	expect(a, 40, 40, 0);
	expect(b, 20, 20, 0);
	assert_int_equal(hbm_sequences_reorder(rig.pool, NULL, NULL, 0), 0);
	finish();
}

static struct hbm_sequence *filled_with(uint64_t tokens, uint64_t value)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	grow(sequence, 0, tokens, value);

	return sequence;
}

/* As long as nothing of what the sequences had is gone, a refusal changes nothing. */
static void test_a_reorder_that_can_unmap_nothing(void **state)
{
	(void)state;
	spawn_needs_soft();
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		const struct soft_calls soft = soft_calls_of(rig.kv.driver);
		struct hbm_sequence *beams[2] = {filled_with(50, 1000), filled_with(23, 2000)};

		soft.fail_nth("cuMemUnmap", 1, CUDA_ERROR_OUT_OF_MEMORY);
		soft.fail_nth("cuMemUnmap", 2, CUDA_ERROR_OUT_OF_MEMORY);
		assert_int_equal(
			hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){1, 0}, 2),
			HBM_DEVICE);
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);
		expect(beams[0], 0, 50, 1000);
		expect(beams[1], 0, 23, 2000);

		assert_int_equal(
			hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){1, 0}, 2), 0);
		expect(beams[0], 0, 23, 2000);
		expect(beams[1], 0, 50, 1000);
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

/* What copies may still be on their way to stays mapped until it is known that they are over. */
static void test_copies_that_may_go_on(void **state)
{
	(void)state;
	spawn_needs_soft();
	start(pool_rig_layouts[0]);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	struct hbm_sequence *beams[2] = {filled_with(50, 1000), filled_with(23, 2000)}, *other;
	const uint64_t unmapped = soft.calls("cuMemUnmap");

	soft.hold(true);
	for (unsigned nth = 1; nth < 9; nth++)
		soft.fail_nth("cuStreamSynchronize", nth, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){1, 0}, 2),
			 HBM_DEVICE);
	assert_int_equal(hbm_sequence_fork(beams[0], 1, &other), HBM_DEVICE);
	assert_int_equal(hbm_sequence_open(rig.pool, NULL, &other), HBM_DEVICE);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "cuStreamSynchronize"));
	assert_int_equal(soft.calls("cuMemUnmap"), unmapped);
	soft.fail_nth(NULL, 0, CUDA_SUCCESS);
	soft.hold(false);

	expect(beams[0], 0, 50, 1000);
	expect(beams[1], 0, 23, 2000);
	assert_int_equal(hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){1, 0}, 2), 0);
	expect(beams[0], 0, 23, 2000);
	expect(beams[1], 0, 50, 1000);
	finish();
}

/* What is refused once is tried once more, whatever has been unmapped by then. */
static void test_a_reorder_that_unmaps_in_two_goes(void **state)
{
	(void)state;
	spawn_needs_soft();
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		const struct soft_calls soft = soft_calls_of(rig.kv.driver);
		struct hbm_sequence *beams[2] = {filled_with(50, 1000), filled_with(23, 2000)};

		for (unsigned nth = 1; nth < 9; nth++) {
			const bool swapped = nth % 2 == 0;

			soft.fail_nth("cuMemUnmap", nth, CUDA_ERROR_OUT_OF_MEMORY);
			assert_int_equal(
				hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){1, 0}, 2),
				0);
			soft.fail_nth(NULL, 0, CUDA_SUCCESS);
			expect(beams[swapped], 0, 23, 2000);
			expect(beams[!swapped], 0, 50, 1000);
		}
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

/* What the windows of one have left behind, who becomes it does not keep either. */
static void test_one_that_becomes_one_whose_windows_have_slid(void **state)
{
	(void)state;
	start(pool_rig_layouts[3]);
	struct hbm_sequence *beams[2] = {filled(50), filled(23)};

	for (uint64_t i = 50; i < 53; i++)
		grow(beams[0], i, i + 1, 0);
	assert_int_equal(pool_rig_step(&rig, beams[0], RIG_MAX), 0);
	assert_int_equal(hbm_sequences_reorder(rig.pool, beams, (const uint32_t[]){0, 0}, 2), 0);
	assert_int_equal(pool_rig_facts(beams[1]).mapped_bytes,
			 pool_rig_facts(beams[0]).mapped_bytes);
	finish();
}

/* Kernels of the step may be reading the tokens while that is mapped which comes after them. */
static void test_what_is_mapped_ahead_exchanges_nothing(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		/* Windows give up slabs of their own. */
		if (strstr(*layout, "window"))
			continue;
		start(*layout);
		struct hbm_sequence *parent = filled(37), *fork;

		assert_int_equal(hbm_sequence_fork(parent, 1, &fork), 0);
		assert_int_equal(pool_rig_step(&rig, fork, 37), 0);
		assert_int_equal(hbm_sequence_truncate(fork, 23), 0);
		const uint64_t shared = pool_rig_facts(fork).shared_bytes;

		assert_int_equal(pool_rig_step(&rig, fork, 23), 0);
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		assert_int_equal(pool_rig_facts(fork).shared_bytes, shared);
		grow(fork, 23, 24, 1000);
		assert_true(pool_rig_facts(fork).shared_bytes < shared);
		expect(fork, 23, 24, 1000);
		expect(parent, 37, 37, 0);
		finish();
	}
}

/* One that was restored has memory for what it has, not for what was given up before. */
static void test_one_that_was_restored_without_tokens(void **state)
{
	(void)state;
	const struct hbm_saved_space space = {.model = "fork"};
	const struct hbm_save_options options = {.space = space};

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		if (strstr(*layout, "window"))
			continue;
		start(*layout);
		const struct hbm_save one = {filled(22), "gone", 0};
		struct hbm_sequence *parent, *forks[2];
		uint64_t saved;

		assert_int_equal(hbm_sequence_slide(one.sequence, 22), 0);
		assert_int_equal(hbm_sequences_save(rig.pool, &one, 1, &options, &saved), 0);
		assert_int_equal(hbm_sequence_close(one.sequence), 0);
		assert_int_equal(hbm_sequence_restore(rig.pool, &space, "gone", NULL, &parent), 0);
		assert_int_equal(pool_rig_facts(parent).first, 22);
		assert_int_equal(pool_rig_facts(parent).tokens, 22);

		if (hbm_sequence_fork(parent, 2, forks) != 0)
			fail_msg("%s: %s", *layout, hbm_pool_error(rig.pool));
		grow(parent, 22, 30, 0);
		for (uint64_t i = 0; i < 2; i++)
			grow(forks[i], 22, 30, 100 + i);
		for (uint64_t i = 22; i < 30; i++) {
			pool_rig_expect(&rig, parent, i, i);
			pool_rig_expect(&rig, forks[0], i, 100 + i);
			pool_rig_expect(&rig, forks[1], i, 101 + i);
		}
		finish();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_forks_share_what_is_full_and_go_their_own_way),
		TEST(test_a_fork_of_a_long_prefix_maps_no_more_than_of_a_short_one),
		TEST(test_who_grows_into_a_shared_slab_copies_it),
		TEST(test_forks_that_are_not_mapped_yet),
		TEST(test_a_fork_takes_a_slot_that_is_warm),
		TEST(test_forks_that_are_refused),
		TEST(test_beams_change_places),
		TEST(test_a_common_prefix_stays_where_it_is),
		TEST(test_reorders_that_are_wrong),
		TEST(test_a_reorder_that_can_unmap_nothing),
		TEST(test_copies_that_may_go_on),
		TEST(test_a_reorder_that_unmaps_in_two_goes),
		TEST(test_one_that_becomes_one_whose_windows_have_slid),
		TEST(test_what_is_mapped_ahead_exchanges_nothing),
		TEST(test_one_that_was_restored_without_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
