/* SPDX-License-Identifier: Apache-2.0 */
/* Clients whose daemon is killed under them, by hbmd --keeper: their calls wait and succeed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { KILLS = 50, WITHIN_US = 60000 };

static const char *const sets[] = {"nvme.path=", "nvme.size=0", "ddr.size=8MiB", NULL};
static struct seed seed;

static void test_calls_wait_and_succeed(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	struct hbm *hbm = spawn_connect(&daemon_);
	uint64_t session = hbm_info(hbm)->session;

	assert_true(hbm_info(hbm)->survives);
	for (int i = 0; i < KILLS; i++) {
		hbm_key key = {{(uint8_t)(1 + i)}};
		struct hbm_lookup found = {.resident = 1};
		uint32_t ns;
		const struct hbm_namespace_options options = {.model = "m", .block_bytes = 65536};

		assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
		keeper_kill_within(&daemon_, &seed, WITHIN_US);
		assert_int_equal(hbm_lookup(hbm, ns, &key, 1, &found, NULL), 0);
		assert_int_equal(found.resident, 0);
	}

	assert_int_equal(hbm_info(hbm)->session, session);
	hbm_close(hbm);
	spawn_wait_warm(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
	seed_open(&seed, "reconnect");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_calls_wait_and_succeed),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
