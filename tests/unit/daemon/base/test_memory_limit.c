/* SPDX-License-Identifier: Apache-2.0 */
/* The least limit of our memory cgroup and those above it, in trees of files that a
 * kernel of each kind would show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/memory_limit.h"
#include "tests/support/made_up_host.h"

#define MIB (1ull << 20)

static struct memory_limit limit;

static void assert_limit(const struct made_up_host *host, uint64_t bytes, const char *cgroup)
{
	memory_limit_read(&limit, host->root);
	assert_int_equal(limit.bytes, bytes);
	assert_string_equal(limit.cgroup, cgroup);
}

static void assert_unlimited(const struct made_up_host *host)
{
	uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	assert_limit(host, bytes, "");
	assert_int_equal(limit.host, bytes);
}

static void test_without_cgroups(void **state)
{
	assert_unlimited(*state);
	made_up_host_write(*state, "proc/self/cgroup", "0::/\n");
	assert_unlimited(*state);
	made_up_host_write(*state, "proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n");
	assert_unlimited(*state);
}

static void test_v2_walks_up(void **state)
{
	const struct made_up_host *host = *state;

	made_up_host_write(host, "proc/self/cgroup", "0::/system.slice/hbmd.service\n");
	made_up_host_write(
		host, "proc/self/mountinfo",
		"22 1 0:20 / /proc rw - proc proc rw\n"
		"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
	made_up_host_write(host, "sys/fs/cgroup/system.slice/hbmd.service/memory.max", "max\n");
	assert_unlimited(host);
	made_up_host_write(host, "sys/fs/cgroup/system.slice/memory.max", "314572800\n");
	assert_limit(host, 300 * MIB, "/sys/fs/cgroup/system.slice");
	made_up_host_write(host, "sys/fs/cgroup/system.slice/hbmd.service/memory.max",
			   "419430400\n");
	assert_limit(host, 300 * MIB, "/sys/fs/cgroup/system.slice");
	made_up_host_write(host, "sys/fs/cgroup/system.slice/hbmd.service/memory.max",
			   "104857600\n");
	assert_limit(host, 100 * MIB, "/sys/fs/cgroup/system.slice/hbmd.service");
	made_up_host_write(host, "sys/fs/cgroup/memory.max", "52428800\n"); /* as in a container */
	assert_limit(host, 50 * MIB, "/sys/fs/cgroup");
}

static void test_v1_beside_v2(void **state)
{
	const struct made_up_host *host = *state;

	made_up_host_write(host, "proc/self/cgroup",
			   "9:name=systemd:/\n5:cpu,memory:/a/b\n4:memoryx:/wrong\n0::/u\n");
	made_up_host_write(host, "proc/self/mountinfo",
			   "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
			   "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n"
			   "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
	made_up_host_write(host, "sys/fs/cgroup/cpu/a/memory.limit_in_bytes", "1\n");
	made_up_host_write(host, "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
			   "9223372036854771712\n");
	assert_unlimited(host);
	made_up_host_write(host, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "209715200\n");
	assert_limit(host, 200 * MIB, "/sys/fs/cgroup/memory/a");
	made_up_host_write(host, "sys/fs/cgroup/unified/u/memory.max", "104857600\n");
	assert_limit(host, 100 * MIB, "/sys/fs/cgroup/unified/u");
}

/* A container without a namespace of its own for cgroups: its part of the tree is mounted
 * at the root. */
static void test_a_part_of_the_tree(void **state)
{
	const struct made_up_host *host = *state;

	made_up_host_write(host, "proc/self/cgroup", "4:memory:/docker/abc/inner\n");
	made_up_host_write(
		host, "proc/self/mountinfo",
		"35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:11 - cgroup cgroup "
		"rw,memory\n");
	made_up_host_write(host, "sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n");
	made_up_host_write(host, "sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "209715200\n");
	assert_limit(host, 200 * MIB, "/sys/fs/cgroup/memory/inner");
	made_up_host_write(host, "proc/self/cgroup", "4:memory:/docker/abc\n");
	assert_limit(host, 300 * MIB, "/sys/fs/cgroup/memory");
	made_up_host_write(host, "proc/self/cgroup",
			   "4:memory:/docker/abcd/inner\n"); /* another one's */
	assert_limit(host, 300 * MIB, "/sys/fs/cgroup/memory");
}

/* The kernel's own files are understood: the limit of this very process is no more than
 * the host has. */
static void test_this_process(void **state)
{
	(void)state;
	memory_limit_read(&limit, "");
	assert_in_range(limit.bytes, 1, limit.host);
	assert_int_equal(limit.cgroup[0] == '\0', limit.bytes == limit.host);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, made_up_host_setup, made_up_host_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_without_cgroups),    TEST(test_v2_walks_up),  TEST(test_v1_beside_v2),
		TEST(test_a_part_of_the_tree), TEST(test_this_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
