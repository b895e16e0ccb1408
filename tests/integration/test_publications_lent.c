/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a client lends as it is, and publishes: nobody but its user can write to what is
 * borrowed, in whatever order that comes. With a second user: test_publications_private.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/device_record.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <string.h>

#define SLAB (2ull << 20)
#define NAME "weights-1"
#define FENCE 3u

static unsigned fds;
static struct kv kv;

static int setup(void **state)
{
	static const char *const sets[] = {"device.publish_groups=yes", "device.lend=16MiB", NULL};

	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, SLAB, 4);

	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);

	return stage_teardown(state);
}

static uint64_t lent(void)
{
	return device_record(kv.hbm).lent;
}

/* ---- What is asked ---- */

static int publish(uint64_t slot, bool for_group)
{
	const struct hbm_publish_options options = {
		.name = NAME, .for_group = for_group, .gid = for_group ? 1234 : 0};

	return hbm_region_publish(kv.hbm, kv.region, slot * SLAB, SLAB, &options);
}

static void unpublish(void)
{
	assert_int_equal(hbm_region_unpublish(kv.hbm, HBM_OWN_UID, NAME), 0);
}

static int lend(uint64_t slot, uint64_t block)
{
	struct hbm_segment segment = {kv.region, slot * SLAB, SLAB};
	const struct hbm_block blocks = {
		.key = kv_key(block), .segments = &segment, .segment_count = 1, .lend = true};

	kv_put(&kv, slot, block);

	return hbm_store(kv.hbm, kv.ns, &blocks, 1, NULL);
}

static void expect_refused(int r, const char *why)
{
	assert_int_equal(r, HBM_DENIED);
	assert_non_null(strstr(hbm_error(kv.hbm), why));
}

static void expect_not_for_a_group(uint64_t slot)
{
	expect_refused(publish(slot, true),
		       "part of the range is lent, and a group could write to it");
}

static void expect_not_lent(int r)
{
	expect_refused(r, "was published for a group, which could write to what is lent");
}

/* A slot of the region gets the slab of another, to write to. */
static void share(uint64_t target, uint64_t source)
{
	const struct hbm_share one = {.source = kv.region,
				      .source_offset = source * SLAB,
				      .target = kv.region,
				      .target_offset = target * SLAB,
				      .bytes = SLAB};
	const struct hbm_range range = {kv.region, target * SLAB, SLAB};

	assert_int_equal(hbm_decommit(kv.hbm, &range, 1), 0);
	assert_int_equal(hbm_share(kv.hbm, &one, 1), 0);
}

/* ---- The tests ---- */

static void test_what_is_lent_is_not_for_a_group(void **state)
{
	(void)state;
	assert_int_equal(lend(0, 1), 0);
	expect_not_for_a_group(0);

	/* By another slot of the same slab. */
	share(1, 0);
	expect_not_for_a_group(1);

	/* Who borrows is of its user, and so may be who writes. */
	assert_int_equal(publish(0, false), 0);
	unpublish();
	expect_not_for_a_group(0); /* nor by a name that it had */

	/* The cache has dropped it: nobody borrows it any more. */
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, NULL), 0);
	assert_int_equal(lent(), 0);
	assert_int_equal(publish(0, true), 0);
	unpublish();
}

static void test_what_is_or_was_for_a_group_is_not_lent(void **state)
{
	(void)state;
	assert_int_equal(publish(0, true), 0);
	expect_not_lent(lend(0, 1));
	share(1, 0);
	expect_not_lent(lend(1, 1));

	/* Who has attached it has it still, and it may get a name again that is for none. */
	unpublish();
	expect_not_lent(lend(0, 1));
	assert_int_equal(publish(0, false), 0);
	expect_not_lent(lend(0, 1));
	assert_int_equal(lent(), 0);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	unpublish();
}

/* By another process of the user, which may publish nothing that is published already. */
static void test_what_is_attached_to_write_is_not_lent(void **state)
{
	(void)state;
	struct hbm_region *attached;
	struct hbm_segment segment;
	const struct hbm_block block = {
		.key = kv_key(1), .segments = &segment, .segment_count = 1, .lend = true};
	struct kv second;

	assert_int_equal(publish(0, true), 0);
	kv_open(&second, &daemon_, 0, SLAB, 1);
	assert_int_equal(
		hbm_region_attach(second.hbm, HBM_OWN_UID, NAME, HBM_ATTACH_WRITE, &attached), 0);
	segment = (struct hbm_segment){attached, 0, SLAB};
	assert_int_equal(hbm_store(second.hbm, second.ns, &block, 1, NULL), HBM_DENIED);
	expect_not_lent(lend(0, 1));
	assert_int_equal(lent(), 0);
	unpublish();
	assert_int_equal(hbm_region_destroy(second.hbm, attached), 0);
	kv_close(&second);
}

/* A store that waits for its data has been looked at, and the memory is published meanwhile: the
 * block is stored, and not lent. */
static void test_it_is_published_while_the_store_waits(void **state)
{
	(void)state;
	struct hbm_segment segment = {kv.region, 0, SLAB};
	const struct hbm_block block = {
		.key = kv_key(1), .segments = &segment, .segment_count = 1, .lend = true};
	const struct hbm_sync sync = {
		.ready_slot = FENCE, .ready_value = 1, .fence_slot = HBM_WIRE_NO_FENCE};
	hbm_ticket ticket;
	hbm_result result;

	kv_put(&kv, 0, 1);
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, &block, 1, &sync, &result, &ticket), 0);
	assert_int_equal(publish(0, true), 0);
	assert_int_equal(hbm_fence_signal(kv.hbm, FENCE, 1), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 1);
	assert_int_equal(lent(), 0);
	unpublish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_lent_is_not_for_a_group),
		TEST(test_what_is_or_was_for_a_group_is_not_lent),
		TEST(test_what_is_attached_to_write_is_not_lent),
		TEST(test_it_is_published_while_the_store_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
