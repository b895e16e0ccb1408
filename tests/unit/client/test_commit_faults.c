/* SPDX-License-Identifier: Apache-2.0 */
/* Commits that the daemon or the device refuses, or that are cut off, in every place: all or
 * nothing, and the daemon is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static bool answer_no_space(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_COMMIT && fake_reply(self, request, HBM_NO_SPACE);
}

static void test_commit_refused_by_the_daemon(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(2);
	fake.answer = answer_no_space;
	assert_int_equal(client_region_commit(region, 0, 2), HBM_NO_SPACE);
	fake.answer = NULL;
	assert_int_equal(client_region_commit(region, 0, 2), 0);
}

/* One slab, with `flags`. */
static void send_grant(struct fake *self, const struct hbm_wire_header *request, uint64_t offset,
		       uint16_t flags)
{
	const struct hbm_wire_ranges *asked = (const void *)request;
	char bytes[sizeof(struct hbm_wire_ranges) + sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)bytes;

	part->header.flags = flags;
	part->count = 1;
	part->ranges[0] = (struct hbm_wire_range){asked->ranges[0].region, 0, offset, SLAB};
	fake_reply_message(self, request, bytes, sizeof(bytes), self->slabs, 1);
}

static bool answer_part_then_refuse(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	send_grant(self, request, 0, HBM_WIRE_MORE);
	return fake_reply(self, request, HBM_DEVICE);
}

static bool answer_part_then_die(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	send_grant(self, request, SLAB, HBM_WIRE_MORE);
	fake_hang_up(self);
	return true;
}

static bool answer_parts_without_slabs(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	struct hbm_wire_ranges part = {.header = {.flags = HBM_WIRE_MORE}};
	return fake_reply_message(self, request, &part, sizeof(part), NULL, 0);
}

/* The second import fails; what comes after it is not mapped. */
static bool answer_a_slab_again(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	assert_int_equal(soft.fail_nth("cuMemImportFromShareableHandle", 2, CUDA_ERROR_UNKNOWN), 0);
	send_grant(self, request, 0, HBM_WIRE_MORE);
	for (int i = 0; i < 2; i++)
		send_grant(self, request, SLAB, HBM_WIRE_MORE);

	return true;
}

/* A daemon that always sends more would keep every wait from ending. */
static void test_a_reply_has_an_end(void **state)
{
	(void)state;
	static fake_answer *const answers[] = {answer_parts_without_slabs, answer_a_slab_again};
	for (size_t i = 0; i < 2; i++) {
		struct hbm_range range = {client_region_make(2), 0, 2 * SLAB};
		hbm_ticket ticket;

		fake.answer = answers[i];
		assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
		assert_int_equal(hbm_wait(hbm, ticket, 10000), -EPROTO);
		client_region_reconnect();
	}
}

static void test_refused_in_the_middle(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(2);
	fake.answer = answer_part_then_refuse;
	assert_int_equal(client_region_commit(region, 0, 2), HBM_DEVICE);
	assert_string_equal(hbm_error(hbm), "the daemon refused COMMIT: a device call failed");
	assert_int_equal(soft.live("mappings"), 0);
	fake.answer = NULL;
	assert_int_equal(client_region_commit(region, 0, 2), 0);
}

static void test_death_in_the_middle(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(4);
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	client_region_put(region, 0, 'k');
	fake.answer = answer_part_then_die;
	assert_int_equal(client_region_commit(region, 1, 3), -ENOTCONN);

	/* What was there before stays, and nothing else. */
	assert_int_equal(soft.live("mappings"), 1);
	assert_int_equal(client_region_get(region, 0), 'k');
	assert_int_equal(client_region_commit(region, 2, 1), -ENOTCONN);
	assert_int_equal(client_region_decommit(region, 0, 1), -ENOTCONN);
	assert_int_equal(client_region_get(region, 0), 'k');
	assert_int_equal(hbm_region_destroy(hbm, region), -ENOTCONN);
	assert_int_equal(soft.live("mappings"), 0);
}

