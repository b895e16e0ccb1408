/* SPDX-License-Identifier: Apache-2.0 */
/* fake_stage: see fake_stage.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/fake_stage.h"
#include "tests/support/leaks.h"

struct fake fake;
struct hbm *hbm;
static struct leaks leaks;

void fake_stage_open(size_t slabs)
{
	leaks_begin(&leaks);
	fake_open(&fake, slabs);
}

void fake_stage_connect(void)
{
	const struct hbm_options options = {.socket = fake.path};
	assert_int_equal(hbm_connect(&hbm, &options), 0);
}

int fake_stage_teardown(void **state)
{
	(void)state;
	hbm = hbm_close(hbm);
	fake_close(&fake);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}
