/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/reason.h"

#include <stdarg.h>
#include <stdio.h>

int reason_set(const struct reason *reason, int result, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason->text, reason->size, format, arguments);
	va_end(arguments);

	return result;
}
