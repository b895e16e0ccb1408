/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config: the daemon's configuration. Everything behind the first zero byte is a
 * `--set`, what is before it a file. A file that is refused has a reason and changes nothing;
 * one that is accepted is printed as a file that is read as the same.
 */
#include "tests/fuzz/fuzz.h"

#include "daemon/config/config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print(const void *config, FILE *out)
{
	config_print(config, out);
}

static int read_bytes(struct config *config, const void *data, size_t size, char *error)
{
	char path[32];
	int fd = fuzz_file(data, size, path);
	int r = config_read(config, path, error, 4096);

	close(fd);

	return r;
}

static void assert_prints_as_read(const struct config *config)
{
	char error[4096] = "", *text = fuzz_printed(print, config), *again;
	struct config copy;

	fuzz_check(config_defaults(&copy) == 0);
	if (read_bytes(&copy, text, strlen(text), error) != 0)
		fuzz_fail("what was printed is refused: %s\n%s", error, text);

	again = fuzz_printed(print, &copy);
	if (strcmp(text, again) != 0)
		fuzz_fail("printed again it is another:\n%s\n%s", text, again);

	config_clear(&copy);
	free(text);
	free(again);
}

static void assert_is_as_at_first(const struct config *config)
{
	static char *defaults;
	char *now = fuzz_printed(print, config);

	if (!defaults) {
		struct config fresh;

		fuzz_check(config_defaults(&fresh) == 0);
		defaults = fuzz_printed(print, &fresh);
		config_clear(&fresh);
	}
	fuzz_check(strcmp(now, defaults) == 0);
	free(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
	size_t length = end ? (size_t)(end - data) : size;
	char error[4096] = "";
	struct config config;

	fuzz_check(config_defaults(&config) == 0);
	int r = read_bytes(&config, data, length, error);
	fuzz_check((r < 0) == (error[0] != '\0'));
	if (r < 0)
		assert_is_as_at_first(&config);

	if (end) {
		char *set = fuzz_text(end + 1, size - length - 1);
		r = config_set(&config, set, error, sizeof(error)) == 0 ? 0 : r;
		free(set);
	}

	fuzz_check(strlen(error) < sizeof(error));
	(void)config_check(&config, error, sizeof(error));
	if (r == 0)
		assert_prints_as_read(&config);
	config_clear(&config);

	return 0;
}
