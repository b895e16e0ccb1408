/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: the long options of a command line, from tables that also yield the help text.
 * An option is `--name`, or `--name VALUE` or `--name=VALUE` where the table gives it an
 * argument; the last one given wins. There are no short options.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#define OPTIONS_MAX 32 /* in one table */

struct option_spec {
	const char *name;     /* without the dashes; NULL ends the table */
	const char *argument; /* what the help calls its value; NULL: a flag */
	const char *summary;  /* one line */
};

struct option_set {
	const struct option_spec *specs;
	/* by position in specs: NULL when not given, "" for a flag */
	const char *values[OPTIONS_MAX];
};

/* Takes one option off the front of *args (a NULL-terminated list whose first entry
 * starts with "--"). It is looked for in each of the sets. 0; -EINVAL: unknown, lacking
 * its value or given one too many: a sentence without a full stop in error. */
int options_take(struct option_set *const *sets, size_t set_count, char ***args, char *error,
		 size_t error_size);
/* One aligned line for each. */
void options_help(const struct option_spec *specs, FILE *out);
