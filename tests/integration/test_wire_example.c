/* SPDX-License-Identifier: Apache-2.0 */
/* A client that knows hbm-protocol(7) and nothing of the library: examples/wire.py. Skipped where
 * there is no Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT = 4096, COMMAND = 256 };

/* Its exit status; what it says in text. */
static int run(char text[TEXT])
{
	char command[COMMAND];

	snprintf(command, sizeof(command), "python3 examples/wire.py %s 2>&1", daemon_.socket);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	size_t length = fread(text, 1, TEXT - 1, out);
	text[length] = '\0';

	return WEXITSTATUS(pclose(out));
}

static void needs_example(void)
{
	if (access("examples/wire.py", R_OK) == 0 && system("python3 -c pass 2>/dev/null") == 0)
		return;
	print_message("SKIP test_wire_example: no python3, or no sources\n");
	skip();
}

static void test_every_byte_comes_back(void **state)
{
	char text[TEXT];

	(void)state;
	spawn_needs_soft();
	needs_example();
	spawn_start(&daemon_, NULL, NULL);
	unsigned fds = spawn_fds(&daemon_);
	for (int i = 0; i < 2; i++) {
		int status = run(text);
		if (status != 0)
			fail_msg("wire.py: %d: %s", status, text);
		assert_non_null(strstr(text, "stored 16 blocks, found 16 in a row"));
		assert_non_null(strstr(text, "loaded 16 blocks, 0 of them wrong"));
	}

	struct hbm_wire_status counts;
	spawn_status(&daemon_, &counts);
	assert_int_equal(counts.loaded_blocks, 2 * 16);
	stage_finish(fds);
}

static void test_no_daemon(void **state)
{
	char text[TEXT];

	(void)state;
	needs_example();
	assert_int_equal(run(text), 1);
	assert_string_equal(text, "wire.py: [Errno 2] No such file or directory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_byte_comes_back, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_no_daemon, stage_setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
