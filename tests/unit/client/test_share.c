/* SPDX-License-Identifier: Apache-2.0 */
/* Shares in the library: what is mapped where, what is refused before anything is sent, and
 * a device or a daemon that refuses. */
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

static struct hbm_share slabs(struct hbm_region *source, uint64_t first, struct hbm_region *target,
			      uint64_t to, uint64_t count)
{
	return (struct hbm_share){source, target, first * SLAB, to * SLAB, count * SLAB, 0, NULL};
}

static int share(struct hbm_region *source, uint64_t first, struct hbm_region *target, uint64_t to,
		 uint64_t count)
{
	struct hbm_share one = slabs(source, first, target, to, count);
	return hbm_share(hbm, &one, 1);
}

static void test_one_slab_at_two_addresses(void **state)
{
	(void)state;
	struct hbm_region *one = client_region_make(4), *two = client_region_make(4);

	assert_int_equal(client_region_commit(one, 0, 3), 0);
	client_region_put(one, 1, 'a');
	assert_int_equal(share(one, 0, two, 1, 3), 0);
	assert_int_equal(client_region_get(two, 2), 'a');
	client_region_put(two, 3, 'b');
	assert_int_equal(client_region_get(one, 2), 'b');

	const struct hbm_wire_shares *message = fake.last;
	assert_int_equal(message->count, 1);
	assert_int_equal(message->shares[0].target_offset, SLAB);
	assert_int_equal(message->shares[0].bytes, 3 * SLAB);
	assert_int_equal(message->shares[0].flags, 0);

	/* Either may go first. */
	assert_int_equal(client_region_decommit(one, 0, 2), 0);
	assert_int_equal(client_region_get(two, 2), 'a');
	assert_int_equal(client_region_decommit(two, 3, 1), 0);
	assert_int_equal(client_region_get(one, 2), 'b');
	assert_int_equal(soft.live("mappings"), 3);
	assert_int_equal(client_region_decommit(two, 1, 2), 0);
	assert_int_equal(client_region_decommit(one, 2, 1), 0);
	assert_int_equal(soft.live("handles"), 0);
}

/* One for each run of addresses, however many slabs and shares it is made of. */
static void test_access_is_set_once_for_a_run(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(12);

	assert_int_equal(client_region_commit(region, 0, 3), 0);
	uint64_t before = soft.calls("cuMemSetAccess"),
		 imports = soft.calls("cuMemImportFromShareableHandle");
	struct hbm_share forks[] = {slabs(region, 0, region, 4, 3), slabs(region, 0, region, 7, 2),
				    slabs(region, 1, region, 10, 1)};
	assert_int_equal(hbm_share(hbm, forks, 3), 0);
	assert_int_equal(soft.calls("cuMemSetAccess") - before, 2);
	assert_int_equal(soft.calls("cuMemImportFromShareableHandle"), imports);
	client_region_put(region, 1, 'f');
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(client_region_get(region, (uint64_t[]){5, 8, 10}[i]), 'f');
}

