/* SPDX-License-Identifier: Apache-2.0 */
/* A start with more memory than there is, or than a cgroup allows: refused before any of it is
 * touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How a start ends that nothing but a change can mend. */
enum { CONFIG = 78 };

/* It is not tried how far one comes: other processes would pay. */
static void test_more_memory_than_there_is(void **state)
{
	(void)state;
	stage_refused((const char *[]){"ddr.size=16TiB", NULL}, NULL, CONFIG,
		      "ddr.size: with ddr.headroom and ddr.staging");
	stage_refused((const char *[]){"ddr.size=100%", NULL}, NULL, CONFIG, "lower ddr.size");
}

/* A cgroup below our own that may have so many bytes, of the kind that this host has;
 * skips the test without one. */
static void make_cgroup(char *path, size_t size, const char *bytes)
{
	static const char *const kinds[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
					       {"/sys/fs/cgroup", "memory.max"}};
	char name[160];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, size, "%s/hbmd-test-%d", kinds[i][0], (int)getpid());
		if (mkdir(path, 0755) < 0)
			continue;

		snprintf(name, sizeof(name), "%s/%s", path, kinds[i][1]);
		FILE *out = file_exists(name) ? fopen(name, "we") : NULL;
		if (out && fputs(bytes, out) >= 0 && fclose(out) == 0)
			return;
		if (out)
			fclose(out);

		rmdir(path);
	}

	print_message("SKIP: no memory cgroup can be made here\n");
	skip();
}

static void enter_cgroup(const char *path)
{
	char name[160];

	snprintf(name, sizeof(name), "%s/cgroup.procs", path);
	FILE *out = fopen(name, "we");
	assert_non_null(out);
	assert_true(fprintf(out, "%d", (int)getpid()) > 0);
	assert_int_equal(fclose(out), 0);
}

/* The folder of the cgroup that the test is in, to go back to. */
static void own_cgroup(const char *made, char *path, size_t size)
{
	char line[512];
	bool is_v1 = strncmp(made, "/sys/fs/cgroup/memory/", 22) == 0;
	FILE *in = fopen("/proc/self/cgroup", "re");

	assert_non_null(in);
	path[0] = '\0';
	while (fgets(line, sizeof(line), in)) {
		const char *at = strstr(line, is_v1 ? ":memory:" : "0::");
		line[strcspn(line, "\n")] = '\0';
		if (at)
			snprintf(path, size, "/sys/fs/cgroup%s%s", is_v1 ? "/memory" : "",
				 at + (is_v1 ? strlen(":memory:") : strlen("0::")));
	}

	fclose(in);
}

/* Without the check the kernel would end the daemon while it touches the memory, and no
 * log would say why. */
static void test_a_memory_cgroup_that_is_too_small(void **state)
{
	(void)state;
	char made[128], own[512];

	make_cgroup(made, sizeof(made), "314572800"); /* 300 MiB */
	own_cgroup(made, own, sizeof(own));
	enter_cgroup(made);
	stage_refused((const char *[]){"ddr.size=600MiB", NULL}, NULL, CONFIG,
		      "allows 314572800: lower ddr.size");
	assert_true(
		spawn_logged(&daemon_, "679477248 bytes are needed")); /* 600 + 8 + 8 + 32 MiB */
	stage_refused((const char *[]){"ddr.size=90%", NULL}, NULL, CONFIG,
		      "allows 314572800: lower ddr.size");

	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, (const char *[]){"ddr.size=50%", NULL},
		    NULL); /* 150 MiB: all of it is touched */
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);

	enter_cgroup(own);
	assert_int_equal(rmdir(made), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_more_memory_than_there_is),
		TEST(test_a_memory_cgroup_that_is_too_small),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
