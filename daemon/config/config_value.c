/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value: see config_value.h. Every number goes through config_value_read_number(),
 * which yields an exact integer part and an exact fraction in billionths, so that nothing
 * depends on the locale or on how a double rounds.
 */
#include "daemon/config/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/config/config_fields.h"

#define BILLION 1000000000u

struct number {
	uint64_t whole;
	uint32_t billionths;
	bool has_point;
};

static const struct {
	const char *name;
	unsigned shift;
} units[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}};

enum { UNITS = sizeof(units) / sizeof(units[0]) };

/* Reads digits, optionally a point and up to nine more. Returns the text after them, or
 * NULL if there is no such number. */
static const char *config_value_read_number(const char *text, struct number *number)
{
	*number = (struct number){0};
	if (!isdigit((unsigned char)*text))
		return NULL;

	for (; isdigit((unsigned char)*text); text++) {
		if (!checked_mul(number->whole, 10, &number->whole) ||
		    !checked_add(number->whole, (uint64_t)(*text - '0'), &number->whole))
			return NULL;
	}

	if (*text != '.')
		return text;

	number->has_point = true;
	uint32_t weight = BILLION;
	for (text++; isdigit((unsigned char)*text); text++) {
		weight /= 10;
		if (weight == 0)
			return NULL;
		number->billionths += weight * (uint32_t)(*text - '0');
	}

	return weight < BILLION ? text : NULL;
}

static bool config_value_read_count(const char *text, uint64_t *count)
{
	struct number number;
	const char *rest = config_value_read_number(text, &number);
	*count = number.whole;
	return rest && *rest == '\0' && !number.has_point;
}

static bool config_value_read_mode(const char *text, uint64_t *mode)
{
	*mode = 0;
	if (!*text)
		return false;

	for (; *text >= '0' && *text <= '7'; text++) {
		if (!checked_mul(*mode, 8, mode))
			return false;
		*mode |= (uint64_t)(*text - '0');
	}

	return *text == '\0';
}

static bool config_value_read_decimal(const char *text, double *decimal)
{
	struct number number;
	const char *rest = config_value_read_number(text, &number);
	*decimal = (double)number.whole + (double)number.billionths / BILLION;
	return rest && *rest == '\0';
}

static bool config_value_read_size(const char *text, uint64_t *size)
{
	struct number number;
	const char *rest = config_value_read_number(text, &number);
	if (!rest)
		return false;

	*size = number.whole;
	if (*rest == '\0')
		return !number.has_point;

	while (*rest == ' ')
		rest++;
	for (size_t i = 0; i < UNITS; i++) {
		if (strcmp(rest, units[i].name) != 0)
			continue;
		uint64_t unit = UINT64_C(1) << units[i].shift;

		/* At most 10^9 * 2^40 < 2^70: one step wider than 64 bits. */
		uint64_t part = (uint64_t)((unsigned __int128)unit * number.billionths / BILLION);
		return checked_mul(number.whole, unit, size) && checked_add(*size, part, size);
	}

	return false;
}

static bool config_value_read_share(const char *text, struct config_size *share)
{
	struct number number;
	const char *rest = config_value_read_number(text, &number);

	*share = (struct config_size){0};
	if (!rest || strcmp(rest, "%") != 0)
		return config_value_read_size(text, &share->bytes);

	share->percent = (double)number.whole + (double)number.billionths / BILLION;

	return share->percent <= 100;
}

static const struct value_choice yes_or_no[] = {{"yes", 1}, {"no", 0},  {"true", 1}, {"false", 0},
						{"on", 1},  {"off", 0}, {NULL, 0}};

static bool config_value_read_choice(const struct value_choice *choices, const char *text,
				     uint64_t *value)
{
	for (; choices->name; choices++) {
		if (strcmp(choices->name, text) == 0) {
			*value = choices->value;
			return true;
		}
	}
	return false;
}

static bool config_value_is_text(const char *text)
{
	size_t length = strlen(text);
	if (length > 0 &&
	    (isspace((unsigned char)text[0]) || isspace((unsigned char)text[length - 1])))
		return false;

	for (; *text; text++)
		if (iscntrl((unsigned char)*text) || *text == ';' || *text == '#')
			return false;

	return true;
}

