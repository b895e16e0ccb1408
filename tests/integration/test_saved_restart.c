/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is saved to NVMe outlives the daemon: a stop, a kill when the catalog has it, and, of what
 * is saved as durable, a kill at once. It is restored byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>
#include <unistd.h>

#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#define TOKENS 31u
#define TAG 7u

/* Only what somebody waits for is in the catalog soon. */
static const char *const patient[] = {"nvme.catalog_ms=60000", "nvme.catalog_flush_ms=60000", NULL};

static int save(struct hbm_sequence *sequence, const char *name, enum hbm_tier tier, bool durable)
{
	const struct hbm_save one = {sequence, name, 77};
	struct hbm_save_options options = saved_plain;
	uint64_t saved = 0;

	options.tier = tier;
	options.durable = durable;
	int r = hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved);

	assert_int_equal(saved, r == 0 ? TOKENS : 0);

	return r;
}

static void save_to_nvme(const char *name, bool durable)
{
	struct hbm_sequence *sequence = saved_stage_sequence(TOKENS, TAG);

	saved_stage_expect_done(save(sequence, name, HBM_TIER_NVME, durable));
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

static void begin(const char *const *sets, const char *layout)
{
	spawn_start(&daemon_, sets, NULL);
	saved_stage_start(layout);
}

static void stop(void)
{
	saved_stage_finish();
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void die(void)
{
	spawn_kill(&daemon_);
	pool_rig_lose(&saved_rig);
	unlink(daemon_.socket);
}

static void await_records(void)
{
	struct hbm_wire_status status;

	for (int i = 0;; i++) {
		spawn_status(&daemon_, &status);
		if (status.catalog_records == saved_stage_blocks() && status.catalog_unflushed == 0)
			break;
		assert_true(i < 10000);
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void expect_restored(const char *name)
{
	struct hbm_saved found;

	assert_int_equal(hbm_saved_find(saved_rig.pool, &saved_space, name, &found), 0);
	assert_int_equal(found.tokens, TOKENS);
	assert_int_equal(found.present, TOKENS);
	assert_int_equal(found.committed, 77);
	saved_stage_expect(saved_stage_restore(name), 0, TOKENS, TAG);
}

/* Each layout on the file that the one before has left. */
static void test_after_a_stop(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		begin(patient, *layout);
		save_to_nvme(*layout, false);
		stop();

		begin(patient, *layout);
		expect_restored(*layout);
		stop();
	}
}

static void test_after_a_kill(void **state)
{
	static const char *const quick[] = {"nvme.catalog_ms=1", "nvme.catalog_flush_ms=1", NULL};

	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		begin(quick, *layout);
		save_to_nvme(*layout, false);
		await_records();
		die();

		begin(quick, *layout);
		expect_restored(*layout);
		die();
	}
}

static void test_durable_after_a_kill_at_once(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		begin(patient, *layout);
		save_to_nvme(*layout, true);
		die();

		begin(patient, *layout);
		expect_restored(*layout);
		die();
	}
}

/* The name that was durable stands for what it did until the next save is. */
static void test_saved_again(void **state)
{
	struct hbm_sequence *longer;

	(void)state;
	begin(patient, pool_rig_layouts[0]);
	save_to_nvme("a", true);
	longer = saved_stage_sequence(TOKENS, TAG);
	assert_int_equal(save(longer, "a", HBM_TIER_DDR, true), HBM_INVALID);
	saved_stage_expect_line("what is durable is on NVMe");
	die();

	begin(patient, pool_rig_layouts[0]);
	expect_restored("a");
	save_to_nvme("a", true);
	die();

	begin(patient, pool_rig_layouts[0]);
	expect_restored("a");
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_after_a_stop, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_after_a_kill, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_durable_after_a_kill_at_once, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_saved_again, stage_setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
