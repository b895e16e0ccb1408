/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces with wipe_on_free, end to end: the bytes of their blocks are looked for in all of the
 * daemon's memory, HBM and DDR among it, and in the NVMe file, after each way in which a block
 * goes; and after the daemon was killed before it had overwritten them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/child.h"
#include "tests/support/file.h"
#include "tests/support/memory_search.h"
#include "tests/support/seed.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS 32u
#define PROBE 64u /* bytes that are looked for */

/* Few blocks: all of the daemon's memory is read again and again, and tables are by block. */
#define FEW "limits.blocks=4096"
static const char *const usual[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB", FEW,
				    NULL};

static uint32_t plain; /* the namespace that kv has from the start */

static uint32_t open_wiped(enum hbm_encoding encoding, bool ephemeral)
{
	const struct hbm_namespace_options options = {.model = "secret",
						      .block_bytes = CATALOG_STAGE_BLOCK,
						      .encoding = encoding,
						      .ephemeral = ephemeral,
						      .wipe_on_free = true};
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), 0);

	return ns;
}

static void begin_with(const char *const *sets)
{
	catalog_stage_begin(sets);
	plain = kv.ns;
	kv.ns = open_wiped(HBM_ENCODING_RAW, false);
}

/* The region of the client has what it has stored and loaded. */
static void clean_slots(void)
{
	for (uint64_t slot = 0; slot < CATALOG_STAGE_SLOTS; slot++)
		kv_wipe(&kv, slot);
	kv_await_moves(&kv);
}

/* ---- what is looked for ---- */

/* Bytes of a block at its beginning, in the middle and at its end. */
static const void *probe_of(uint64_t block, unsigned place)
{
	static unsigned char bytes[CATALOG_STAGE_BLOCK];

	kv_fill(block, bytes, sizeof(bytes));

	return bytes + place * ((sizeof(bytes) - PROBE) / 2);
}

/* How many of these probes are there. */
static unsigned on_disk(uint64_t first, uint64_t count)
{
	unsigned found = 0;
	size_t size;
	char *bytes = file_read(daemon_.nvme, &size);

	for (uint64_t i = 0; i < count; i++)
		for (unsigned place = 0; place < 3; place++)
			found += memmem(bytes, size, probe_of(first + i, place), PROBE) != NULL;
	free(bytes);

	return found;
}

/* The same of what is in the middle of each block. */
static unsigned in_memory(uint64_t first, uint64_t count)
{
	unsigned found = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct memory_search all =
			memory_search(daemon_.pid, probe_of(first + i, 1), PROBE);
		found += all.dumped + all.hidden > 0;
	}

	return found;
}

/* A few of them: each costs a walk through the daemon's memory. */
static void expect_nowhere(uint64_t first, uint64_t count)
{
	clean_slots();
	assert_int_equal(in_memory(first, 1), 0);
	assert_int_equal(in_memory(first + count - 1, 1), 0);
	assert_int_equal(on_disk(first, count), 0);
	assert_true(spawn_balanced(&daemon_));
}

static void store(uint64_t first, uint64_t count)
{
	catalog_stage_store(first, count, 0);
	clean_slots();
}

/* ---- each way in which a block goes ---- */

static void remove_all(uint64_t first, uint64_t count)
{
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, first, count, 0, results), 0);
}

static void to_tier(enum hbm_tier tier, uint64_t first, uint64_t count)
{
	hbm_key keys[BLOCKS];

	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(first + i);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, tier, 0, keys, (uint32_t)count, results), 0);
	kv_await_moves(&kv);
}

/* Without the option they stay until something else is written there: so what is looked for can
 * be found. */
static void test_others_stay(void **state)
{
	(void)state;
	begin_with(usual);
	kv.ns = plain;
	store(1, BLOCKS);
	assert_int_equal(in_memory(1, 1), 1);
	remove_all(1, BLOCKS);
	kv_await_moves(&kv);
	assert_int_equal(in_memory(1, 1), 1);
	store(101, BLOCKS);
	kv_push_to_nvme(&kv);
	assert_int_equal(on_disk(101, BLOCKS), 3 * BLOCKS);
	remove_all(101, BLOCKS);
	kv_await_moves(&kv);
	assert_int_equal(on_disk(101, BLOCKS), 3 * BLOCKS);
	catalog_stage_finish();
}

