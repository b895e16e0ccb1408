/* SPDX-License-Identifier: Apache-2.0 */
/* plan_quantity: see plan_quantity.h. */
#include "client/ctl/plan_quantity.h"
#include "client/plan/load.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 63 /* no quantity is longer */

struct suffix {
	const char *name;
	double factor;
};

static const struct suffix tokens[] = {{"", 1}, {"K", 1e3}, {"M", 1e6}, {NULL, 0}};
static const struct suffix counts[] = {{"", 1}, {"K", 1e3}, {NULL, 0}};
static const struct suffix params[] = {{"", 1},    {"K", 1e3},  {"M", 1e6},
				       {"B", 1e9}, {"T", 1e12}, {NULL, 0}};
static const struct suffix sizes[] = {
	{"B", 1},      {"KB", 1e3},      {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},
	{"KiB", 1024}, {"MiB", 1048576}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {NULL, 0},
};
static const struct suffix rates[] = {
	{"", 1e9},         {"B/s", 1},        {"KB/s", 1e3},   {"MB/s", 1e6},
	{"GB/s", 1e9},     {"TB/s", 1e12},    {"KiB/s", 1024}, {"MiB/s", 1048576},
	{"GiB/s", 0x1p30}, {"TiB/s", 0x1p40}, {NULL, 0},
};
static const struct suffix flops[] = {
	{"", 1},           {"G", 1e9},        {"T", 1e12},      {"P", 1e15},      {"GFLOP/s", 1e9},
	{"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}, {"TFLOPS", 1e12}, {"PFLOPS", 1e15}, {NULL, 0},
};
static const struct suffix times[] = {{"", 1},     {"ms", 1e-3}, {"s", 1},
				      {"min", 60}, {"h", 3600},  {NULL, 0}};
static const struct suffix ratios[] = {{"", 1}, {"%", 0.01}, {NULL, 0}};
static const struct suffix plain[] = {{"", 1}, {NULL, 0}};

static const struct kind {
	const struct suffix *suffixes;
	const char *expected;
	double least, most;
	bool whole;
} kinds[] = {
	[PLAN_TOKENS] = {tokens, "tokens such as 4000, 4K (1,000 each) or 1M, at most 1000M", 1,
			 PLAN_CONTEXT_MAX, true},
	[PLAN_COUNT] = {counts, "a whole number from 1 to 1000000", 1, 1e6, true},
	[PLAN_PARAMS] = {params, "parameters such as 34B or 46.7B/12.9B, at most 1000T", 1, 1e15,
			 true},
	[PLAN_BYTES] = {sizes, "a size with its unit, such as 80GiB or 80GB, at most 1024TiB", 1,
			0x1p50, true},
	[PLAN_RATE] = {rates, "a rate such as 20GB/s, or 20 for the same, from 1B/s to 1000TB/s", 1,
		       1e15, false},
	[PLAN_FLOP_S] = {flops, "FLOP/s such as 312T or 312e12, from 1G to 1000P", 1e9, 1e18,
			 false},
	[PLAN_SECONDS] = {times, "a time such as 30s, 5min or 1h, at most 1000h", 0, 3.6e6, false},
	[PLAN_RATIO] = {ratios, "a part above 0 and at most 1, such as 0.5, 50% or 1/60", 1e-6, 1,
			false},
	[PLAN_WIDTH] = {plain, "FLOP such as 6656, from 1 to 1e9", 1, 1e9, false},
	[PLAN_BITS] = {plain, "bits from 1 to 32", 1, 32, false},
};

/* strtod() that accepts only digits, a point and an exponent. */
static int plan_quantity_number(const char *text, double *value, const char **rest)
{
	if (!isdigit((unsigned char)text[0]) || (text[0] == '0' && (text[1] | 0x20) == 'x'))
		return -EINVAL;

	char *end;
	*value = strtod(text, &end);
	*rest = end;

	return 0;
}

static int plan_quantity_scaled(const struct suffix *suffix, const char *name, double *value)
{
	for (; suffix->name; suffix++) {
		if (strcmp(suffix->name, name) == 0) {
			*value *= suffix->factor;
			return 0;
		}
	}
	return -EINVAL;
}

static int plan_quantity_fraction(const char *text, double *value)
{
	const char *rest, *end;
	double over, under;

	if (plan_quantity_number(text, &over, &rest) < 0 || *rest != '/' ||
	    plan_quantity_number(rest + 1, &under, &end) < 0 || *end || under <= 0)
		return -EINVAL;

	*value = over / under;

	return 0;
}

int plan_quantity_parse(enum plan_quantity kind, const char *text, size_t length, double *out)
{
	char copy[TEXT_MAX + 1];

	if (length > TEXT_MAX)
		return -EINVAL;

	memcpy(copy, text, length);
	copy[length] = '\0';

	const struct kind *expected = &kinds[kind];
	const char *rest;
	double value;
	if (plan_quantity_number(copy, &value, &rest) < 0)
		return -EINVAL;

	bool is_fraction = kind == PLAN_RATIO && *rest == '/';
	if ((is_fraction ? plan_quantity_fraction(copy, &value)
			 : plan_quantity_scaled(expected->suffixes, rest, &value)) < 0)
		return -EINVAL;

	if (!(value >= expected->least && value <= expected->most))
		return -ERANGE;

	/* 1.4K is 1400 also where binary fractions make it a little less. */
	uint64_t nearest = (uint64_t)(value + 0.5);
	double off = value - (double)nearest;
	if (expected->whole && (off > 1e-6 || off < -1e-6))
		return -EINVAL;

	*out = expected->whole ? (double)nearest : value;

	return 0;
}

const char *plan_quantity_expected(enum plan_quantity kind)
{
	return kinds[kind].expected;
}