static bool config_value_is_path(const struct value_kind *kind, const char *text)
{
	return config_value_is_text(text) && strlen(text) < kind->max &&
	       (*text == '/' || (*text == '\0' && kind->min == 0));
}

static bool config_value_read_whole(const struct value_kind *kind, const char *text,
				    uint64_t *value)
{
	switch (kind->type) {
	case VALUE_BOOL:
		return config_value_read_choice(yes_or_no, text, value);
	case VALUE_CHOICE:
		return config_value_read_choice(kind->choices, text, value);
	case VALUE_MODE:
		return config_value_read_mode(text, value);
	case VALUE_SIZE:
		return config_value_read_size(text, value);
	default:
		return config_value_read_count(text, value);
	}
}

static bool config_value_in_bounds(const struct value_kind *kind, uint64_t value)
{
	bool bounded = kind->type != VALUE_BOOL && kind->type != VALUE_CHOICE;
	if (bounded && (value < kind->min || value > kind->max))
		return false;
	return kind->unit == 0 || is_aligned(value, kind->unit);
}

static int config_value_set_text(const char *text, char **field)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;

	free(*field);
	*field = copy;

	return 0;
}

static int config_value_set_decimal(const struct value_kind *kind, const char *text, double *field)
{
	double value;
	if (!config_value_read_decimal(text, &value) || value < (double)kind->min ||
	    value > (double)kind->max)
		return -EINVAL;

	*field = value;
	return 0;
}

static int config_value_set_share(const struct value_kind *kind, const char *text,
				  struct config_size *field)
{
	struct config_size value;
	if (!config_value_read_share(text, &value) ||
	    (value.percent <= 0 && !config_value_in_bounds(kind, value.bytes)))
		return -EINVAL;

	*field = value;
	return 0;
}

static int config_value_set_whole(const struct value_kind *kind, const char *text, uint64_t *field)
{
	uint64_t value;
	if (kind->choices && config_value_read_choice(kind->choices, text, field))
		return 0;
	if (!config_value_read_whole(kind, text, &value) || !config_value_in_bounds(kind, value))
		return -EINVAL;
	*field = value;
	return 0;
}

int value_parse(const struct value_kind *kind, const char *text, void *field)
{
	switch (kind->type) {
	case VALUE_TEXT:
		return config_value_is_text(text) ? config_value_set_text(text, field) : -EINVAL;
	case VALUE_PATH:
		return config_value_is_path(kind, text) ? config_value_set_text(text, field)
							: -EINVAL;
	case VALUE_DECIMAL:
		return config_value_set_decimal(kind, text, field);
	case VALUE_SHARE:
		return config_value_set_share(kind, text, field);
	default:
		return config_value_set_whole(kind, text, field);
	}
}

/* A size in the largest unit that needs no fraction. */
static void config_value_print_size(uint64_t bytes, FILE *out)
{
	for (size_t i = 0; bytes > 0 && i < UNITS; i++) {
		if (is_aligned(bytes, UINT64_C(1) << units[i].shift)) {
			fprintf(out, "%" PRIu64 "%s", bytes >> units[i].shift, units[i].name);
			return;
		}
	}
	fprintf(out, "%" PRIu64, bytes);
}

static void config_value_print_decimal(double value, FILE *out)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "%.9f", value);

	while (length > 0 && text[length - 1] == '0')
		length--;
	if (length > 0 && text[length - 1] == '.')
		length--;

	fprintf(out, "%.*s", length, text);
}

static void config_value_print_choice(const struct value_choice *choices, uint64_t value, FILE *out)
{
	while (choices->name && choices->value != value)
		choices++;
	fputs(choices->name ? choices->name : "?", out);
}

/* A count or a size, or the word for it. */
static void config_value_print_count(const struct value_kind *kind, uint64_t value, FILE *out)
{
	if (kind->choices && (value < kind->min || value > kind->max))
		config_value_print_choice(kind->choices, value, out);
	else if (kind->type == VALUE_SIZE)
		config_value_print_size(value, out);
	else
		fprintf(out, "%" PRIu64, value);
}

static void config_value_print_share(const struct config_size *share, FILE *out)
{
	if (share->percent <= 0) {
		config_value_print_size(share->bytes, out);
		return;
	}

	config_value_print_decimal(share->percent, out);
	putc('%', out);
}

