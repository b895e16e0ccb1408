/* SPDX-License-Identifier: Apache-2.0 */
/* config_error: what is wrong in a configuration, as lines in a buffer; see config.h. */
#pragma once

#include <stddef.h>

/* Adds a line to error and returns -EINVAL. */
int config_refuse(char *error, size_t error_size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
