/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a host that the test makes up, and binding to the ones this host has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/base/numa.h"
#include "tests/support/made_up_host.h"

static struct numa numa;

static void read_host(struct made_up_host *host)
{
	numa_read(&numa, host->root);
}

static void only_nodes_with_memory_that_may_be_used(void **state)
{
	struct made_up_host *host = *state;

	made_up_host_write(host, "sys/devices/system/node/has_memory", "0,2-4,1200\n");
	made_up_host_write(host, "proc/self/status", "Name:\ttest\nMems_allowed_list:\t1-3\n");
	read_host(host);
	assert_int_equal(numa.count, 2);
	assert_int_equal(numa.ids[0], 2);
	assert_int_equal(numa.ids[1], 3);
}

static void one_where_nothing_is_said(void **state)
{
	struct made_up_host *host = *state;
	static const char *const lists[] = {"", "\n", "x\n", "0-\n", "0;1\n", "7-5\n"};

	read_host(host);
	assert_int_equal(numa.count, 1);
	assert_int_equal(numa.ids[0], 0);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		made_up_host_write(host, "sys/devices/system/node/has_memory", lists[i]);
		read_host(host);
		assert_int_equal(numa.count, 1);
		assert_int_equal(numa.ids[0], 0);
	}
}

static void the_node_of_a_device(void **state)
{
	struct made_up_host *host = *state;

	made_up_host_write(host, "sys/devices/system/node/has_memory", "1,3\n");
	made_up_host_write(host, "sys/bus/pci/devices/0000:17:00.0/numa_node", "3\n");
	made_up_host_write(host, "sys/bus/pci/devices/00ab:cd:1f.0/numa_node", "1\n");
	made_up_host_write(host, "sys/bus/pci/devices/0000:18:00.0/numa_node", "-1\n");
	made_up_host_write(host, "sys/bus/pci/devices/0000:19:00.0/numa_node", "2\n");
	made_up_host_write(host, "sys/bus/pci/devices/0000:1a:00.0/numa_node", "");
	read_host(host);
	assert_int_equal(numa_of_pci(&numa, 0, 0x17, 0), 1);
	assert_int_equal(numa_of_pci(&numa, 0xab, 0xcd, 0x1f), 0);
	assert_int_equal(numa_of_pci(&numa, 0, 0x18, 0), -1); /* the firmware does not say */
	assert_int_equal(numa_of_pci(&numa, 0, 0x19, 0), -1); /* it has no memory */
	assert_int_equal(numa_of_pci(&numa, 0, 0x1a, 0), -1);
	assert_int_equal(numa_of_pci(&numa, 0, 0x1b, 0), -1);
}

static void memory_is_placed(void **state)
{
	struct made_up_host *host = *state;
	size_t bytes = 1 << 20;
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	made_up_host_write(host, "sys/devices/system/node/has_memory", "0,1023\n");
	read_host(host);
	assert_int_equal(numa.count, 2);
	assert_int_equal(numa_place(&numa, at, bytes, 0), 0);
	memset(at, 1, bytes);
	/* there is no such node here */
	assert_int_not_equal(numa_place(&numa, at, bytes, 1), 0);
	assert_int_equal(numa_place(&numa, at + 1, bytes, 0), -EINVAL);
	assert_int_equal(munmap(at, bytes), 0);

	numa_read(&numa, "");
	if (numa.count == 1)
		assert_int_equal(numa_place(&numa, NULL, 1, 0), 0); /* nothing to do */
	assert_int_equal(numa_interleave(&numa, at, 0), 0);
}

static void a_thread_runs_on_the_processors_of_its_node(void **state)
{
	struct made_up_host *host = *state;
	cpu_set_t before, after, wanted;
	char list[32];
	int cpu = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&wanted);
	CPU_SET(cpu, &wanted);
	snprintf(list, sizeof(list), "%d,1000-1023\n", cpu);
	made_up_host_write(host, "sys/devices/system/node/has_memory", "0-2\n");
	made_up_host_write(host, "sys/devices/system/node/node1/cpulist", list);
	made_up_host_write(host, "sys/devices/system/node/node2/cpulist", "1000-1023\n");
	read_host(host);

	numa_run_on(&numa, -1);
	numa_run_on(&numa, 0); /* nothing is said of it */
	numa_run_on(&numa, 2); /* it has none that the thread may run on */
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&after, &before));
	numa_run_on(&numa, 1);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&after, &wanted));
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, made_up_host_setup, made_up_host_teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_nodes_with_memory_that_may_be_used),
		TEST(one_where_nothing_is_said),
		TEST(the_node_of_a_device),
		TEST(memory_is_placed),
		TEST(a_thread_runs_on_the_processors_of_its_node),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