void value_print(const struct value_kind *kind, const void *field, FILE *out)
{
	switch (kind->type) {
	case VALUE_TEXT:
	case VALUE_PATH:
		fputs(*(char *const *)field, out);
		break;
	case VALUE_BOOL:
		config_value_print_choice(yes_or_no, *(const uint64_t *)field, out);
		break;
	case VALUE_CHOICE:
		config_value_print_choice(kind->choices, *(const uint64_t *)field, out);
		break;
	case VALUE_COUNT:
	case VALUE_SIZE:
		config_value_print_count(kind, *(const uint64_t *)field, out);
		break;
	case VALUE_MODE:
		fprintf(out, "0%" PRIo64, *(const uint64_t *)field);
		break;
	case VALUE_DECIMAL:
		config_value_print_decimal(*(const double *)field, out);
		break;
	case VALUE_SHARE:
		config_value_print_share(field, out);
		break;
	}
}

static void config_value_expect_choice(const struct value_choice *choices, FILE *out)
{
	fputs("one of", out);
	for (; choices->name; choices++)
		fprintf(out, " %s", choices->name);
}

/* Words that stand for numbers; NULL: none. */
static void config_value_expect_words(const struct value_choice *words, FILE *out)
{
	for (; words && words->name; words++)
		fprintf(out, ", or %s", words->name);
}

static void config_value_expect_size(const struct value_kind *kind, const char *what, FILE *out)
{
	fprintf(out, "%s from ", what);
	config_value_print_size(kind->min, out);
	fputs(" to ", out);
	config_value_print_size(kind->max, out);

	if (kind->unit) {
		fputs(" in steps of ", out);
		config_value_print_size(kind->unit, out);
	}

	if (kind->type == VALUE_SHARE)
		fputs(", or a percentage up to 100%", out);
	config_value_expect_words(kind->choices, out);
}

/* "64GB", "64 mb", "64K", "64Gi": a number and a unit that resembles one of ours. */
static bool config_value_is_near_unit(const char *text)
{
	text += strspn(text, "0123456789.");
	text += strspn(text, " ");
	return *text && strchr("kKmMgGtT", *text) && strlen(text) <= 3;
}

static void config_value_expect_path(const struct value_kind *kind, FILE *out)
{
	fprintf(out, "an absolute path of less than %" PRIu64 " bytes without ';' or '#'%s",
		kind->max, kind->min == 0 ? ", or nothing" : "");
}

static void config_value_expect_count(const struct value_kind *kind, FILE *out)
{
	fprintf(out, "a whole number from %" PRIu64 " to %" PRIu64, kind->min, kind->max);
	config_value_expect_words(kind->choices, out);
}

static void config_value_expect(const struct value_kind *kind, FILE *out)
{
	switch (kind->type) {
	case VALUE_TEXT:
		fputs("text without ';', '#' or control characters", out);
		break;
	case VALUE_PATH:
		config_value_expect_path(kind, out);
		break;
	case VALUE_BOOL:
		config_value_expect_choice(yes_or_no, out);
		break;
	case VALUE_CHOICE:
		config_value_expect_choice(kind->choices, out);
		break;
	case VALUE_COUNT:
		config_value_expect_count(kind, out);
		break;
	case VALUE_MODE:
		fprintf(out, "an octal mode from 0%" PRIo64 " to 0%" PRIo64, kind->min, kind->max);
		break;
	case VALUE_DECIMAL:
		fprintf(out, "a number from %" PRIu64 " to %" PRIu64, kind->min, kind->max);
		break;
	case VALUE_SIZE:
	case VALUE_SHARE:
		config_value_expect_size(kind, "a size", out);
		break;
	}
}

void value_expected(const struct value_kind *kind, const char *text, char *sentence, size_t size)
{
	FILE *out = fmemopen(sentence, size, "w");
	if (!out) {
		snprintf(sentence, size, "another value");
		return;
	}

	config_value_expect(kind, out);

	if ((kind->type == VALUE_SIZE || kind->type == VALUE_SHARE) &&
	    config_value_is_near_unit(text))
		fputs(" (units are KiB, MiB, GiB and TiB, written just so)", out);

	fclose(out);
}
