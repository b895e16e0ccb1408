/* SPDX-License-Identifier: Apache-2.0 */
/* options: see options.h. */
#include "client/ctl/options.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The entry of specs that the first `length` characters of name spell, or OPTIONS_MAX. */
static size_t options_find(const struct option_spec *specs, const char *name, size_t length)
{
	for (size_t i = 0; specs && specs[i].name; i++) {
		assert(i < OPTIONS_MAX);
		if (strncmp(specs[i].name, name, length) == 0 && specs[i].name[length] == '\0')
			return i;
	}
	return OPTIONS_MAX;
}

/*
 * The option's value: what follows '=', else the next argument; a flag's is "". NULL,
 * with error set, if it is wrong.
 */
static const char *options_value_of(const struct option_spec *spec, const char *equals,
				    char ***args, char *error, size_t size)
{
	if (!spec->argument) {
		if (equals)
			snprintf(error, size, "--%s takes no value", spec->name);
		return equals ? NULL : "";
	}

	if (equals)
		return equals + 1;

	if (!(*args)[1]) {
		snprintf(error, size, "--%s needs a value: %s", spec->name, spec->argument);
		return NULL;
	}

	(*args)++;

	return **args;
}

int options_take(struct option_set *const *sets, size_t set_count, char ***args, char *error,
		 size_t error_size)
{
	const char *name = **args + 2;
	const char *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);

	for (size_t s = 0; s < set_count; s++) {
		size_t i = options_find(sets[s]->specs, name, length);
		if (i == OPTIONS_MAX)
			continue;

		const char *value =
			options_value_of(&sets[s]->specs[i], equals, args, error, error_size);
		if (!value)
			return -EINVAL;

		sets[s]->values[i] = value;
		(*args)++;

		return 0;
	}

	snprintf(error, error_size, "there is no option --%.*s", (int)length, name);

	return -EINVAL;
}

void options_help(const struct option_spec *specs, FILE *out)
{
	for (; specs && specs->name; specs++) {
		const char *argument = specs->argument ? specs->argument : "";
		int used = fprintf(out, "  --%s%s%s", specs->name, specs->argument ? " " : "",
				   argument);
		fprintf(out, "%*s  %s\n", used < 24 ? 24 - used : 0, "", specs->summary);
	}
}
