/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules whose slabs cannot be mapped, or not any more: what is not lent is copied, to other
 * users nothing is lent, and clients that are killed and devices that fail leave all balanced.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/guest.h"
#include "tests/support/module_stage.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- What is not lent ---- */

static int count_block(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(unsigned *)arg;

	return 0;
}

static unsigned blocks(void)
{
	unsigned count = 0;

	assert_int_equal(hbm_query(module_rig.hbm, HBM_QUERY_BLOCKS, count_block, &count), 0);

	return count;
}

/* Nothing is stored that nobody could map. */
static void test_a_daemon_that_lends_nothing(void **state)
{
	(void)state;
	static const char *const none[] = {"device.lend=0", NULL};

	module_stage_start(none, cached_rig_layouts[0]);
	module_stage_source();
	const unsigned count = blocks();

	for (uint64_t at = 0; at < 4; at++)
		module_stage_mapped(at, MODULE_OWN, 0);
	assert_int_equal(blocks(), count);
	module_stage_finish();
}

/* Room for one block: the others are copied. */
static void test_there_is_room_for_one_block(void **state)
{
	(void)state;
	static const char *const one_block[] = {"device.lend=4MiB", "ddr.staging=32MiB", NULL};

	module_stage_start(one_block, cached_rig_layouts[0]);
	module_stage_source();
	module_stage_mapped(MODULE_AT, MODULE_OWN, CACHED_SLABS);
	module_stage_mapped(MODULE_AT, MODULE_OTHER, CACHED_SLABS);
	module_stage_finish();
}

/* What is lent may be evicted, as nothing but slabs is lost with it. */
static void test_what_was_evicted_is_lent_again(void **state)
{
	(void)state;
	static const char *const two_tiers[] = {"device.lend=64MiB", "ddr.size=64MiB",
						"nvme.path=", "nvme.size=0", NULL};
	const struct hbm_save_options options = {.tier = HBM_TIER_DDR, .pin = true};
	const struct hbm_module module = {"chat", "m", 1};

	module_stage_start(two_tiers, cached_rig_layouts[0]);
	struct hbm_sequence *first = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);

	assert_int_equal(
		hbm_module_put(first, &module_space, &module, MODULE_FIRST, MODULE_END, &options),
		0);
	assert_int_equal(module_stage_lent(), MODULE_LENT);
	module_stage_close(first);
	assert_int_equal(hbm_evict(module_rig.hbm, HBM_TIER_HBM, 0, 1 << 30, NULL), 0);
	assert_int_equal(hbm_evict(module_rig.hbm, HBM_TIER_DDR, 0, 1 << 30, NULL), 0);
	module_stage_await_leased(0);
	module_stage_mapped(MODULE_AT, MODULE_OWN, 0);
	module_stage_mapped(MODULE_AT, MODULE_OTHER, MODULE_LENT);
	module_stage_finish();
}

/* What is mapped is used, though not loaded: another module is evicted before it. */
static void test_what_is_mapped_is_used(void **state)
{
	(void)state;
	static const char *const two_tiers[] = {"device.lend=64MiB", "ddr.size=128MiB",
						"nvme.path=", "nvme.size=0", NULL};
	const struct hbm_module early = {"chat", "early", 1}, late = {"chat", "late", 1};
	enum { BEGIN = 2 * CACHED_BLOCK, END = 5 * CACHED_BLOCK };

	module_stage_start(two_tiers, cached_rig_layouts[0]);
	struct hbm_sequence *source = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);
	struct hbm_sequence *sequence = pool_rig_sequence(&module_rig);

	/* Nothing but whole slabs. */
	assert_int_equal(hbm_module_put(source, &module_space, &early, BEGIN, END, NULL), 0);
	assert_int_equal(hbm_module_put(source, &module_space, &late, BEGIN, END, NULL), 0);
	assert_int_equal(hbm_module_map(sequence, &module_space, &early), 0);
	module_stage_check(sequence, MODULE_LENT);
	assert_int_equal(hbm_evict(module_rig.hbm, HBM_TIER_HBM, 0, 1 << 30, NULL), 0);
	kv_await_moves(&module_rig.kv);
	assert_int_equal(hbm_evict(module_rig.hbm, HBM_TIER_DDR, 0, RIG_SLAB, NULL), 0);
	assert_int_equal(hbm_module_map(sequence, &module_space, &late), HBM_NOT_FOUND);
	assert_int_equal(hbm_module_map(sequence, &module_space, &early), 0);
	module_stage_check(sequence, 2 * MODULE_LENT);
	for (uint64_t at = 0; at < 2 * (END - BEGIN); at += END - BEGIN)
		module_stage_expect(sequence, at, END - BEGIN, BEGIN, MODULE_TAG);
	module_stage_finish();
}

