/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/device_code.h"

#include <dlfcn.h>

bool device_code_give(const struct driver *driver, const struct hbm_soft_kernel *kernel)
{
	int (*give)(const struct hbm_soft_kernel *) = NULL;

	*(void **)&give = dlsym(driver->library, "hbm_soft_kernel");
	return !give || give(kernel) == 0; /* a device's driver does not have it */
}
