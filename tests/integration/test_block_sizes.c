/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of any size: they are stored from segments of any bytes and loaded, byte for byte, in
 * each tier, encoded, wiped, lent, and after a daemon that was stopped or killed; what they take
 * is counted in whole units; and nothing of what was there before them reaches the disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)

enum { UNIT = 4096, BLOCKS = 3, SEGMENTS = 3, SLOT = 2 << 20, GUARD = 0xa5 };

static const uint64_t sizes[] = {1, 1000, 4095, 4097, 1124352};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const char *const sets[] = {"hbmd.checksum=always", "ddr.staging=8MiB", "device.lend=16MiB",
				   "nvme.merge=1MiB", NULL};
static unsigned fds;
static struct kv kv;
static uint64_t size;
static struct hbm_segment segments[BLOCKS][SEGMENTS];
static struct hbm_block blocks[BLOCKS];
static hbm_result results[BLOCKS];

static void begin(void)
{
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, SLOT, BLOCKS);
}

static int setup(void **state)
{
	stage_setup(state);
	begin();
	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);
	return stage_teardown(state);
}

/* ---- Blocks ---- */

static uint64_t address_of(uint64_t block)
{
	return hbm_region_address(kv.region) + block * SLOT;
}

/* Numbers that lossless makes smaller, and that differ between blocks. */
static void fill(uint64_t block, unsigned char *bytes)
{
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i % 2 ? 0x3f : (i * 7 + block * 31) % 251);
}

/* Blocks in one to three segments, which lie at odd places of their slots in reverse order. */
static void make_blocks(void)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		uint64_t cuts[SEGMENTS + 1] = {0, size / 3, size - size / 5, size};
		size_t count = 0;

		for (size_t k = 0; k < SEGMENTS; k++)
			if (cuts[k + 1] > cuts[k])
				segments[i][count++] = (struct hbm_segment){
					kv.region,
					i * SLOT + 1 + (SEGMENTS - k) * 3 + size - cuts[k + 1],
					cuts[k + 1] - cuts[k]};
		blocks[i] = (struct hbm_block){.key = kv_key(1 + i),
					       .parent = i ? kv_key(i) : (hbm_key){{0}},
					       .segments = segments[i],
					       .segment_count = count};
	}
}

static void copy_segments(uint64_t block, unsigned char *bytes, unsigned char *slot, bool in)
{
	uint64_t at = 0;

	for (size_t k = 0; k < blocks[block].segment_count; k++) {
		const struct hbm_segment *segment = &segments[block][k];
		unsigned char *there = slot + segment->offset - block * SLOT;

		memcpy(in ? there : bytes + at, in ? bytes + at : there, segment->bytes);
		at += segment->bytes;
	}
}

static void put_all(void)
{
	unsigned char *bytes = malloc(size), *slot = malloc(SLOT);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		memset(slot, GUARD, SLOT);
		fill(i, bytes);
		copy_segments(i, bytes, slot, true);
		kv_write(&kv, address_of(i), slot, SLOT);
	}
	free(bytes);
	free(slot);
}

static void wipe_all(void)
{
	unsigned char *slot = malloc(SLOT);

	memset(slot, GUARD, SLOT);
	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_write(&kv, address_of(i), slot, SLOT);
	free(slot);
}

/* The blocks are there, and nothing beside them was touched. */
static void expect_all(void)
{
	unsigned char *bytes = malloc(size), *slot = malloc(SLOT), *wanted = malloc(SLOT);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		memset(wanted, GUARD, SLOT);
		fill(i, bytes);
		copy_segments(i, bytes, wanted, true);
		kv_read(&kv, slot, address_of(i), SLOT);
		if (memcmp(slot, wanted, SLOT) != 0)
			fail_msg("block %u of %u bytes is not what was stored", (unsigned)i,
				 (unsigned)size);
	}
	free(bytes);
	free(slot);
	free(wanted);
}

static void expect_results(int status)
{
	for (size_t i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, status);
}

static void load_all(void)
{
	wipe_all();
	assert_int_equal(hbm_load(kv.hbm, kv.ns, blocks, BLOCKS, results), 0);
	expect_results(HBM_OK);
	expect_all();
}