/* The n-th device call of a commit fails, for every n until the fault lies behind the
 * last call. A commit may get over a failure (a handle is released again), or end whole
 * or not at all. */
static void test_every_device_call_of_a_commit_fails(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(5);
	struct hbm_range ranges[] = {{region, 0, 2 * SLAB}, {region, 3 * SLAB, 2 * SLAB}};
	fake.part = 3;
	unsigned int failures = 0, decommits = 0, n = 1;
	for (bool reached = true; reached; n++) {
		uint64_t before = soft.calls("*");

		assert_int_equal(soft.fail_nth("*", n, CUDA_ERROR_UNKNOWN), 0);
		int rc = hbm_commit(hbm, ranges, 2);
		reached = soft.calls("*") - before >= n;
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);

		if (rc == 0) {
			for (size_t i = 0; i < 4; i++)
				client_region_put(region, (uint64_t[]){0, 1, 3, 4}[i], 1);
			assert_int_equal(hbm_decommit(hbm, ranges, 2), 0);
		} else {
			assert_int_equal(rc, HBM_DEVICE);
			assert_non_null(strstr(hbm_error(hbm), "CUDA_ERROR_UNKNOWN"));
			failures++;
		}

		assert_int_equal(soft.live("mappings"), 0);
		assert_int_equal(soft.live("handles"), 0);

		/* The daemon was told. */
		fake_await(&fake, HBM_WIRE_DECOMMIT, ++decommits);
		const struct hbm_wire_ranges *message = fake.last;
		assert_int_equal(message->count, 2);
		assert_int_equal(message->ranges[1].offset, 3 * SLAB);
	}

	assert_in_range(failures, 10, n);
}

/* An error that stays is an earlier call's: a device would have released the handle, and
 * another may have its number. The slab stays mapped, for the handle to be found again. */
static void test_a_handle_is_not_released_twice(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(1);
	CUmemGenericAllocationHandle handle;
	uint64_t before = soft.calls("cuMemRelease");
	assert_int_equal(soft.fail_nth("cuMemRelease", 1, CUDA_ERROR_ASSERT), 0);
	for (unsigned int n = 1; n <= 2; n++)
		assert_int_equal(soft.fail_nth("cuMemUnmap", n, CUDA_ERROR_ASSERT), 0);
	assert_int_equal(client_region_commit(region, 0, 1), HBM_DEVICE);
	assert_int_equal(soft.calls("cuMemRelease") - before, 1);
	assert_int_equal(fake.driver->cuMemRetainAllocationHandle(
				 &handle, (void *)hbm_region_address(region)),
			 CUDA_SUCCESS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake.driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
}

/* A decommit that the device refuses leaves what it did not unmap. */
static void test_unmapping_fails(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(5);
	assert_int_equal(client_region_commit(region, 0, 5), 0);
	struct hbm_range ranges[] = {
		{region, 0, SLAB}, {region, 2 * SLAB, SLAB}, {region, 4 * SLAB, SLAB}};
	assert_int_equal(soft.fail_nth("cuMemUnmap", 1, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(hbm_decommit(hbm, ranges, 3), HBM_DEVICE);
	assert_int_equal(soft.live("mappings"), 5);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 0);

	assert_int_equal(soft.fail_nth("cuMemUnmap", 2, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(hbm_decommit(hbm, ranges, 3), HBM_DEVICE);
	assert_non_null(strstr(hbm_error(hbm), "cuMemUnmap"));
	assert_int_equal(soft.live("mappings"), 4);
	fake_await(&fake, HBM_WIRE_DECOMMIT, 1);
	const struct hbm_wire_ranges *message = fake.last;
	assert_int_equal(message->count, 1);
	assert_int_equal(message->ranges[0].offset, 0);
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	client_region_put(region, 4, 1);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_commit_refused_by_the_daemon),
		TEST(test_a_reply_has_an_end),
		TEST(test_refused_in_the_middle),
		TEST(test_death_in_the_middle),
		TEST(test_every_device_call_of_a_commit_fails),
		TEST(test_a_handle_is_not_released_twice),
		TEST(test_unmapping_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
