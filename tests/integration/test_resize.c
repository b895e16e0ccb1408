/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of a daemon that are resized while clients store and load and compare every byte; clients
 * that are killed in the midst of it; and what the kernel gets back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/child.h"
#include "tests/support/hbmctl.h"
#include "tests/support/seed.h"

#define MIB (1ull << 20)
#define BATCH 8u
#define BLOCK 65536u
#define KEYS 4096u

static const char *const sets[] = {
	"device.cache=8MiB", "device.headroom=2MiB",     "ddr.size=16MiB",
	"ddr.headroom=4MiB", "ddr.staging=4MiB",         "ddr.chunk=2MiB",
	"nvme.size=32MiB",   "limits.block_bytes=64KiB", NULL};

/* ---- a client ---- */

/* Stores and loads, whatever the sizes are; kv_load() compares the bytes. */
static void client_step(struct kv *kv, struct seed *seed)
{
	hbm_result results[BATCH];
	uint64_t first = 1 + seed_below(seed, KEYS / BATCH) * BATCH;
	int status = seed_below(seed, 3) > 0 ? kv_load(kv, 0, first, BATCH, results)
					     : kv_store(kv, 0, first, BATCH, 0, results);

	assert_int_equal(status, 0);
	for (unsigned i = 0; i < BATCH; i++) {
		assert_int_not_equal(results[i].status, HBM_IO);
		assert_int_not_equal(results[i].status, HBM_DEVICE);
	}
}

/* Until it is killed. */
static void client(const struct spawn *spawn, uint64_t number)
{
	struct seed seed;
	struct kv kv;

	seed_open(&seed, "client");
	seed.state += number;
	kv_open(&kv, spawn, 0, BLOCK, BATCH);
	client_step(&kv, &seed);
	child_tell();
	for (;;)
		client_step(&kv, &seed);
}

static const struct child_part parts[] = {{"client", client}, {NULL, NULL}};

/* ---- what is seen of it ---- */

/* arg: one whose kind is set. */
static int keep_tier(const void *record, size_t record_bytes, void *arg)
{
	struct hbm_wire_tier tier = {0}, *wanted = arg;

	memcpy(&tier, record, record_bytes < sizeof(tier) ? record_bytes : sizeof(tier));
	if (tier.tier == wanted->tier)
		*wanted = tier;

	return 0;
}

/* Bytes of shared memory that the daemon has in memory: of DDR, and of the soft device. */
static uint64_t resident_shared(void)
{
	char path[64], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon_.pid);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		(void)sscanf(line, "RssShmem: %llu kB", &kib);
	fclose(file);

	return kib << 10;
}

static void assert_size(struct hbm *hbm, enum hbm_tier kind, uint64_t bytes)
{
	struct hbm_wire_tier tier = {.tier = kind};

	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, keep_tier, &tier), 0);
	assert_int_equal(tier.capacity, bytes);
	assert_int_equal(tier.usable, bytes);
	assert_int_equal(tier.resizing, 0);
	assert_int_equal(tier.leaving, 0);
}

static void fill(struct kv *kv)
{
	for (uint64_t first = 1; first <= KEYS / 2; first += BATCH)
		assert_int_equal(kv_store(kv, 0, first, BATCH, 0, NULL), 0);
}

/* ---- tests ---- */

/* The host has the memory of DDR again, byte by byte in chunks; and then less. */
static void test_memory_goes_back(void **state)
{
	(void)state;
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct kv kv;

	kv_open(&kv, &daemon_, 0, BLOCK, BATCH);
	fill(&kv);
	kv_await_moves(&kv);
	uint64_t before = resident_shared();
	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_DDR, 0, 4 * MIB), 0);
	assert_size(kv.hbm, HBM_TIER_DDR, 4 * MIB);
	assert_in_range(resident_shared(), 0, before - 12 * MIB);
	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_DDR, 0, 48 * MIB), 0);
	assert_size(kv.hbm, HBM_TIER_DDR, 48 * MIB);
	assert_in_range(resident_shared(), before + 32 * MIB, UINT64_MAX);
	assert_true(spawn_balanced(&daemon_));
	fill(&kv);
	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_DDR, 0, 16 * MIB), 0);
	assert_in_range(resident_shared(), before - 2 * MIB, before + 2 * MIB);
	kv_close(&kv);
	stage_finish(fds);
}

