/* SPDX-License-Identifier: Apache-2.0 */
/* units: see units.h. */
#include "client/ctl/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1024.0 * 1024.0 * 1024.0)

static const struct unit {
	const char *name;
	uint64_t bytes;
} units[] = {
	{"TiB", 1ull << 40},
	{"GiB", 1ull << 30},
	{"MiB", 1ull << 20},
	{"KiB", 1ull << 10},
	{"B", 1},
};

struct units_text units_bytes(uint64_t bytes)
{
	struct units_text out;
	const struct unit *unit = units;

	while (unit->bytes > 1 && bytes < unit->bytes)
		unit++;
	if (bytes % unit->bytes == 0)
		snprintf(out.text, sizeof(out.text), "%" PRIu64 " %s", bytes / unit->bytes,
			 unit->name);
	else
		snprintf(out.text, sizeof(out.text), "%.1f %s", (double)bytes / (double)unit->bytes,
			 unit->name);

	return out;
}

static struct units_text units_two_parts(uint64_t whole, const char *large, uint64_t part,
					 const char *small)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%u %s %u %s", (unsigned)whole, large, (unsigned)part,
		 small);
	return out;
}

struct units_text units_duration_ns(uint64_t ns)
{
	struct units_text out;
	uint64_t seconds = ns / 1000000000;
	if (seconds >= 86400)
		return units_two_parts(seconds / 86400, "d", seconds % 86400 / 3600, "h");
	if (seconds >= 3600)
		return units_two_parts(seconds / 3600, "h", seconds % 3600 / 60, "min");
	if (seconds >= 60)
		return units_two_parts(seconds / 60, "min", seconds % 60, "s");

	if (seconds >= 1)
		snprintf(out.text, sizeof(out.text), "%.1f s", (double)ns / 1e9);
	else if (ns >= 1000000)
		snprintf(out.text, sizeof(out.text), "%.1f ms", (double)ns / 1e6);
	else if (ns >= 1000)
		snprintf(out.text, sizeof(out.text), "%.1f us", (double)ns / 1e3);
	else
		snprintf(out.text, sizeof(out.text), "%" PRIu64 " ns", ns);

	return out;
}

double units_gib_s(uint64_t bytes, uint64_t ns)
{
	return ns ? (double)bytes / GIB / ((double)ns / 1e9) : 0;
}

struct units_text units_rate(uint64_t bytes, uint64_t ns)
{
	struct units_text out = {"-"};
	if (ns)
		snprintf(out.text, sizeof(out.text), "%.2f", units_gib_s(bytes, ns));
	return out;
}

struct units_text units_percent(uint64_t part, uint64_t whole)
{
	struct units_text out = {"-"};
	if (whole)
		snprintf(out.text, sizeof(out.text), "%.1f%%",
			 100.0 * (double)part / (double)whole);
	return out;
}

/* The number at the front; *rest is what follows it. strtoull alone would take a sign and
 * leading space. */
static int units_parse_number(const char *text, uint64_t *number, const char **rest)
{
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;

	char *end;
	errno = 0;
	uint64_t value = strtoull(text, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;

	*number = value;
	*rest = end;

	return 0;
}

int units_parse_count(const char *text, uint64_t *count)
{
	const char *rest;
	uint64_t value;
	int r = units_parse_number(text, &value, &rest);
	if (r == 0 && *rest != '\0')
		r = -EINVAL;
	if (r == 0)
		*count = value;

	return r;
}

int units_parse_bytes(const char *text, uint64_t *bytes)
{
	const char *rest;
	uint64_t value;
	int r = units_parse_number(text, &value, &rest);
	if (r < 0)
		return r;
	if (*rest == ' ')
		rest++;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		bool plain = *rest == '\0' && units[i].bytes == 1;
		if (!plain && strcmp(rest, units[i].name) != 0)
			continue;

		uint64_t product;
		if (__builtin_mul_overflow(value, units[i].bytes, &product))
			return -ERANGE;

		*bytes = product;

		return 0;
	}

	return -EINVAL;
}
