/* SPDX-License-Identifier: Apache-2.0 */
/* What the state says of memory that is to be overwritten: from before the first namespace with
 * wipe_on_free until there is none, and nothing of what they have left, wherever it may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/cache/namespace_record.h"
#include "daemon/ledger/user.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/state/state.h"
#include "tests/support/traffic.h"

enum { BYTES = 64 * KIB };

static struct traffic *traffic;
static struct state *kept;

static struct cache *cache(void)
{
	return traffic->rig.hbmd.cache;
}

static int setup(void **state)
{
	struct state_shape shapes[STATE_TABLES];

	(void)state;
	for (unsigned i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){8, 1};
	shapes[STATE_NAMESPACES] = (struct state_shape){sizeof(struct namespace_record), 8};
	assert_int_equal(state_new(&kept, shapes), 0);
	traffic = traffic_new("wiper");
	traffic_open(traffic, 1, traffic_one_size);
	namespaces_record(cache()->namespaces, kept);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	traffic_end(traffic);
	kept = state_free(kept);

	return 0;
}

static bool says(void)
{
	return state_counter(kept, STATE_WIPED) != 0;
}

static uint16_t open_wiped(void)
{
	const struct hbm_wire_namespace_spec spec = {.model = "wiped", .block_bytes = BYTES};
	struct user *user = user_open(&traffic->rig.ledger, 0);

	assert_non_null(user);
	uint16_t number = namespaces_open(
		cache()->namespaces,
		&(struct namespace_identity){.spec = &spec, .wipe_on_free = true}, user);
	user_close(user);
	assert_int_not_equal(number, 0);

	return number;
}

static void run(void)
{
	pump_run(traffic->rig.hbmd.mover);
	rig_settle(&traffic->rig);
}

static void test_while_there_is_one(void **state)
{
	(void)state;
	run();
	assert_false(says());
	uint16_t number = open_wiped();
	assert_true(says());
	assert_int_equal(open_wiped(), number);
	namespaces_unref(cache()->namespaces, number);
	run();
	assert_true(says());
	namespaces_unref(cache()->namespaces, number);
	assert_true(says());
	run();
	assert_false(says());

	number = open_wiped();
	assert_true(says());
	namespaces_unref(cache()->namespaces, number);
	run();
	assert_false(says());
}

/* The extent of one that has gone is overwritten when the tier answers again. */
static void expect_until_it_is_overwritten(struct tier *tier)
{
	uint16_t number = open_wiped();
	uint32_t unit = tier_alloc(tier, BYTES);

	assert_int_not_equal(unit, UINT32_MAX);
	tier->silent = true;
	tier_wipe(tier, unit, BYTES, (struct fair_payer){0});
	namespaces_unref(cache()->namespaces, number);
	pump_run(traffic->rig.hbmd.mover);
	assert_true(says());

	tier->silent = false;
	pump_run(traffic->rig.hbmd.mover);
	run();
	assert_int_equal(tier->wipes.bytes, 0);
	assert_false(says());
}

static void test_until_it_is_overwritten(void **state)
{
	(void)state;
	expect_until_it_is_overwritten(cache_hbm(cache(), 0));
	expect_until_it_is_overwritten(cache()->ddr);
	expect_until_it_is_overwritten(cache()->staging);
}

/* What is on a disk is said there (nvme_file.h). */
static void test_a_disk_is_no_memory(void **state)
{
	uint16_t number = open_wiped();

	(void)state;
	cache()->nvme->wipes.kept = true;
	namespaces_unref(cache()->namespaces, number);
	run();
	assert_false(says());
	cache()->nvme->wipes.kept = false;
}

/* There was no memory to remember it, or a late copy uses it. */
static void test_what_stays(void **state)
{
	struct tier *ddr = cache()->ddr;
	struct late_extent late = {.bytes = BYTES, .wipe = true};
	uint16_t number = open_wiped();

	(void)state;
	namespaces_unref(cache()->namespaces, number);
	ddr->wipes.kept = true;
	run();
	assert_true(says());
	ddr->wipes.kept = false;

	ddr->late.all = true;
	run();
	assert_true(says());
	ddr->late.all = false;

	assert_null(ddr->late.list);
	late.device = &traffic->rig.hbmd.devices->list[0];
	late.mark = UINT64_MAX;
	ddr->late = (struct late_extents){.list = &late, .count = 1, .capacity = 1};
	run();
	assert_true(says());
	late.wipe = false;
	run();
	assert_false(says());
	ddr->late = (struct late_extents){0};
}

/* The next daemon knows what this one's clients may open again. */
static void test_not_when_it_stops(void **state)
{
	uint16_t number = open_wiped();

	(void)state;
	namespaces_leave_records(cache()->namespaces);
	namespaces_unref(cache()->namespaces, number);
	run();
	assert_true(says());
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_while_there_is_one),  TEST(test_until_it_is_overwritten),
		TEST(test_a_disk_is_no_memory), TEST(test_what_stays),
		TEST(test_not_when_it_stops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