static void test_removed_in_each_tier(void **state)
{
	(void)state;
	begin_with(usual);
	for (enum hbm_tier tier = HBM_TIER_HBM; tier <= HBM_TIER_NVME; tier++) {
		const uint64_t first = 1 + 100 * (uint64_t)tier;

		store(first, BLOCKS);
		to_tier(tier, first, BLOCKS);
		assert_int_equal(kv_tier(&kv, first), tier);
		if (tier == HBM_TIER_NVME)
			assert_int_equal(on_disk(first, BLOCKS), 3 * BLOCKS);
		else
			assert_int_equal(in_memory(first, 1), 1);
		remove_all(first, BLOCKS);
		expect_nowhere(first, BLOCKS);
	}
	catalog_stage_finish();
}

/* A block that moves leaves nothing behind: not where it was, and not in staging. */
static void test_what_moves_leave(void **state)
{
	(void)state;
	begin_with(usual);
	store(1, BLOCKS);
	to_tier(HBM_TIER_DDR, 1, BLOCKS);
	to_tier(HBM_TIER_NVME, 1, BLOCKS);
	clean_slots();
	assert_int_equal(in_memory(1, 1), 0);
	assert_int_equal(in_memory(BLOCKS, 1), 0);

	/* Through staging to the client, and up again: a copy stays on NVMe, which is its own. */
	catalog_stage_expect_found(1, BLOCKS);
	kv_await_moves(&kv);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	assert_int_equal(on_disk(1, BLOCKS), 3 * BLOCKS);
	remove_all(1, BLOCKS);
	expect_nowhere(1, BLOCKS);
	catalog_stage_finish();
}

static void test_evicted_away(void **state)
{
	(void)state;
	begin_with(usual);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	kv.ns = plain;
	for (uint64_t i = 0; i < 8; i++) {
		catalog_stage_store(1001 + i * BLOCKS, BLOCKS, 0);
		kv_push_to_nvme(&kv);
	}
	kv.ns = open_wiped(HBM_ENCODING_RAW, false);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_NONE);
	expect_nowhere(1, BLOCKS);
	catalog_stage_finish();
}

static void test_namespace_dropped(void **state)
{
	(void)state;
	begin_with(usual);
	store(1, BLOCKS / 2);
	kv_push_to_nvme(&kv);
	store(1 + BLOCKS / 2, BLOCKS / 2);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), 0);
	expect_nowhere(1, BLOCKS);
	catalog_stage_finish();
}

/* What is encoded for NVMe is not there as it was; but it is decoded through staging. */
static void test_encoded(void **state)
{
	(void)state;
	begin_with(usual);
	kv.ns = open_wiped(HBM_ENCODING_LOSSLESS, false);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	catalog_stage_expect_found(1, BLOCKS);
	remove_all(1, BLOCKS);
	expect_nowhere(1, BLOCKS);
	catalog_stage_finish();
}