/* hbmctl resize: what it says, and what it is refused. */
static void test_hbmctl(void **state)
{
	(void)state;
	hbmctl_begin();
	hbmctl_expect("resize ddr 8MiB", 0);
	hbmctl_expect_text("resize", "ddr has 8 MiB");
	hbmctl_expect("tiers", 0);
	hbmctl_expect_text("tiers", "LEAVING");
	json_t *document = hbmctl_json("resize ddr 12MiB");
	assert_int_equal(json_integer_value(json_object_get(document, "bytes")), 12 * MIB);
	json_decref(document);
	assert_size(hbmctl_kv.hbm, HBM_TIER_DDR, 12 * MIB);

	hbmctl_expect_refusal("resize ddr 0", 1, "expected 4096 to");
	hbmctl_expect_refusal("resize ddr 8000GiB", 1, "this host has");
	hbmctl_expect_refusal("resize hbm --device 7 4MiB", 1, "device 7: there are 1");
	hbmctl_expect_refusal("resize disk 4MiB", 2, "\"disk\" is no tier");
	hbmctl_expect_refusal("resize ddr 4GB", 2, "GB");
	assert_size(hbmctl_kv.hbm, HBM_TIER_DDR, 12 * MIB);
	assert_true(spawn_logged(&daemon_, "ddr: resized from 8 to 12 MiB"));
	hbmctl_finish();
}

/* Sizes go up and down by a seed beside two clients, one of which is killed now and then. */
static void check_under_load(const enum hbm_tier *kinds, const uint64_t *most, unsigned count)
{
	struct seed seed;
	struct child children[2];
	bool may_be_long = getenv("HBM_TEST_LONG") != NULL;

	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);

	seed_open(&seed, "test_resize");
	for (unsigned i = 0; i < 2; i++) {
		child_start(&children[i], "client", &daemon_, i);
		child_await(&children[i]);
	}

	for (unsigned round = 0; round < (may_be_long ? 400 : 24); round++) {
		unsigned i = (unsigned)seed_below(&seed, count);
		uint64_t bytes = (1 + seed_below(&seed, most[i] / MIB)) * MIB;
		struct child *child = &children[seed_below(&seed, 2)];
		bool kills = round % 6 == 5; /* while it is resized */

		if (kills)
			assert_int_equal(kill(child->pid, SIGKILL), 0);
		assert_int_equal(hbm_resize(hbm, kinds[i], 0, bytes), 0);
		assert_size(hbm, kinds[i], bytes);
		assert_true(spawn_balanced(&daemon_));
		if (!kills)
			continue;

		assert_int_equal(child_kill(child), 128 + SIGKILL);
		child_start(child, "client", &daemon_, round);
		child_await(child);
	}

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(child_kill(&children[i]), 128 + SIGKILL);
	spawn_settle(&daemon_);
	hbm_close(hbm);
	stage_finish(fds);
}

static void test_under_load(void **state)
{
	(void)state;
	static const enum hbm_tier kinds[] = {HBM_TIER_DDR, HBM_TIER_HBM, HBM_TIER_NVME};
	static const uint64_t most[] = {32 * MIB, 16 * MIB, 64 * MIB};

	check_under_load(kinds, most, 3);
}

/* Two that ask at the same time: the later one's size holds. */
static void *resize_again(void *arg)
{
	struct hbm *hbm = spawn_connect(&daemon_);

	for (unsigned i = 0; i < 50; i++) {
		int status = hbm_resize(hbm, HBM_TIER_DDR, 0, (1 + i % 16) * MIB);
		if (status != 0 && status != HBM_CANCELLED)
			*(int *)arg = status;
	}
	hbm_close(hbm);

	return NULL;
}

static void test_two_at_a_time(void **state)
{
	(void)state;
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);
	pthread_t threads[2];
	int failed[2] = {0};

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, resize_again, &failed[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(failed[i], 0);
	}

	assert_int_equal(hbm_resize(hbm, HBM_TIER_DDR, 0, 5 * MIB), 0);
	assert_size(hbm, HBM_TIER_DDR, 5 * MIB);
	hbm_close(hbm);
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory_goes_back, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_hbmctl, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_under_load, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_two_at_a_time, stage_setup, stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
