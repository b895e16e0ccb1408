/* SPDX-License-Identifier: Apache-2.0 */
/* soft_calls: see soft_calls.h. */
#include "tests/support/soft_calls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>

void *soft_symbol(const struct driver *driver, const char *name)
{
	void *symbol = dlsym(driver->library, name);

	assert_non_null(symbol);
	return symbol;
}

struct soft_calls soft_calls_of(const struct driver *driver)
{
	struct soft_calls calls;

	*(void **)&calls.fail_nth = soft_symbol(driver, "hbm_soft_fail");
	*(void **)&calls.faults = soft_symbol(driver, "hbm_soft_faults");
	*(void **)&calls.calls = soft_symbol(driver, "hbm_soft_calls");
	*(void **)&calls.live = soft_symbol(driver, "hbm_soft_live");
	*(void **)&calls.peek = soft_symbol(driver, "hbm_soft_peek");
	*(void **)&calls.poke = soft_symbol(driver, "hbm_soft_poke");
	*(void **)&calls.gone = soft_symbol(driver, "hbm_soft_gone");
	*(void **)&calls.hold = soft_symbol(driver, "hbm_soft_hold");
	*(void **)&calls.kernel = soft_symbol(driver, "hbm_soft_kernel");

	return calls;
}
