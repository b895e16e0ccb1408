/* SPDX-License-Identifier: Apache-2.0 */
/* record: see record.h. */
#include "tests/gpu/record.h"

#include <stdarg.h>
#include <stdio.h>

static const char *part = "";

static const char *outcome_name(enum outcome outcome)
{
	static const char *const names[] = {"PASS", "FAIL", "UNSUPPORTED", "SEEN"};
	return names[outcome];
}

/* A field, with what would break the line replaced. */
static void put_field(const char *text)
{
	for (; *text; text++)
		putchar(*text == '\t' || *text == '\n' || *text == '\r' ? ' ' : *text);
}

static void put_line(const char *name, enum outcome outcome, const char *value, const char *unit,
		     const char *note)
{
	const char *const fields[] = {part, name, outcome_name(outcome), value, unit, note};
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (i > 0)
			putchar('\t');
		put_field(fields[i]);
	}

	putchar('\n');
	fflush(stdout);
}

void record_part(const char *name)
{
	part = name;
}

void record(const char *name, enum outcome outcome, const char *format, ...)
{
	char note[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(note, sizeof(note), format, arguments);
	va_end(arguments);
	put_line(name, outcome, "", "", note);
}

void record_number(const char *name, double value, const char *unit, const char *format, ...)
{
	char note[512], digits[64];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(note, sizeof(note), format, arguments);
	va_end(arguments);
	snprintf(digits, sizeof(digits), value > -10000 && value < 10000 ? "%.4g" : "%.0f", value);
	put_line(name, OUTCOME_SEEN, digits, unit, note);
}

void record_word(const char *name, const char *value)
{
	put_line(name, OUTCOME_SEEN, value, "", "");
}
