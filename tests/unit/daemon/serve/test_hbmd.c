/* SPDX-License-Identifier: Apache-2.0 */
/* Every state of the daemon has a name of its own, which fits where clients read it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/wire.h>
#include <string.h>

#include "daemon/serve/hbmd.h"

static void test_every_state_has_a_name(void **state)
{
	(void)state;
	static const char *const names[] = {"warming", "running", "stopping"};

	for (unsigned i = 0; i < 3; i++) {
		const char *name = hbmd_state_name((enum hbmd_state)i);

		assert_string_equal(name, names[i]);
		assert_in_range(strlen(name), 1, sizeof(((struct hbm_wire_status *)0)->state) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_state_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
