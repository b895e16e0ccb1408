/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk does not answer while the label of the NVMe file is to say that blocks of namespaces with
 * wipe_on_free may come (tests/support/disk.h): these are opened all the same, and their blocks stay
 * in memory until it does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/disk.h"

#define COUNT 4u

static const char *const sets[] = {"hbmd.io=threads", "device.cache=4MiB",    "ddr.size=4MiB",
				   "nvme.size=8MiB",  "nvme.timeout_ms=1000", NULL};
static struct disk disk;

static int setup(void **state)
{
	catalog_stage_setup(state);
	disk_open(&disk, &daemon_);

	return 0;
}

static int teardown(void **state)
{
	disk_close(&disk);

	return stage_teardown(state);
}

static void open_wiped(const char *model)
{
	const struct hbm_namespace_options options = {
		.model = model, .block_bytes = CATALOG_STAGE_BLOCK, .wipe_on_free = true};

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
}

static void test_it_is_not_waited_for_without_limit(void **state)
{
	(void)state;
	spawn_start(&daemon_, sets, disk.env);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	disk_fail(&disk, DISK_DATA, DISK_FLUSH, 1, UINT64_MAX, 0);
	open_wiped("one");
	catalog_stage_store(1, COUNT, 0);
	kv_push_to_nvme(&kv);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_not_equal(kv_tier(&kv, 1 + i), HBM_TIER_NVME);
	open_wiped("two"); /* at once */
	disk_mend(&disk);

	/* one more waits for the label, if the others' is not written yet */
	for (uint64_t first = 1;; first += COUNT) {
		open_wiped("three");
		catalog_stage_store(first, COUNT, 0);
		kv_push_to_nvme(&kv);
		if (kv_tier(&kv, first) == HBM_TIER_NVME)
			break;
	}
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_is_not_waited_for_without_limit, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