static void move_all(enum hbm_tier tier)
{
	hbm_key keys[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++)
		keys[i] = blocks[i].key;
	assert_int_equal(hbm_move(kv.hbm, kv.ns, tier, 0, keys, BLOCKS, results), 0);
	expect_results(HBM_OK);
	kv_await_moves(&kv);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(kv_tier(&kv, 1 + i), tier);
}

static void open_namespace(const char *salt, enum hbm_encoding encoding, bool wipe,
			   bool memory_only)
{
	const struct hbm_namespace_options options = {.model = "odd",
						      .salt = salt,
						      .block_bytes = size,
						      .encoding = encoding,
						      .memory_only = memory_only,
						      .wipe_on_free = wipe};

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	make_blocks();
}

static void store_all(enum hbm_tier tier)
{
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i].tier = tier;
	put_all();
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, BLOCKS, results), 0);
	expect_results(HBM_OK);
}

static void remove_all(void)
{
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_REMOVE, kv.ns, 0, &blocks[0].key, 1, results),
			 0);
	assert_int_equal(results[0].status, HBM_OK);
}

/* ---- In each tier ---- */

struct seen {
	enum hbm_tier kind;
	struct hbm_wire_tier tier;
};

static int see_tier(const void *record, size_t bytes, void *arg)
{
	struct seen *seen = arg;
	const struct hbm_wire_tier *tier = record;
	(void)bytes;

	if ((enum hbm_tier)tier->tier == seen->kind)
		seen->tier = *tier;

	return 0;
}

/* Figures of tiers are of whole units. */
static void expect_counted(enum hbm_tier kind, bool encoded)
{
	struct seen seen = {.kind = kind};
	uint64_t whole = (size + UNIT - 1) / UNIT * UNIT * BLOCKS;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, see_tier, &seen), 0);
	assert_int_equal(seen.tier.blocks, BLOCKS);
	if (encoded)
		assert_in_range(seen.tier.bytes, 1, whole);
	else
		assert_int_equal(seen.tier.bytes, whole);
	assert_int_equal(seen.tier.logical_bytes, size * BLOCKS);
	assert_true(spawn_balanced(&daemon_));
}

static void in_each_tier(enum hbm_encoding encoding, bool wipe, size_t some)
{
	static const enum hbm_tier tiers[] = {HBM_TIER_HBM, HBM_TIER_DDR, HBM_TIER_NVME};

	for (size_t s = SIZES - some; s < SIZES; s++) {
		size = sizes[s];
		open_namespace(NULL, encoding, wipe, false);
		for (size_t t = 0; t < 3; t++) {
			bool encoded = encoding != HBM_ENCODING_RAW && tiers[t] == HBM_TIER_NVME;

			store_all(tiers[t]);
			expect_counted(tiers[t], encoded);
			load_all();
			for (size_t to = 0; to < 3; to++) {
				move_all(tiers[(t + to) % 3]);
				load_all();
			}
			remove_all();
			kv_await_moves(&kv);
		}
		assert_int_equal(hbm_namespace_close(kv.hbm, kv.ns), 0);
	}
}

static void test_in_each_tier(void **state)
{
	(void)state;
	in_each_tier(HBM_ENCODING_RAW, false, SIZES);
}

static void test_encoded_in_each_tier(void **state)
{
	(void)state;
	in_each_tier(HBM_ENCODING_LOSSLESS, false, 2);
}

static void test_wiped_in_each_tier(void **state)
{
	(void)state;
	in_each_tier(HBM_ENCODING_RAW, true, 1);
}

/* ---- What was there before ---- */

/* Of a namespace that never is on a disk: its blocks have filled the extents that others have
 * next, which are a byte longer than a unit. */
static void test_nothing_of_others_reaches_the_disk(void **state)
{
	(void)state;
	static const unsigned char secret[] = "not for any disk, whatever is behind a block";
	unsigned char *bytes = malloc(SLOT);
	size_t length;

	for (size_t i = 0; i < SLOT; i++)
		bytes[i] = secret[i % sizeof(secret)];
	size = MIB + MIB / 2;
	open_namespace("secret", HBM_ENCODING_RAW, false, true);
	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_write(&kv, address_of(i), bytes, SLOT);
	for (int tier = HBM_TIER_HBM; tier <= HBM_TIER_DDR; tier++) {
		for (size_t i = 0; i < BLOCKS; i++)
			blocks[i].tier = (enum hbm_tier)tier;
		assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, BLOCKS, results), 0);
		expect_results(HBM_OK);
		remove_all();
	}

	for (int nth = 0; nth < 6; nth++) {
		enum hbm_tier tier = (enum hbm_tier)(HBM_TIER_NVME - nth % 3);

		size = nth < 3 ? UNIT + 1 : MIB + 1; /* of the large ones a store is in pieces */
		open_namespace(NULL, HBM_ENCODING_RAW, false, false);
		store_all(tier);
		move_all(HBM_TIER_NVME);
		load_all();

		char *disk = file_read(daemon_.nvme, &length);
		assert_null(memmem(disk, length, secret, sizeof(secret)));
		free(disk);
		remove_all();
		kv_await_moves(&kv);
	}
	free(bytes);
}

