/* SPDX-License-Identifier: Apache-2.0 */
/* The NVMe tier is resized, and the daemon killed: what the next start finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/catalog_stage.h"

#define MIB (1ull << 20)

/* Killed right after a resize of NVMe: a start with the size of the configuration, larger or smaller
 * than the file is by then, finds what was in it, and never a wrong byte. */
static void check_restart(uint64_t bytes, const char *size)
{
	const char *const later[] = {"device.cache=4MiB", "ddr.size=4MiB", size, NULL};

	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	if (bytes > 8 * MIB) /* one that shrinks waits for it by itself */
		catalog_stage_await_records(CATALOG_STAGE_SOME);
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_resize(hbm, HBM_TIER_NVME, 0, bytes), 0);
	hbm_close(hbm);
	catalog_stage_kill();
	catalog_stage_begin(later);
	catalog_stage_look_at_all();
	if (bytes >= CATALOG_STAGE_SOME * CATALOG_STAGE_BLOCK)
		catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	else
		assert_in_range(catalog_stage_status().catalog_restored, 1,
				bytes / CATALOG_STAGE_BLOCK);
	catalog_stage_finish();
}

static void test_restart_with_the_old_size(void **state)
{
	(void)state;
	check_restart(3 * MIB, "nvme.size=8MiB");
}

static void test_restart_of_a_part(void **state)
{
	(void)state;
	check_restart(MIB, "nvme.size=8MiB");
}

static void test_restart_with_the_new_size(void **state)
{
	(void)state;
	check_restart(3 * MIB, "nvme.size=3MiB");
}

static void test_restart_after_growth(void **state)
{
	(void)state;
	check_restart(24 * MIB, "nvme.size=8MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_restart_with_the_old_size, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_restart_of_a_part, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_restart_with_the_new_size, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_restart_after_growth, catalog_stage_setup,
						stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
