/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon on a host of two NUMA nodes, which the test makes up: the second node is none of
 * this machine's, so the kernel refuses its pages, and a part of DDR stands for it all the
 * same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/made_up_host.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 65536u
#define MIB (1ull << 20)
#define PART (8 * MIB) /* of the DDR tier, without headroom */
#define NODES 2

static struct made_up_host *host;

static int setup(void **state)
{
	assert_int_equal(made_up_host_setup(state), 0);
	host = *state;
	made_up_host_write(host, "sys/devices/system/node/has_memory", "0,7\n");
	made_up_host_write(host, "sys/bus/pci/devices/ffff:ff:00.0/numa_node", "0\n");
	made_up_host_write(host, "sys/bus/pci/devices/ffff:ff:01.0/numa_node", "7\n");
	spawn_init(&daemon_);

	return 0;
}

static int teardown(void **state)
{
	spawn_free(&daemon_);
	return made_up_host_teardown(state);
}

static void start(const char *numa, const char *largest)
{
	char root[128], placed[32], bytes[64];
	const char *const sets[] = {"soft.devices=2",
				    "device.cache=0",
				    "ddr.size=16MiB",
				    "ddr.headroom=4MiB",
				    "ddr.staging=8MiB",
				    "ddr.chunk=2MiB",
				    "hbmd.checksum=always",
				    "nvme.path=",
				    "nvme.size=0",
				    bytes,
				    placed,
				    NULL};

	snprintf(root, sizeof(root), "HBM_HARDWARE_ROOT=%s", host->root);
	snprintf(placed, sizeof(placed), "ddr.numa=%s", numa);
	snprintf(bytes, sizeof(bytes), "limits.block_bytes=%s", largest);
	spawn_start(&daemon_, sets, (const char *const[]){root, NULL});
	spawn_wait_warm(&daemon_);
}

static int add_node(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_node **next = arg;

	assert_int_equal(bytes, sizeof(**next));
	memcpy((*next)++, record, bytes);

	return 0;
}

static uint32_t ask_nodes(struct hbm *hbm, struct hbm_wire_node nodes[NODES])
{
	struct hbm_wire_node *next = nodes;

	memset(nodes, 0, NODES * sizeof(*nodes));
	assert_int_equal(hbm_query(hbm, HBM_QUERY_NODES, add_node, &next), 0);

	return (uint32_t)(next - nodes);
}

/* Blocks lie in the part of their device, and elsewhere when it is full; threads of that node
 * hash them. */