static void die_with_blocks(const struct spawn *spawn, uint64_t number)
{
	struct kv doomed;
	const struct hbm_namespace_options options = {.model = "doomed",
						      .block_bytes = CATALOG_STAGE_BLOCK,
						      .ephemeral = true,
						      .wipe_on_free = true};

	(void)number;
	kv_open(&doomed, spawn, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	assert_int_equal(hbm_namespace_open(doomed.hbm, &options, &doomed.ns), 0);
	assert_int_equal(kv_store(&doomed, 0, 1, BLOCKS, 0, NULL), 0);
	kv_push_to_nvme(&doomed);
	assert_int_equal(kv_store(&doomed, 0, 101, BLOCKS, 0, NULL), 0);
	raise(SIGKILL);
}

/* The client is killed, and its blocks with it. */
static void test_death(void **state)
{
	struct child child;

	(void)state;
	catalog_stage_begin(usual);
	child_start(&child, "die_with_blocks", &daemon_, 0);
	assert_int_equal(child_wait(&child), 128 + SIGKILL);
	while (catalog_stage_status().blocks > 0)
		kv_await_moves(&kv);
	expect_nowhere(1, BLOCKS);
	expect_nowhere(101, BLOCKS);
	catalog_stage_finish();
}

/* ---- restarts ---- */

static void test_a_stop_keeps_them(void **state)
{
	(void)state;
	begin_with(usual);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	catalog_stage_stop();
	begin_with(usual);
	assert_int_equal(catalog_stage_status().catalog_restored, BLOCKS);
	catalog_stage_expect_found(1, BLOCKS);
	remove_all(1, BLOCKS);
	expect_nowhere(1, BLOCKS);

	/* Nor is a record of them left. */
	catalog_stage_stop();
	size_t size;
	char *bytes = file_read(catalog_stage_path, &size);
	for (uint64_t i = 1; i <= BLOCKS; i++) {
		hbm_key key = kv_key(i);
		assert_null(memmem(bytes, size, &key, sizeof(key)));
	}
	free(bytes);
}

/* The disk hangs from that write on, until the file is gone. */
static void hang_from(char *set, size_t size, unsigned write)
{
	snprintf(set, size, "nvme.fail=write:%u+:hang", write);
}

/* Removed, and not overwritten, when it is killed: by what comes with it to be found again, the
 * next one overwrites all that is no block's. */
static void killed_before_it_is_overwritten(const char *catalog)
{
	char fail[64], hang[128];
	const char *const hanging[] = {"device.cache=4MiB",
				       "ddr.size=4MiB",
				       "nvme.size=8MiB",
				       FEW,
				       "nvme.merge=64KiB",
				       catalog,
				       fail,
				       NULL};
	const char *const sound[] = {
		"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB", FEW, catalog, NULL};

	hang_from(fail, sizeof(fail), BLOCKS + 1);
	snprintf(hang, sizeof(hang), "%s.hang", daemon_.nvme);
	file_write(hang, "");
	begin_with(hanging);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	assert_int_equal(on_disk(1, BLOCKS), 3 * BLOCKS);
	remove_all(1, BLOCKS);
	catalog_stage_await_records(0);
	spawn_kill(&daemon_);
	kv_close(&kv);
	unlink(daemon_.socket);
	unlink(hang);
	assert_true(on_disk(1, BLOCKS) > 0);

	begin_with(sound);
	assert_int_equal(kv_lookup(&kv, 1, BLOCKS, NULL), 0);
	expect_nowhere(1, BLOCKS);
	store(201, BLOCKS);
	kv_push_to_nvme(&kv);
	catalog_stage_expect_found(201, BLOCKS);
	remove_all(201, BLOCKS);
	expect_nowhere(201, BLOCKS);
	catalog_stage_finish();
}

static void test_killed(void **state)
{
	(void)state;
	killed_before_it_is_overwritten("nvme.catalog=yes");
}

static void test_killed_without_catalog(void **state)
{
	(void)state;
	killed_before_it_is_overwritten("nvme.catalog=no");
}

/* The catalog is gone, and with it what was known of the file. */
static void test_catalog_lost(void **state)
{
	(void)state;
	begin_with(usual);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	catalog_stage_stop();
	assert_int_equal(on_disk(1, BLOCKS), 3 * BLOCKS);
	assert_int_equal(unlink(catalog_stage_path), 0);
	begin_with(usual);
	expect_nowhere(1, BLOCKS);
	catalog_stage_finish();
}

/* Killed at any moment of storing, moving and removing: what is in the file afterwards is a
 * block that is found. */
static void test_killed_at_any_moment(void **state)
{
	struct seed seed;

	(void)state;
	seed_open(&seed, "test_killed_at_any_moment");
	for (unsigned run = 0; run < 8; run++) {
		begin_with(usual);
		store(1, BLOCKS);
		assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
		if (run & 1)
			kv_await_moves(&kv);
		assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
		if (run & 2)
			kv_await_moves(&kv);
		nanosleep(&(const struct timespec){.tv_nsec = (long)seed_below(&seed, 20000000)},
			  NULL);
		remove_all(1, 1 + seed_below(&seed, BLOCKS));
		nanosleep(&(const struct timespec){.tv_nsec = (long)seed_below(&seed, 3000000)},
			  NULL);
		catalog_stage_kill();

		begin_with(usual);
		clean_slots();
		for (uint64_t i = 1; i <= BLOCKS; i++)
			if (kv_tier(&kv, i) == HBM_TIER_NONE)
				assert_int_equal(on_disk(i, 1), 0);
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), 0);
		expect_nowhere(1, BLOCKS);
		catalog_stage_stop();
	}
}

