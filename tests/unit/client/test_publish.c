/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching what is published, as a daemon that misbehaves answers it. The rest is for
 * tests/integration/test_publications.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/config/config.h"
#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <errno.h>
#include <stdio.h>

#define ADDRESS_SPACE_MAX (UINT64_C(64) << 40) /* of limits.address_space */

static uint64_t attached_bytes;

static bool answer_attach(struct fake *self, const struct hbm_wire_header *request)
{
	struct hbm_wire_attached reply = {
		.region = 1, .address_space = attached_bytes, .slab = SLAB};

	return request->opcode == HBM_WIRE_ATTACH &&
	       fake_reply_message(self, request, &reply, sizeof(reply), NULL, 0);
}

/* The library allocates memory for each slab: not for more of them than a daemon can have. */
static void test_no_daemon_has_so_large_a_region(void **state)
{
	(void)state;
	struct hbm_region *untouched = (struct hbm_region *)8, *region = untouched;
	char line[128], error[256] = "";
	struct config config;

	assert_int_equal(config_defaults(&config), 0);
	for (uint64_t more = 0; more < 2; more++) {
		snprintf(line, sizeof(line), "limits.address_space=%llu",
			 (unsigned long long)(ADDRESS_SPACE_MAX + more * SLAB));
		assert_int_equal(config_set(&config, line, error, sizeof(error)),
				 more ? -EINVAL : 0);
	}
	config_clear(&config);

	fake.answer = answer_attach;
	attached_bytes = ADDRESS_SPACE_MAX + SLAB;
	assert_int_equal(hbm_region_attach(hbm, HBM_OWN_UID, "name", 0, &region), -EPROTO);
	assert_ptr_equal(region, untouched);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_no_daemon_has_so_large_a_region),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
