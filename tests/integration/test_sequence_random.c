/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations on sequences: device memory is what a dumb model says, the books
 * balance, and nothing is left at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_model.h"
#include "tests/support/stage.h"

#define OPERATIONS 400

static void random_run(const char *layout, bool thread)
{
	struct pool_rig rig;
	struct seed seed;
	struct pool_model model = {.rig = &rig, .seed = &seed};
	const struct hbm_pool_options options = {.max_sequences = MODEL_SEQUENCES,
						 .warm_bytes = 24 * RIG_SLAB,
						 .map_ahead_thread = thread};

	seed_open(&seed, layout);
	pool_rig_open(&rig, &daemon_, layout, &options);
	for (unsigned i = 0; i < OPERATIONS; i++) {
		pool_model_operate(&model);
		if (i % 50 == 0) {
			pool_model_check(&model);
			assert_true(spawn_balanced(&daemon_));
		}
	}

	pool_model_check(&model);
	pool_model_check_reach(&model);
	pool_model_close_all(&model);
	assert_true(pool_rig_leased(&rig) <= options.warm_bytes);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void random_layouts(bool thread)
{
	static const char *const sets[] = {"device.memory=140MiB", "ddr.size=96MiB",
					   "nvme.size=128MiB", NULL};

	spawn_start(&daemon_, sets, NULL);
	const unsigned fds = spawn_fds(&daemon_);

	for (const char *const *layout = pool_rig_layouts; *layout; layout++)
		random_run(*layout, thread);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_random_operations),
		TEST(test_random_operations_beside_the_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