/* ---- what goes wrong ---- */

static int see_link(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_link *link = record;

	assert_int_equal(bytes, sizeof(*link));
	if (link->link == HBM_LINK_NVME_WRITE)
		*(uint64_t *)arg = link->bytes;

	return 0;
}

static uint64_t written_to_disk(void)
{
	uint64_t bytes = 0;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_LINKS, see_link, &bytes), 0);

	return bytes;
}

/* The disk takes the blocks and not the zeros: their place is used for nothing else, and the next
 * start overwrites it. */
static void test_a_disk_that_fails(void **state)
{
	char fail[64];
	const char *const failing[] = {"device.cache=4MiB",
				       "ddr.size=4MiB",
				       "nvme.size=64MiB",
				       FEW,
				       "nvme.merge=64KiB",
				       fail,
				       NULL};
	const char *const sound[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=64MiB", FEW,
				     NULL};

	(void)state;
	snprintf(fail, sizeof(fail), "nvme.fail=write:%u+:EIO", BLOCKS + 1);
	begin_with(failing);
	store(1, BLOCKS);
	kv_push_to_nvme(&kv);
	remove_all(1, BLOCKS);
	kv_await_moves(&kv);
	assert_int_equal(spawn_log_lines(&daemon_, "cannot overwrite"), 1);
	assert_true(written_to_disk() >= 2ull * BLOCKS * CATALOG_STAGE_BLOCK);
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_stop();

	begin_with(sound);
	clean_slots();
	assert_true(written_to_disk() >= 64ull << 20);
	expect_nowhere(1, BLOCKS);
	catalog_stage_stop();

	/* And no other start: nothing of such a block is left. */
	catalog_stage_begin(sound);
	clean_slots();
	assert_int_equal(written_to_disk(), 0);
	catalog_stage_finish();
}

/* ---- what it is ---- */

static int see_wiped(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	unsigned *seen = arg;

	assert_int_equal(bytes, sizeof(*ns));
	assert_int_equal(ns->wipe_on_free, ns->ns != plain);
	*seen += ns->wipe_on_free;

	return 0;
}

static void test_it_is_a_namespace_of_its_own(void **state)
{
	unsigned seen = 0;

	(void)state;
	begin_with(usual);
	assert_int_not_equal(kv.ns, plain);
	assert_int_equal(open_wiped(HBM_ENCODING_RAW, false), kv.ns);
	const struct hbm_namespace_options options = {.model = "secret",
						      .block_bytes = CATALOG_STAGE_BLOCK};
	uint32_t other;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &other), 0);
	assert_int_not_equal(other, kv.ns);
	assert_int_equal(hbm_namespace_close(kv.hbm, other), 0);
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, see_wiped, &seen), 0);
	assert_int_equal(seen, 1);
	catalog_stage_finish();
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"die_with_blocks", die_with_blocks},
						  {NULL, NULL}};

	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, catalog_stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_others_stay),
		TEST(test_removed_in_each_tier),
		TEST(test_what_moves_leave),
		TEST(test_evicted_away),
		TEST(test_namespace_dropped),
		TEST(test_encoded),
		TEST(test_death),
		TEST(test_a_stop_keeps_them),
		TEST(test_killed),
		TEST(test_killed_without_catalog),
		TEST(test_catalog_lost),
		TEST(test_killed_at_any_moment),
		TEST(test_a_disk_that_fails),
		TEST(test_it_is_a_namespace_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
