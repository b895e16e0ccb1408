/* SPDX-License-Identifier: Apache-2.0 */
/* client_region: see client_region.h. */
#include "tests/support/client_region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

struct soft_calls soft;

void client_region_reconnect(void)
{
	hbm = hbm_close(hbm);
	fake.answer = NULL;
	fake_stage_connect();
}

int client_region_setup(void **state)
{
	(void)state;
	fake_stage_open(CLIENT_REGION_SLABS);
	soft = soft_calls_of(fake.driver);
	client_region_reconnect();

	return 0;
}

int client_region_teardown(void **state)
{
	(void)state;
	hbm = hbm_close(hbm);
	assert_int_equal(soft.live("mappings"), 0);
	assert_int_equal(soft.live("reservations"), 0);
	assert_int_equal(soft.live("registrations"), 0);
	assert_int_equal(soft.live("contexts"), 0);
	assert_int_equal(soft.live("handles"), 0);

	return fake_stage_teardown(state);
}

struct hbm_region *client_region_make(uint64_t slabs)
{
	struct hbm_region_options options = {.address_space = slabs * SLAB, .slab = SLAB};
	struct hbm_region *region = NULL;
	int rc = hbm_region_create(hbm, &options, &region);
	if (rc)
		fail_msg("hbm_region_create() returned %d: %s", rc, hbm_error(hbm));

	return region;
}

int client_region_commit(struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	struct hbm_range range = {region, first * SLAB, slabs * SLAB};
	return hbm_commit(hbm, &range, 1);
}

int client_region_decommit(struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	struct hbm_range range = {region, first * SLAB, slabs * SLAB};
	return hbm_decommit(hbm, &range, 1);
}

void client_region_put(const struct hbm_region *region, uint64_t slab, char byte)
{
	assert_int_equal(soft.poke(hbm_region_device(region),
				   hbm_region_address(region) + slab * SLAB, &byte, 1),
			 0);
}

char client_region_get(const struct hbm_region *region, uint64_t slab)
{
	char byte;
	assert_int_equal(soft.peek(&byte, hbm_region_device(region),
				   hbm_region_address(region) + slab * SLAB, 1),
			 0);
	return byte;
}

char client_region_slab_byte(size_t nth)
{
	char byte;
	assert_int_equal(pread(fake.slabs[nth], &byte, 1, 0), 1);
	return byte;
}
