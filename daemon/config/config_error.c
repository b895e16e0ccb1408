/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config/config_error.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int config_refuse(char *error, size_t error_size, const char *format, ...)
{
	va_list arguments;
	size_t used = strlen(error);
	if (used + 1 >= error_size)
		return -EINVAL;
	if (used > 0)
		error[used++] = '\n';

	va_start(arguments, format);
	vsnprintf(error + used, error_size - used, format, arguments);
	va_end(arguments);

	/* What was written there may be quoted: it is to stay one line. */
	for (error += used; *error; error++)
		if (iscntrl((unsigned char)*error))
			*error = '?';

	return -EINVAL;
}
