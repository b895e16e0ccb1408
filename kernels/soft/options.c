/* SPDX-License-Identifier: Apache-2.0 */
/* Options: defaults, the words of HBM_SOFT, and their bounds. */
#include "kernels/soft/options.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int options_parse_number(const char *text, double *out)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end != '\0')
		return -EINVAL;

	*out = number;

	return 0;
}

/* "4GiB", "512MiB" or plain bytes. */
static int options_parse_bytes(const char *text, uint64_t *out)
{
	static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
	char *end;
	uint64_t number = strtoull(text, &end, 10);

	if (end == text || *text < '0' || *text > '9')
		return -EINVAL;

	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i]) == 0 && number <= UINT64_MAX >> (10 * i)) {
			*out = number << (10 * i);
			return 0;
		}
	}

	return -EINVAL;
}

/* 16 hexadecimal digits. */
static int options_parse_word_of_memory(const char *text, uint64_t *out)
{
	char *end;
	uint64_t word = strtoull(text, &end, 16);

	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16 || *end != '\0')
		return -EINVAL;

	*out = word;

	return 0;
}

static int options_parse_path(const char *text, char path[SOFT_PATH_MAX])
{
	return snprintf(path, SOFT_PATH_MAX, "%s", text) < (int)SOFT_PATH_MAX ? 0 : -EINVAL;
}

/* "name:us+name:us" */
static int options_parse_slow(struct options *options, char *list)
{
	char *item;

	while ((item = strsep(&list, "+")) != NULL) {
		char *us = strchr(item, ':');
		double number;
		int call;

		if (us == NULL)
			return -EINVAL;

		*us++ = '\0';
		call = calls_find(item);
		if (call < 0 || call == CALLS || options_parse_number(us, &number) < 0 ||
		    !(number >= 0 && number <= 1e9))
			return -EINVAL;

		options->slow_us[call] = (uint32_t)number;
	}

	return 0;
}

static bool options_rate_is_valid(double value)
{
	return isfinite(value) && value >= 0 && value <= 1e9;
}

static int options_parse_word(struct options *options, const char *key, char *value)
{
	double number;

	if (strcmp(key, "memory") == 0)
		return options_parse_bytes(value, &options->memory);
	if (strcmp(key, "at_once") == 0)
		return options_parse_bytes(value, &options->at_once);
	if (strcmp(key, "hold") == 0)
		return options_parse_path(value, options->hold);
	if (strcmp(key, "card") == 0)
		return options_parse_path(value, options->card);
	if (strcmp(key, "slow") == 0)
		return options_parse_slow(options, value);
	if (strcmp(key, "dirt") == 0)
		return options_parse_word_of_memory(value, &options->dirt);
	if (options_parse_number(value, &number) < 0)
		return -EINVAL;

	if (strcmp(key, "devices") == 0) {
		if (!(number >= 1 && number <= SOFT_DEVICES_MAX))
			return -EINVAL;
		options->devices = (uint32_t)number;
	} else if (strcmp(key, "d2h") == 0) {
		options->d2h_gib_s = number;
	} else if (strcmp(key, "h2d") == 0) {
		options->h2d_gib_s = number;
	} else if (strcmp(key, "latency_us") == 0) {
		options->latency_us = number;
	} else if (strcmp(key, "context_mib") == 0 && number >= 0 && number <= 1e6) {
		options->context_bytes = (uint64_t)number << 20;
	} else if (strcmp(key, "slice_us") == 0 && options_rate_is_valid(number)) {
		options->slice_us = number;
	} else if (strcmp(key, "call_us") == 0 && options_rate_is_valid(number)) {
		options->call_us = number;
	} else if (strcmp(key, "unmap_waits") == 0 && (number == 0 || number == 1)) {
		options->unmap_waits = number == 1;
	} else if (strcmp(key, "litter") == 0 && (number == 0 || number == 1)) {
		options->litter = number == 1;
	} else {
		return -EINVAL;
	}

	return 0;
}

static int options_parse_environment(struct options *options, const char *words)
{
	char text[1024], *rest = text, *word;

	if (snprintf(text, sizeof(text), "%s", words) >= (int)sizeof(text))
		return -EINVAL;

	while ((word = strsep(&rest, ",")) != NULL) {
		char *value = strchr(word, '=');

		if (*word == '\0')
			continue;
		if (value == NULL)
			return -EINVAL;

		*value++ = '\0';
		if (options_parse_word(options, word, value) < 0)
			return -EINVAL;
	}

	return 0;
}

static bool options_are_valid(const struct options *options)
{
	return options->devices >= 1 && options->devices <= SOFT_DEVICES_MAX &&
	       options->memory >= SOFT_GRANULARITY && options->memory <= (1ull << 46) &&
	       options_rate_is_valid(options->d2h_gib_s) &&
	       options_rate_is_valid(options->h2d_gib_s) &&
	       options_rate_is_valid(options->latency_us);
}

int options_resolve(struct options *out, const struct driver_soft_options *given)
{
	struct options options = {.devices = 1, .memory = SOFT_MEMORY_DEFAULT};
	const char *words = secure_getenv("HBM_SOFT");

	if (words != NULL && options_parse_environment(&options, words) < 0)
		return -EINVAL;

	if (given != NULL) {
		options.devices = given->devices != 0 ? given->devices : 1;
		options.memory = given->memory != 0 ? given->memory : SOFT_MEMORY_DEFAULT;
		options.d2h_gib_s = given->d2h_gib_s;
		options.h2d_gib_s = given->h2d_gib_s;
		options.latency_us = given->latency_us;
		options.inherited = given->card;
	}

	if (!options_are_valid(&options))
		return -EINVAL;

	options.memory -= options.memory % SOFT_GRANULARITY;
	*out = options;

	return 0;
}
