/* SPDX-License-Identifier: Apache-2.0 */
/* The least limit of our memory cgroup and those above it, in trees of files that a
 * kernel of each kind would show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/memory_limit.h"
#include "tests/support/leaks.h"

#define MIB (1ull << 20)

struct fixture {
	struct leaks leaks;
	char root[64];
	struct memory_limit limit;
};

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){.root = "/tmp/hbm-cgroup-XXXXXX"};
	leaks_begin(&fixture.leaks);
	assert_non_null(mkdtemp(fixture.root));
	*state = &fixture;

	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status, (void)type, (void)walk;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(nftw(fixture->root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(leaks_end(&fixture->leaks), 0);
	return 0;
}

/* A file below the root, and the folders it takes. */
static void write_file(const struct fixture *fixture, const char *path, const char *text)
{
	char name[512];

	snprintf(name, sizeof(name), "%s%s", fixture->root, path);

	for (char *at = strchr(name + strlen(fixture->root) + 1, '/'); at;
	     at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(name, 0700);
		*at = '/';
	}

	FILE *out = fopen(name, "we");

	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
}

static void assert_limit(struct fixture *fixture, uint64_t bytes, const char *cgroup)
{
	memory_limit_read(&fixture->limit, fixture->root);
	assert_int_equal(fixture->limit.bytes, bytes);
	assert_string_equal(fixture->limit.cgroup, cgroup);
}

static void assert_unlimited(struct fixture *fixture)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	assert_limit(fixture, host, "");
	assert_int_equal(fixture->limit.host, host);
}

static void test_without_cgroups(void **state)
{
	assert_unlimited(*state);
	write_file(*state, "/proc/self/cgroup", "0::/\n");
	assert_unlimited(*state);
	write_file(*state, "/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n");
	assert_unlimited(*state);
}

static void test_v2_walks_up(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "/proc/self/cgroup", "0::/system.slice/hbmd.service\n");
	write_file(
		fixture, "/proc/self/mountinfo",
		"22 1 0:20 / /proc rw - proc proc rw\n"
		"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
	write_file(fixture, "/sys/fs/cgroup/system.slice/hbmd.service/memory.max", "max\n");
	assert_unlimited(fixture);
	write_file(fixture, "/sys/fs/cgroup/system.slice/memory.max", "314572800\n");
	assert_limit(fixture, 300 * MIB, "/sys/fs/cgroup/system.slice");
	write_file(fixture, "/sys/fs/cgroup/system.slice/hbmd.service/memory.max", "419430400\n");
	assert_limit(fixture, 300 * MIB, "/sys/fs/cgroup/system.slice");
	write_file(fixture, "/sys/fs/cgroup/system.slice/hbmd.service/memory.max", "104857600\n");
	assert_limit(fixture, 100 * MIB, "/sys/fs/cgroup/system.slice/hbmd.service");
	write_file(fixture, "/sys/fs/cgroup/memory.max", "52428800\n"); /* as in a container */
	assert_limit(fixture, 50 * MIB, "/sys/fs/cgroup");
}

static void test_v1_beside_v2(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "/proc/self/cgroup",
		   "9:name=systemd:/\n5:cpu,memory:/a/b\n4:memoryx:/wrong\n0::/u\n");
	write_file(fixture, "/proc/self/mountinfo",
		   "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
		   "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n"
		   "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
	write_file(fixture, "/sys/fs/cgroup/cpu/a/memory.limit_in_bytes", "1\n");
	write_file(fixture, "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
		   "9223372036854771712\n");
	assert_unlimited(fixture);
	write_file(fixture, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "209715200\n");
	assert_limit(fixture, 200 * MIB, "/sys/fs/cgroup/memory/a");
	write_file(fixture, "/sys/fs/cgroup/unified/u/memory.max", "104857600\n");
	assert_limit(fixture, 100 * MIB, "/sys/fs/cgroup/unified/u");
}

/* A container without a namespace of its own for cgroups: its part of the tree is mounted
 * at the root. */
static void test_a_part_of_the_tree(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
	write_file(fixture, "/proc/self/mountinfo",
		   "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:11 - cgroup cgroup "
		   "rw,memory\n");
	write_file(fixture, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n");
	write_file(fixture, "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "209715200\n");
	assert_limit(fixture, 200 * MIB, "/sys/fs/cgroup/memory/inner");
	write_file(fixture, "/proc/self/cgroup", "4:memory:/docker/abc\n");
	assert_limit(fixture, 300 * MIB, "/sys/fs/cgroup/memory");
	write_file(fixture, "/proc/self/cgroup",
		   "4:memory:/docker/abcd/inner\n"); /* another one's */
	assert_limit(fixture, 300 * MIB, "/sys/fs/cgroup/memory");
}

/* The kernel's own files are understood: the limit of this very process is no more than
 * the host has. */
static void test_this_process(void **state)
{
	struct fixture *fixture = *state;

	memory_limit_read(&fixture->limit, "");
	assert_in_range(fixture->limit.bytes, 1, fixture->limit.host);
	assert_int_equal(fixture->limit.cgroup[0] == '\0',
			 fixture->limit.bytes == fixture->limit.host);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_without_cgroups),    TEST(test_v2_walks_up),  TEST(test_v1_beside_v2),
		TEST(test_a_part_of_the_tree), TEST(test_this_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
