/* SPDX-License-Identifier: Apache-2.0 */
/* plan_units: see plan_units.h. */
#include "client/ctl/plan_units.h"

#include <inttypes.h>
#include <stdio.h>

#define GIB 0x1p30

struct units_text plan_units_seconds(double s)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), s >= 10000 ? "%.0f s" : "%.4g s", s);
	return out;
}

struct units_text plan_units_figure(double value)
{
	struct units_text out = {"-"};

	if (value > 0)
		snprintf(out.text, sizeof(out.text), value >= 10000 ? "%.0f" : "%.4g", value);
	return out;
}

struct units_text plan_units_grouped(uint64_t number)
{
	char digits[24];
	struct units_text out;
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	size_t used = 0;

	for (int i = 0; i < length; i++) {
		out.text[used++] = digits[i];
		if (i + 1 < length && (length - i - 1) % 3 == 0)
			out.text[used++] = ',';
	}

	out.text[used] = '\0';

	return out;
}

struct units_text plan_units_gib(uint64_t bytes)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%.4g GiB", (double)bytes / GIB);
	return out;
}

struct units_text plan_units_gb_s(double bytes_s)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%.4g GB/s", bytes_s / 1e9);
	return out;
}
