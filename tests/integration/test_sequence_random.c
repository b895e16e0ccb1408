/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations on sequences: device memory is what a dumb model says, the books
 * balance, and nothing is left at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_rig.h"
#include "tests/support/pool_model.h"
#include "tests/support/stage.h"

#define OPERATIONS 400

static void random_run(const char *layout, bool lends, bool thread, unsigned *done)
{
	static uint64_t runs;
	struct pool_rig rig;
	struct seed seed;
	struct pool_model model = {.rig = &rig, .seed = &seed, .number = ++runs};
	const struct hbm_pool_options options = {.max_sequences = MODEL_SEQUENCES,
						 .warm_bytes = 24 * RIG_SLAB,
						 .map_ahead_thread = thread};

	seed_open(&seed, layout);
	pool_rig_open(&rig, &daemon_, layout, &options);
	rig.lends = lends;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		pool_model_operate(&model);
		if (i % 50 == 0) {
			pool_model_check(&model);
			assert_true(spawn_balanced(&daemon_));
		}
	}

	pool_model_check(&model);
	for (size_t i = 0; i < MODEL_OPERATIONS_MAX; i++)
		done[i] += model.done[i];
	pool_model_close_all(&model);
	if (!lends)
		assert_true(pool_rig_leased(&rig) <= options.warm_bytes);

	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void random_layouts(bool thread)
{
	static const char *const sets[] = {"device.memory=140MiB", "ddr.staging=32MiB",
					   "ddr.size=96MiB", "nvme.size=128MiB", NULL};

	spawn_start(&daemon_, sets, NULL);
	const unsigned fds = spawn_fds(&daemon_);
	unsigned done[MODEL_OPERATIONS_MAX] = {0};

	for (const char *const *layout = pool_rig_layouts; *layout; layout++)
		random_run(*layout, false, thread, done);
	pool_model_check_reach(done);
	stage_finish(fds);
}

static void test_random_operations(void **state)
{
	(void)state;
	random_layouts(false);
}

static void test_random_operations_beside_the_thread(void **state)
{
	(void)state;
	random_layouts(true);
}

/* Tokens do not lie across slabs: blocks of the cache are whole ones, and lent. */
static void random_whole_slabs(bool thread)
{
	static const char *const sets[] = {"device.memory=240MiB", "device.lend=48MiB",
					   "ddr.staging=32MiB",    "ddr.size=128MiB",
					   "nvme.size=128MiB",     NULL};

	spawn_start(&daemon_, sets, NULL);
	const unsigned fds = spawn_fds(&daemon_);
	unsigned done[MODEL_OPERATIONS_MAX] = {0};

	for (const char *const *layout = cached_rig_layouts; *layout; layout++)
		random_run(*layout, true, thread, done);
	pool_model_check_reach(done);
	stage_finish(fds);
}

static void test_random_operations_on_whole_slabs(void **state)
{
	(void)state;
	random_whole_slabs(false);
}

static void test_random_operations_on_whole_slabs_beside_the_thread(void **state)
{
	(void)state;
	random_whole_slabs(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_random_operations),
		TEST(test_random_operations_beside_the_thread),
		TEST(test_random_operations_on_whole_slabs),
		TEST(test_random_operations_on_whole_slabs_beside_the_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
