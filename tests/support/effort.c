/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/effort.h"

#include <stdlib.h>

static unsigned effort_percent(void)
{
	const char *given = getenv("HBM_TEST_EFFORT");
	unsigned long percent = given ? strtoul(given, NULL, 10) : 100;

	return percent > 0 && percent <= 1000 ? (unsigned)percent : 100;
}

unsigned effort_of(unsigned count)
{
	unsigned much = count * effort_percent() / 100;

	return much > 0 ? much : 1;
}

unsigned effort_stride(void)
{
	unsigned stride = 100 / effort_percent();

	return stride > 0 ? stride : 1;
}