static void test_read_only(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(6);

	assert_int_equal(client_region_commit(region, 0, 2), 0);
	client_region_put(region, 0, 'r');
	struct hbm_share both[] = {slabs(region, 0, region, 2, 1), slabs(region, 1, region, 3, 1)};
	both[0].flags = HBM_SHARE_READ_ONLY;
	uint64_t before = soft.calls("cuMemSetAccess");
	assert_int_equal(hbm_share(hbm, both, 2), 0);
	assert_int_equal(soft.calls("cuMemSetAccess") - before, 2);
	const struct hbm_wire_shares *message = fake.last;
	assert_int_equal(message->shares[0].flags, HBM_WIRE_READ_ONLY);
	assert_int_equal(client_region_get(region, 2), 'r');

	CUmemLocation location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
	unsigned long long access[2];
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(
			fake.driver->cuMemGetAccess(&access[i], &location,
						    hbm_region_address(region) + (2 + i) * SLAB),
			CUDA_SUCCESS);
	assert_int_equal(access[0], CU_MEM_ACCESS_FLAGS_PROT_READ);
	assert_int_equal(access[1], CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	client_region_put(region, 0, 's');
	assert_int_equal(client_region_get(region, 2), 's');
}

static void test_bad_shares_are_not_sent(void **state)
{
	(void)state;
	struct hbm_region *one = client_region_make(4), *two = client_region_make(6);
	const struct hbm_region_options elsewhere = {.device = 1,
						     .address_space = 4 * SLAB,
						     .slab = SLAB},
					large = {.address_space = 8 * SLAB, .slab = 2 * SLAB};
	struct hbm_region *far, *coarse;
	assert_int_equal(hbm_region_create(hbm, &elsewhere, &far), 0);
	assert_int_equal(hbm_region_create(hbm, &large, &coarse), 0);
	assert_int_equal(client_region_commit(one, 0, 2), 0);
	assert_int_equal(client_region_commit(two, 5, 1), 0);

	struct hbm_share none = slabs(NULL, 0, two, 0, 1), odd = slabs(one, 0, two, 0, 1),
			 flags = odd, wraps = odd, coarser = slabs(one, 0, coarse, 0, 2);
	odd.source_offset = 4096;
	flags.flags = 2;
	wraps.source_offset = 0 - SLAB;
	wraps.bytes = 2 * SLAB;
	struct {
		struct hbm_share share;
		int status;
	} cases[] = {
		{none, HBM_INVALID},
		{odd, HBM_INVALID},
		{wraps, HBM_INVALID},
		{flags, HBM_UNSUPPORTED},
		{coarser, HBM_INVALID},
		{slabs(one, 0, far, 0, 1), HBM_INVALID},
		{slabs(one, 3, two, 0, 2), HBM_INVALID},
		{slabs(one, 0, two, 5, 2), HBM_INVALID}, /* beyond the end */
		{slabs(one, 0, two, 5, 1), HBM_EXISTS},
		{slabs(one, 0, one, 1, 1), HBM_EXISTS},
		{slabs(one, 1, two, 0, 2), HBM_NOT_FOUND},
		{slabs(one, 0, two, 4, 1), HBM_INVALID}, /* twice */
		{slabs(two, 4, two, 0, 1), HBM_INVALID}, /* its target */
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hbm_share both[] = {slabs(one, 0, two, 4, 1), cases[i].share};
		assert_int_equal(hbm_share(hbm, both, 2), cases[i].status);
		assert_string_not_equal(hbm_error(hbm), "");
		assert_int_equal(soft.live("mappings"), 3);
	}

	assert_int_equal(hbm_share(hbm, &none, 0), HBM_INVALID);
	assert_int_equal(fake.seen[HBM_WIRE_SHARE], 0);
	assert_int_equal(share(one, 0, two, 3, 2), 0); /* all of that is still free */
}

static bool answer_device(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_SHARE && fake_reply(self, request, HBM_DEVICE);
}

static bool answer_nothing(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_SHARE)
		return false;
	fake_hang_up(self);
	return true;
}

static void test_refused_by_the_daemon(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(4);

	assert_int_equal(client_region_commit(region, 0, 2), 0);
	fake.answer = answer_device;
	assert_int_equal(share(region, 0, region, 2, 2), HBM_DEVICE);
	assert_string_equal(hbm_error(hbm), "the daemon refused SHARE: a device call failed");
	assert_int_equal(soft.live("mappings"), 2);
	fake.answer = NULL;
	assert_int_equal(share(region, 0, region, 2, 2), 0);
}

