/* SPDX-License-Identifier: Apache-2.0 */
/* examples/blocks.c, built as a user builds it: with the installed header and the shared library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { TEXT = 4096, COMMAND = 512 };

static const char *const sets[] = {"ddr.regions=8MiB", NULL};

/* Its exit status; what it says in text. */
static int run(const char *device, char text[TEXT])
{
	char command[COMMAND];

	snprintf(command, sizeof(command), "%s %s %s 2>&1", spawn_path("examples/blocks"),
		 daemon_.socket, device);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	size_t length = fread(text, 1, TEXT - 1, out);
	text[length] = '\0';

	return WEXITSTATUS(pclose(out));
}

static void test_every_byte_comes_back(void **state)
{
	char text[TEXT];

	(void)state;
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	for (int i = 0; i < 2; i++) {
		int status = run(i == 0 ? "" : "0", text);
		if (status != 0)
			fail_msg("blocks: %d: %s", status, text);
		assert_string_equal(text, "stored 16 blocks of 16\n"
					  "loaded 16 blocks, 0 of them wrong\n");
	}

	struct hbm_wire_status counts;
	spawn_status(&daemon_, &counts);
	assert_int_equal(counts.loaded_blocks, 2 * 16);
	stage_finish(fds);
}

static void test_what_it_says_otherwise(void **state)
{
	char text[TEXT];

	(void)state;
	spawn_needs_soft();
	assert_int_equal(run("", text), 1);
	assert_string_equal(text, "blocks: no daemon: No such file or directory\n");
	spawn_start(&daemon_, NULL, NULL);
	unsigned fds = spawn_fds(&daemon_);
	assert_int_equal(run("", text), 1);
	assert_non_null(strstr(text, "blocks: region: "));
	assert_non_null(strstr(text, "ddr.regions is 0"));
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_byte_comes_back, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_it_says_otherwise, stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
