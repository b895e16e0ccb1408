/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is promised to sequences for what is expected of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"
#include "tests/support/system_calls.h"

#include <pthread.h>
#include <string.h>

#define MEMORY (168ull << 20) /* of regions: 192 MiB less cache and reserve */

static struct pool_rig rig, other;
static unsigned fds;

static void start(bool thread)
{
	const struct hbm_pool_options options = {
		.max_sequences = 16, .map_ahead_thread = thread, .warm_bytes = MEMORY};

	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	pool_rig_open(&other, &daemon_, pool_rig_layouts[0], &options);
}

static void finish(void)
{
	pool_rig_close(&other);
	pool_rig_close(&rig);
	stage_finish(fds);
}

static size_t most(void)
{
	struct hbm_layout_use use;

	hbm_layout_use(rig.layout, RIG_MAX, &use);

	return MEMORY / use.mapped_bytes;
}

/* As many as memory is there for. */
static void open_most(struct hbm_sequence **sequences)
{
	struct hbm_sequence_options options[16];

	for (size_t i = 0; i < 16; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	assert_int_equal(hbm_sequences_open(rig.pool, options, most() + 1, 0, sequences),
			 HBM_NO_SPACE);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "memory for the expected tokens"));
	assert_int_equal(hbm_sequences_open(rig.pool, options, most(), 0, sequences), 0);
}

static void test_what_is_expected_is_there(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *sequences[16], *taker = pool_rig_sequence(&other);
	struct hbm_pool_facts facts;

	open_most(sequences);
	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.open, most());
	assert_true(facts.free_slabs < 14);

	/* Another takes what is left, and no more. */
	for (uint64_t n = 1; pool_rig_step(&other, taker, n) == 0 && n < RIG_MAX; n++)
		;
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);

	/* Closed ones leave promises for others. */
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	open_most(sequences);
	finish();
}

static void test_more_than_expected_may_be_refused(void **state)
{
	(void)state;
	start(false);
	const struct hbm_sequence_options some = {.expected = 20};
	struct hbm_sequence *sequences[16], *late;
	struct hbm_event event;

	assert_int_equal(hbm_sequence_open(other.pool, &some, &late), 0);
	for (size_t i = 0; i < 16; i++) {
		const struct hbm_sequence_options all = {.expected = RIG_MAX};

		if (hbm_sequence_open(rig.pool, &all, &sequences[i]) != 0)
			break;
	}
	assert_int_equal(hbm_sequence_open(rig.pool, &some, &sequences[15]), 0);
	assert_int_equal(pool_rig_step(&other, late, 20), 0);
	assert_int_equal(pool_rig_step(&other, late, RIG_MAX), HBM_NO_SPACE);
	assert_int_equal(pool_rig_facts(late).tokens, 20);
	assert_int_equal(hbm_pool_event(other.pool, &event), HBM_NOT_FOUND);

	assert_int_equal(hbm_sequence_close(sequences[0]), 0);
	assert_int_equal(pool_rig_step(&other, late, RIG_MAX), 0);
	assert_int_equal(hbm_pool_event(other.pool, &event), 0);
	assert_int_equal(event.expected, 20);
	finish();
}

static int waited;

static void *wait_for_all(void *arg)
{
	struct hbm_sequence_options options[16];

	(void)arg;
	for (size_t i = 0; i < 16; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	struct hbm_sequence *sequences[16];
	waited = hbm_sequences_open(other.pool, options, 2, 60000, sequences);

	return NULL;
}

static uint64_t waiting(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(rig.hbm, 0, &memory), 0);

	return memory.waiting;
}

/* Warm slabs of another pool go when its next sequence is closed. */
static void wait_and_close(bool thread)
{
	start(thread);
	struct hbm_sequence *sequences[16];
	pthread_t waiter;

	open_most(sequences);
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_all, NULL), 0);
	while (waiting() == 0)
		;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	pthread_join(waiter, NULL);
	assert_int_equal(waited, 0);
	assert_int_equal(hbm_sequences_open(rig.pool,
					    &(struct hbm_sequence_options){.expected = RIG_MAX}, 1,
					    1, sequences),
			 HBM_TIMEOUT);
	finish();
}

static void test_it_waits_for_memory(void **state)
{
	(void)state;
	wait_and_close(false);
}

static void test_it_waits_beside_the_thread(void **state)
{
	(void)state;
	wait_and_close(true);
}

static void test_what_is_free_is_read_without_a_system_call(void **state)
{
	(void)state;
	start(false);
	struct hbm_pool_facts facts;

	hbm_pool_facts(rig.pool, &facts);
	const uint64_t before = facts.free_tokens;

	assert_int_equal(pool_rig_step(&rig, pool_rig_sequence(&rig), 30), 0);
	if (system_calls_begin()) {
		hbm_pool_facts(rig.pool, &facts);
		assert_int_equal(system_calls_end(), 0);
	}
	hbm_pool_facts(rig.pool, &facts);
	assert_in_range(facts.free_tokens, before - 45, before - 30);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_what_is_expected_is_there),
		TEST(test_more_than_expected_may_be_refused),
		TEST(test_it_waits_for_memory),
		TEST(test_it_waits_beside_the_thread),
		TEST(test_what_is_free_is_read_without_a_system_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
