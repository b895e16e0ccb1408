/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value: one value of the configuration: its type and bounds, and turning text
 * into it and back. Knows nothing of files or of which keys there are.
 *
 * Numbers are plain decimal: no signs, no exponents, at most nine digits after the point.
 * Sizes are bytes or carry KiB, MiB, GiB or TiB, which may follow a fraction ("1.5GiB",
 * rounded down to a byte). GB and the like are refused, because they are ambiguous.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum value_type {
	VALUE_TEXT,  /* char *, owned: no control characters, ';', '#' or outer space */
	VALUE_PATH,  /* char *, owned: absolute, or empty where min is 0; shorter than max bytes */
	VALUE_BOOL,  /* uint64_t */
	VALUE_COUNT, /* uint64_t */
	VALUE_MODE,  /* uint64_t, written in octal */
	VALUE_DECIMAL, /* double */
	VALUE_SIZE,    /* uint64_t */
	VALUE_SHARE,   /* struct config_size; the bounds are for bytes */
	VALUE_CHOICE,  /* uint64_t */
};

struct value_choice {
	const char *name; /* NULL ends the array */
	uint64_t value;
};

struct value_kind {
	enum value_type type;
	uint64_t min, max; /* inclusive, in what the type counts */
	uint64_t unit;     /* sizes: must be a multiple; 0: need not */
	/* of a choice; of a count or size, or NULL: words for numbers that are out of bounds */
	const struct value_choice *choices;
};

/* Reads text into field, which has the kind's C type; text and paths are allocated, what
 * was there is freed. -EINVAL if the text is not such a value, -ENOMEM; the field is
 * untouched then. */
int value_parse(const struct value_kind *kind, const char *text, void *field);
/* Writes what is expected, as the end of "expected ...", with a hint where `text` is a
 * common mistake. */
void value_expected(const struct value_kind *kind, const char *text, char *sentence, size_t size);
/* Writes the value so that value_parse() reads the same again. */
void value_print(const struct value_kind *kind, const void *field, FILE *out);