static void test_the_daemon_dies(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(4);

	assert_int_equal(client_region_commit(region, 0, 2), 0);
	client_region_put(region, 0, 'k');
	fake.answer = answer_nothing;
	assert_int_equal(share(region, 0, region, 2, 2), -ENOTCONN);
	assert_int_equal(soft.live("mappings"), 2);
	assert_int_equal(share(region, 0, region, 2, 2), -ENOTCONN);
	assert_int_equal(soft.live("mappings"), 2);
	assert_int_equal(client_region_get(region, 0), 'k');
	assert_int_equal(hbm_region_destroy(hbm, region), -ENOTCONN);
	assert_int_equal(soft.live("mappings"), 0);
}

/* The target is its own until the ticket ends, and the source nobody's. */
static void test_while_a_share_is_in_flight(void **state)
{
	(void)state;
	struct hbm_region *one = client_region_make(4), *two = client_region_make(4);
	struct hbm_share all = slabs(one, 0, two, 0, 2);
	hbm_ticket ticket;

	assert_int_equal(client_region_commit(one, 0, 2), 0);
	client_region_put(one, 1, 'w');
	assert_int_equal(hbm_submit_share(hbm, &all, 1, &ticket), 0);
	assert_int_equal(client_region_commit(two, 1, 1), HBM_EXISTS);
	assert_int_equal(client_region_decommit(two, 0, 2), HBM_NOT_FOUND);
	assert_int_equal(hbm_region_destroy(hbm, one), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(client_region_get(two, 1), 'w');

	struct hbm_region *three = client_region_make(4);
	all = slabs(two, 0, three, 0, 2);
	assert_int_equal(hbm_submit_share(hbm, &all, 1, &ticket), 0);
	assert_int_equal(hbm_region_destroy(hbm, three), 0); /* waits for it */
	assert_int_equal(hbm_wait(hbm, ticket, 0), 0);
	assert_int_equal(soft.live("mappings"), 2);
}

/* The n-th device call of a share fails, for every n: nothing was asked of the daemon, and
 * nothing is left. */
static void test_every_device_call_of_a_share_fails(void **state)
{
	(void)state;
	struct hbm_region *one = client_region_make(6), *two = client_region_make(6);
	struct hbm_share both[] = {slabs(one, 0, two, 0, 2), slabs(one, 1, one, 4, 2)};
	unsigned failures = 0, passed = 0, n = 1;

	assert_int_equal(client_region_commit(one, 0, 3), 0);
	for (bool reached = true; reached; n++) {
		uint64_t before = soft.calls("*");

		assert_int_equal(soft.fail_nth("*", n, CUDA_ERROR_UNKNOWN), 0);
		int rc = hbm_share(hbm, both, 2);
		reached = soft.calls("*") - before >= n;
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);

		if (rc == 0) {
			passed++;
			client_region_put(one, 1, (char)n);
			assert_int_equal(client_region_get(two, 1), (char)n);
			assert_int_equal(client_region_get(one, 4), (char)n);
			assert_int_equal(client_region_decommit(two, 0, 2), 0);
			assert_int_equal(client_region_decommit(one, 4, 2), 0);
		} else {
			assert_int_equal(rc, HBM_DEVICE);
			assert_non_null(strstr(hbm_error(hbm), "CUDA_ERROR_UNKNOWN"));
			failures++;
		}

		assert_int_equal(fake.seen[HBM_WIRE_SHARE], passed);
		assert_int_equal(soft.live("mappings"), 3);
		assert_int_equal(soft.live("handles"), 3);
	}

	assert_in_range(failures, 12, n);
	assert_int_equal(client_region_decommit(one, 0, 3), 0);
	assert_int_equal(soft.live("handles"), 0); /* no handle was kept */
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_one_slab_at_two_addresses),
		TEST(test_access_is_set_once_for_a_run),
		TEST(test_read_only),
		TEST(test_bad_shares_are_not_sent),
		TEST(test_refused_by_the_daemon),
		TEST(test_the_daemon_dies),
		TEST(test_while_a_share_is_in_flight),
		TEST(test_every_device_call_of_a_share_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
