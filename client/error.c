/* SPDX-License-Identifier: Apache-2.0 */
/* error: see error.h. */
#include "client/error.h"

#include "client/connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

int hbm_fail(struct hbm *hbm, int status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(hbm->error, sizeof(hbm->error), format, arguments);
	va_end(arguments);
	return status;
}

int hbm_fail_device(struct hbm *hbm, const char *call, int result)
{
	return hbm_fail(hbm, HBM_DEVICE, "the device refused %s in this process: %s", call,
			driver_error_name(hbm->gpu.driver, (CUresult)result));
}

int hbm_check_owner(struct hbm *hbm)
{
	if (hbm_owner_is_here(&hbm->owner))
		return 0;
	return hbm_fail(
		hbm, -EPERM,
		"the connection belongs to the process that opened it, and this is a child of it");
}

const char *hbm_error(const struct hbm *hbm)
{
	return hbm->error;
}