/* ---- Namespaces ---- */

static int add_opens(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_namespace ns = {0};

	memcpy(&ns, record, bytes < sizeof(ns) ? bytes : sizeof(ns));
	*(uint64_t *)arg += ns.opens;

	return 0;
}

static uint64_t opens(void)
{
	uint64_t count = 0;

	assert_int_equal(hbm_query(module_rig.hbm, HBM_QUERY_NAMESPACES, add_opens, &count), 0);

	return count;
}

/* A pool keeps a few open, and none when it is closed. */
static void test_few_namespaces_stay_open(void **state)
{
	(void)state;
	module_stage_start(NULL, cached_rig_layouts[0]);
	struct hbm_sequence *source = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);

	for (uint64_t i = 0; i < 10; i++) {
		char schema[16];
		const struct hbm_module module = {schema, "m", 1};
		struct hbm_sequence *sequence = module_stage_sequence(MODULE_AT, MODULE_OWN);

		snprintf(schema, sizeof(schema), "schema %u", (unsigned)i);
		assert_int_equal(hbm_module_put(source, &module_space, &module, MODULE_FIRST,
						MODULE_END, NULL),
				 0);
		assert_int_equal(hbm_module_map(sequence, &module_space, &module), 0);
		module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
		module_stage_close(sequence);
		assert_int_equal(opens(), i < 8 ? i + 1 : 8);
	}

	const struct hbm_pool_options again = {.layout = module_rig.layout, .max_sequences = 1};

	assert_int_equal(hbm_pool_close(module_rig.pool), 0);
	assert_int_equal(opens(), 0);
	assert_int_equal(hbm_pool_open(module_rig.hbm, &again, &module_rig.pool), 0);
	module_stage_finish();
}

/* ---- Another user ---- */

/* What a user has lent is mapped by its own processes alone; another has copies. */
static void test_another_user_has_slabs_of_its_own(void **state)
{
	(void)state;
	static const char *const open_to_all[] = {"hbmd.socket_mode=0666", "device.lend=64MiB",
						  "ddr.staging=32MiB", NULL};
	struct pool_rig users[2];

	if (geteuid() != 0)
		skip();
	guest_admit(&daemon_);
	module_stage_daemon(open_to_all);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(seteuid(i == 0 ? GUEST : OTHER_GUEST), 0);
		pool_rig_open(&users[i], &daemon_, cached_rig_layouts[0], &module_pool);
		assert_int_equal(seteuid(0), 0);
	}

	module_rig = users[0];
	struct hbm_sequence *mine = module_stage_source();

	module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);
	assert_int_equal(module_stage_lent(), MODULE_LENT);
	const uint64_t slabs = module_stage_leased();

	/* It has a replica of its own, which its processes share. */
	module_rig = users[1];
	module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);
	module_stage_await_leased(slabs + MODULE_LENT + 4);
	assert_int_equal(module_stage_lent(), 2 * MODULE_LENT);
	module_stage_mapped(MODULE_AT, MODULE_OTHER, MODULE_LENT);
	module_stage_await_leased(slabs + MODULE_LENT + 8);
	assert_int_equal(module_stage_lent(), 2 * MODULE_LENT);

	module_rig = users[0];
	module_stage_expect(mine, 0, MODULE_SOURCE, 0, MODULE_TAG);
	for (unsigned i = 0; i < 2; i++)
		pool_rig_close(&users[i]);
	module_stage_end();
}

/* ---- Clients that die, and devices that fail ---- */

static void lend_it(const struct spawn *spawn, uint64_t number)
{
	pool_rig_open(&module_rig, spawn, cached_rig_layouts[number], &module_pool);
	module_stage_source();
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

static void test_the_lender_is_killed(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		struct child child;

		module_stage_start(NULL, cached_rig_layouts[i]);
		child_start(&child, "lend_it", &daemon_, i);
		child_await(&child);
		struct hbm_sequence *sequence =
			module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);

		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		module_stage_await_leased(MODULE_LENT + 4);
		module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
		module_stage_mapped(MODULE_AT + 4, MODULE_OTHER, MODULE_LENT);
		assert_true(spawn_balanced(&daemon_));
		module_stage_finish();
	}
}

#define STEPS 6u