/* ---- Loans ---- */

static void test_they_are_lent(void **state)
{
	(void)state;

	for (size_t s = 0; s < SIZES; s++) {
		struct hbm_loan *loans[BLOCKS];
		hbm_key keys[BLOCKS];

		size = sizes[s];
		open_namespace(NULL, HBM_ENCODING_RAW, false, false);
		store_all(HBM_TIER_NONE);
		for (size_t i = 0; i < BLOCKS; i++)
			keys[i] = blocks[i].key;
		assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 0, keys, BLOCKS, loans, results), 0);
		expect_results(HBM_OK);
		unsigned char *bytes = malloc(size), *wanted = malloc(size);
		for (uint64_t i = 0; i < BLOCKS; i++) {
			uint64_t address;

			assert_int_equal(hbm_loan_bytes(loans[i]), size);
			assert_int_equal(hbm_loan_map(kv.hbm, loans[i], &address), 0);
			assert_int_equal(address % UNIT, 0);
			kv_read(&kv, bytes, address, size);
			fill(i, wanted);
			assert_memory_equal(bytes, wanted, size);
		}
		free(bytes);
		free(wanted);
		assert_int_equal(hbm_return(kv.hbm, loans, BLOCKS), 0);

		/* Whole slabs alone are pieces. */
		assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 2 * MIB, keys, 1, loans, results),
				 HBM_INVALID);
		remove_all();
		assert_true(spawn_balanced(&daemon_));
	}
}

/* ---- The next daemon ---- */

static uint32_t restored(void)
{
	struct hbm_wire_status status;

	spawn_status(&daemon_, &status);

	return (uint32_t)status.catalog_restored;
}

static void test_after_a_restart(void **state)
{
	(void)state;

	for (size_t s = 0; s < SIZES; s++) {
		size = sizes[s];
		open_namespace(NULL, s % 2 ? HBM_ENCODING_LOSSLESS : HBM_ENCODING_RAW, false,
			       false);
		store_all(HBM_TIER_NONE);
		move_all(HBM_TIER_NVME);
	}

	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	begin();
	assert_int_equal(restored(), SIZES * BLOCKS);
	for (size_t s = 0; s < SIZES; s++) {
		size = sizes[s];
		open_namespace(NULL, s % 2 ? HBM_ENCODING_LOSSLESS : HBM_ENCODING_RAW, false,
			       false);
		load_all();
	}
}

/* What is in DDR is compared with its checksum, before it is used. */
static void test_after_a_kill(void **state)
{
	stage_setup(state);
	keeper_start(&daemon_, sets, NULL);
	kv_open(&kv, &daemon_, 0, SLOT, BLOCKS);

	for (size_t s = 0; s < SIZES; s++) {
		size = sizes[s];
		open_namespace(NULL, HBM_ENCODING_RAW, false, false);
		store_all(HBM_TIER_DDR);
	}
	keeper_kill(&daemon_);
	for (size_t s = 0; s < SIZES; s++) {
		size = sizes[s];
		open_namespace(NULL, HBM_ENCODING_RAW, false, false);
		load_all();
		for (uint64_t i = 0; i < BLOCKS; i++)
			assert_int_not_equal(kv_tier(&kv, 1 + i), HBM_TIER_NONE);
	}
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	stage_teardown(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_in_each_tier),
		TEST(test_encoded_in_each_tier),
		TEST(test_wiped_in_each_tier),
		TEST(test_nothing_of_others_reaches_the_disk),
		TEST(test_they_are_lent),
		TEST(test_after_a_restart),
		cmocka_unit_test(test_after_a_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
