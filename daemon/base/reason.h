/* SPDX-License-Identifier: Apache-2.0 */
/* reason: why something failed or is refused, as one line for people in the caller's
 * buffer. What does not fit is cut. */
#pragma once

#include <stddef.h>

struct reason {
	char *text;
	size_t size;
};

/* Writes the line and returns result. */
int reason_set(const struct reason *reason, int result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