static void step(uint64_t at)
{
	static struct hbm_sequence *source, *one, *fork;

	switch (at) {
	case 0:
		source = module_stage_source();
		break;
	case 1:
		one = module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);
		break;
	case 2:
		module_stage_mapped(1, MODULE_OWN, 0);
		break;
	case 3:
		module_stage_close(source);
		break;
	case 4:
		assert_int_equal(hbm_sequence_fork(one, 1, &fork), 0);
		module_stage_grow(fork, 30, 7);
		break;
	default:
		assert_int_equal(hbm_sequences_suspend(module_rig.pool, &one, 1, HBM_TIER_DDR), 0);
	}
}

static void live_and_die(const struct spawn *spawn, uint64_t steps)
{
	pool_rig_open(&module_rig, spawn, cached_rig_layouts[0], &module_pool);
	for (uint64_t i = 0; i < steps; i++)
		step(i);
	kill(getpid(), SIGKILL);
}

static void test_killed_at_every_step(void **state)
{
	(void)state;
	for (uint64_t steps = 0; steps <= STEPS; steps++) {
		struct child child;

		module_stage_start(NULL, cached_rig_layouts[0]);
		child_start(&child, "live_and_die", &daemon_, steps);
		assert_int_equal(child_wait(&child), 128 + SIGKILL);
		assert_true(spawn_balanced(&daemon_));
		if (steps > 0)
			module_stage_close(module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT));
		module_stage_drop_all();
		module_stage_finish();
	}
}

/* Maps it on a device that fails once, perhaps where own memory is mapped ahead: it is there, or
 * all is as before. */
static void map_on(const struct spawn *spawn, uint64_t is_ahead)
{
	const struct hbm_pool_options far = {.max_sequences = 8, .ahead_tokens = 40};

	pool_rig_open(&module_rig, spawn, cached_rig_layouts[0], &far);
	const struct contents own = {.kv = &module_rig.kv, .tag = MODULE_OWN};
	struct hbm_sequence *sequence = pool_rig_sequence(&module_rig);
	const uint64_t length = MODULE_AT, longer = 30;
	int r = hbm_step(module_rig.pool, &sequence, &length, 1);

	if (r)
		_exit(5);
	contents_write(&own, sequence, 0, MODULE_AT);
	if (is_ahead && hbm_pool_map_ahead(module_rig.pool) != 0)
		_exit(5);
	r = module_stage_map(sequence);
	if (r == 0) {
		module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
		r = hbm_step(module_rig.pool, &sequence, &longer, 1);
		module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
	} else {
		assert_int_equal(pool_rig_facts(sequence).tokens, MODULE_AT);
		module_stage_expect(sequence, 0, MODULE_AT, 0, MODULE_OWN);
	}
	_exit(r == 0 ? 0 : 5);
}

/* How often it was mapped all the same. */
static unsigned fail_each(const char *call, bool is_ahead, unsigned first, unsigned last)
{
	unsigned mapped = 0;

	for (unsigned n = first; n <= last; n++) {
		char fail[64];
		struct child child;

		snprintf(fail, sizeof(fail), "%s:%u", call, n);
		setenv("HBM_SOFT_FAIL", fail, 1);
		child_start(&child, "map_on", &daemon_, is_ahead);
		unsetenv("HBM_SOFT_FAIL");
		const int rc = child_wait(&child);

		if (rc != 0 && rc != 5)
			fail_msg("%s: %d", fail, rc);
		mapped += rc == 0;
		assert_true(spawn_balanced(&daemon_));
	}

	return mapped;
}

static void test_a_device_that_fails_once(void **state)
{
	(void)state;
	module_stage_start(NULL, cached_rig_layouts[0]);
	struct hbm_sequence *mine = module_stage_source();

	/* What fails for what is borrowed, six slabs, is copied. */
	assert_int_equal(fail_each("cuMemMap", false, 1, 16), 6);
	assert_int_equal(fail_each("cuMemMap", true, 20, 32), 6);
	assert_int_equal(fail_each("cuMemImportFromShareableHandle", false, 1, 12), 6);
	fail_each("cuMemSetAccess", false, 1, 12);
	fail_each("cuMemUnmap", true, 1, 8);
	module_stage_expect(mine, 0, MODULE_SOURCE, 0, MODULE_TAG);
	module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);
	module_stage_finish();
}

static const struct child_part parts[] = {
	{"lend_it", lend_it}, {"live_and_die", live_and_die}, {"map_on", map_on}, {NULL, NULL}};

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_a_daemon_that_lends_nothing),
		TEST(test_there_is_room_for_one_block),
		TEST(test_what_was_evicted_is_lent_again),
		TEST(test_what_is_mapped_is_used),
		TEST(test_few_namespaces_stay_open),
		TEST(test_another_user_has_slabs_of_its_own),
		TEST(test_the_lender_is_killed),
		TEST(test_killed_at_every_step),
		TEST(test_a_device_that_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
