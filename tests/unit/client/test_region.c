/* SPDX-License-Identifier: Apache-2.0 */
/* Regions on the soft device: created and destroyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static void test_create_rounds_up(void **state)
{
	(void)state;
	struct hbm_region_options options = {.device = 1, .address_space = 3 * SLAB + 1};
	struct hbm_region *region;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	assert_int_equal(hbm_region_slab(region), SLAB);
	assert_int_equal(hbm_region_bytes(region), 4 * SLAB);
	assert_int_equal(hbm_region_device(region), 1);
	assert_int_not_equal(hbm_region_address(region), 0);
	fake_await(&fake, HBM_WIRE_REGION_CREATE, 1);
	const struct hbm_wire_region_create *create = fake.last;
	assert_int_equal(create->address_space, 4 * SLAB);
	assert_int_equal(create->slab, SLAB);
	assert_int_equal(create->device, 1);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(soft.live("reservations"), 0);
}

static void test_create_refuses_nonsense(void **state)
{
	(void)state;
	static const struct hbm_region_options wrong[] = {
		{.device = FAKE_DEVICES, .address_space = SLAB, .slab = SLAB},
		{.device = UINT32_MAX, .address_space = SLAB, .slab = SLAB},
		{.address_space = 0, .slab = SLAB},
		{.address_space = UINT64_MAX, .slab = SLAB},
		{.address_space = 1ull << 63, .slab = SLAB},
		{.address_space = SLAB, .slab = SLAB / 2},
		{.address_space = SLAB, .slab = 3 * SLAB},
		{.address_space = SLAB, .slab = SLAB << 10},
		{.address_space = SLAB, .slab = 1ull << 63},
		{.address_space = SLAB, .slab = 1},
	};
	struct hbm_region *untouched = (struct hbm_region *)8, *region = untouched;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(hbm_region_create(hbm, &wrong[i], &region), HBM_INVALID);
		assert_string_not_equal(hbm_error(hbm), "");
	}

	assert_ptr_equal(region, untouched);
	assert_int_equal(fake.seen[HBM_WIRE_REGION_CREATE], 0);
}

static bool answer_refuse(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_REGION_CREATE && fake_reply(self, request, HBM_LIMIT);
}

/* Half of what was asked for. */
static bool answer_less(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_region_create *create = (const void *)request;
	if (request->opcode != HBM_WIRE_REGION_CREATE)
		return false;
	struct hbm_wire_region_create_reply reply = {
		.region = 1, .address_space = SLAB, .slab = create->slab};
	return fake_reply_message(self, request, &reply, sizeof(reply), NULL, 0);
}

static void test_create_refused_by_the_daemon(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = 2 * SLAB, .slab = SLAB};
	struct hbm_region *region;
	fake.answer = answer_refuse;
	assert_int_equal(hbm_region_create(hbm, &options, &region), HBM_LIMIT);
	assert_int_equal(soft.live("reservations"), 0);
	fake.answer = answer_less;
	assert_int_equal(hbm_region_create(hbm, &options, &region), -EPROTO);
	assert_int_equal(soft.live("reservations"), 0);
}

static void test_every_device_call_of_a_creation_fails(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = 2 * SLAB, .slab = SLAB};
	unsigned int failures = 0;
	for (unsigned int n = 1, reached = 1; reached; n++) {
		client_region_reconnect();
		struct hbm_region *region = NULL;
		uint64_t before = soft.calls("*");
		assert_int_equal(soft.fail_nth("*", n, CUDA_ERROR_OUT_OF_MEMORY), 0);
		int rc = hbm_region_create(hbm, &options, &region);
		reached = soft.calls("*") - before >= n;
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
		failures += rc != 0;
		if (rc == 0)
			assert_int_equal(hbm_region_destroy(hbm, region), 0);
		else
			assert_int_equal(rc, HBM_DEVICE);

		assert_int_equal(soft.live("reservations"), 0);
	}

	assert_in_range(failures, 4, 100);
}

static void test_destroy_of_none(void **state)
{
	(void)state;
	assert_int_equal(hbm_region_destroy(hbm, NULL), HBM_INVALID);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_create_rounds_up),
		TEST(test_create_refuses_nonsense),
		TEST(test_create_refused_by_the_daemon),
		TEST(test_every_device_call_of_a_creation_fails),
		TEST(test_destroy_of_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