static void test_blocks_lie_near_their_device(void **state)
{
	(void)state;
	enum { SLOTS = 16, BATCHES = 9 };
	struct hbm_wire_node nodes[NODES];
	struct kv kv;

	start("node", "64KiB");
	assert_true(spawn_logged(&daemon_, "cannot choose the NUMA node of its memory"));
	kv_open(&kv, &daemon_, 1, BLOCK, SLOTS);
	assert_int_equal(ask_nodes(kv.hbm, nodes), NODES);
	assert_int_equal(nodes[0].node, 0);
	assert_int_equal(nodes[1].node, 7);
	for (unsigned i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].devices, 1);
		assert_in_range(nodes[i].ddr, PART, 12 * MIB);
		assert_in_range(nodes[i].staging, 2 * MIB, 6 * MIB);
		assert_int_equal(nodes[i].ddr_used, 0);
	}
	assert_int_equal(nodes[0].ddr + nodes[1].ddr, 20 * MIB);
	assert_int_equal(nodes[0].staging + nodes[1].staging, 8 * MIB);

	for (uint64_t batch = 0; batch < BATCHES; batch++)
		assert_int_equal(kv_store(&kv, 0, 1 + batch * SLOTS, SLOTS, 0, NULL), 0);
	kv_await_moves(&kv);
	ask_nodes(kv.hbm, nodes);
	assert_int_equal(nodes[1].ddr_used, BATCHES * SLOTS * BLOCK);
	assert_int_equal(nodes[0].ddr_used, 0);
	assert_int_equal(nodes[1].hashed, BATCHES * SLOTS * BLOCK);
	assert_int_equal(nodes[0].hashed, 0);

	/* all that the tier has, of which the part holds its own share */
	for (uint64_t batch = BATCHES; batch < 2 * BATCHES; batch++)
		assert_int_equal(kv_store(&kv, 0, 1 + batch * SLOTS, SLOTS, 0, NULL), 0);
	kv_await_moves(&kv);
	ask_nodes(kv.hbm, nodes);
	assert_int_equal(nodes[0].ddr_used + nodes[1].ddr_used, 16 * MIB);
	assert_in_range(nodes[1].ddr_used, nodes[1].ddr - BLOCK, nodes[1].ddr);
	for (uint64_t batch = BATCHES; batch < 2 * BATCHES; batch++)
		assert_int_equal(kv_load(&kv, 0, 1 + batch * SLOTS, SLOTS, NULL), 0);
	kv_close(&kv);

	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
	kv_keys(&kv, HBM_WIRE_REMOVE, 1, 2 * BATCHES * SLOTS, 0, NULL);
	kv_await_moves(&kv);
	assert_int_equal(kv_store(&kv, 0, 1000, SLOTS, 0, NULL), 0);
	kv_await_moves(&kv);
	ask_nodes(kv.hbm, nodes);
	assert_int_equal(nodes[0].ddr_used, SLOTS * BLOCK);
	assert_int_equal(nodes[1].ddr_used, 0);
	kv_close(&kv);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void store_and_load(struct kv *kv)
{
	for (uint64_t first = 1; first <= 256; first += 16)
		assert_int_equal(kv_store(kv, 0, first, 16, 0, NULL), 0);
	for (uint64_t first = 1; first <= 256; first += 16)
		assert_int_equal(kv_load(kv, 0, first, 16, NULL), 0);
}

/* Each node gives its share, and gets it back; beyond what it was started with nothing grows. */
static void test_resized(void **state)
{
	(void)state;
	struct hbm_wire_node nodes[NODES];
	static const uint64_t sizes[] = {8 * MIB, 6 * MIB, 13 * MIB, MIB, 16 * MIB};
	struct kv kv;

	start("node", "64KiB");
	kv_open(&kv, &daemon_, 1, BLOCK, 16);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		store_and_load(&kv);
		assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_DDR, 0, sizes[i]), 0);
		assert_int_equal(ask_nodes(kv.hbm, nodes), NODES);
		assert_int_equal(nodes[0].ddr + nodes[1].ddr, sizes[i] + 4 * MIB);
		for (unsigned node = 0; node < NODES; node++)
			assert_in_range(nodes[node].ddr, (sizes[i] + 4 * MIB) / 2 - 2 * MIB,
					(sizes[i] + 4 * MIB) / 2 + 2 * MIB);
		assert_true(spawn_balanced(&daemon_));
	}

	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_DDR, 0, 17 * MIB), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_error(kv.hbm), "divided among NUMA nodes"));
	store_and_load(&kv);
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Where nothing is divided there are no nodes to show, and everything works. */
static void check_undivided(const char *numa, const char *largest)
{
	struct hbm_wire_node nodes[NODES];
	struct kv kv;

	start(numa, largest);
	kv_open(&kv, &daemon_, 1, BLOCK, 16);
	assert_int_equal(ask_nodes(kv.hbm, nodes), 0);
	assert_int_equal(kv_store(&kv, 0, 1, 16, 0, NULL), 0);
	assert_int_equal(kv_load(&kv, 0, 1, 16, NULL), 0);
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_interleaved_or_as_it_comes(void **state)
{
	(void)state;
	check_undivided("off", "64KiB");
	check_undivided("interleave", "64KiB"); /* the kernel leaves out the node it has not */
	assert_false(spawn_logged(&daemon_, "NUMA"));
}

static void test_parts_that_would_be_too_small(void **state)
{
	(void)state;
	check_undivided("node", "4MiB");
	assert_true(spawn_logged(&daemon_, "2 NUMA nodes: a part of ddr.size or ddr.staging "
					   "would be smaller than limits.block_bytes"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_lie_near_their_device),
		TEST(test_resized),
		TEST(test_interleaved_or_as_it_comes),
		TEST(test_parts_that_would_be_too_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
