/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache says to requests on keys: residence, order of going, counters. Bytes are
 * compared on the way, but movement between tiers is test_tiers', asynchrony test_fence's,
 * and pins and namespaces have tests of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"
#include "tests/support/raw.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLAB (2ull << 20)

/* ---- Storing and loading ---- */

static void test_a_block_in_scattered_pieces(void **state)
{
	(void)state;
	struct hbm_region *other = kv_region(&kv, 2 * SLAB);
	uint64_t main_at = hbm_region_address(kv.region), other_at = hbm_region_address(other);

	/* One piece crosses from one slab into the next, the pieces do not lie in their
	 * order, sizes are odd. */
	const struct hbm_segment from[] = {{other, SLAB - 8192, 16384},
					   {kv.region, 40000, 24},
					   {kv.region, 8, 32744},
					   {other, 0, 16384}};
	const struct hbm_segment to[] = {{kv.region, 3 * SLAB, 65528}, {other, 2 * SLAB - 8, 8}};
	char bytes[KV_STAGE_BLOCK], back[KV_STAGE_BLOCK];
	kv_fill(7, bytes, KV_STAGE_BLOCK);

	for (size_t i = 0, at = 0; i < 4; at += from[i].bytes, i++)
		kv_write(&kv, (from[i].region == other ? other_at : main_at) + from[i].offset,
			 bytes + at, from[i].bytes);

	struct hbm_block block = {.key = kv_key(7), .segments = from, .segment_count = 4};
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, results), 0);
	kv_stage_expect(1, HBM_OK);

	for (int place = 0; place < 3; place++) {
		block.segments = to;
		block.segment_count = 2;
		memset(back, 0, sizeof(back));
		assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, results), 0);
		kv_stage_expect(1, HBM_OK);
		kv_read(&kv, back, main_at + 3 * SLAB, 65528);
		kv_read(&kv, back + 65528, other_at + 2 * SLAB - 8, 8);
		assert_memory_equal(back, bytes, KV_STAGE_BLOCK);

		/* the next time from the tier below */
		assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
		if (place == 1)
			assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	}

	assert_int_equal(hbm_region_destroy(kv.hbm, other), 0);
}

static void test_segments_that_are_not_a_block(void **state)
{
	(void)state;
	const struct hbm_segment bad[][2] = {
		{{kv.region, 0, KV_STAGE_BLOCK - 8}, {kv.region, 0, 4}},
		{{kv.region, 0, KV_STAGE_BLOCK}, {kv.region, 0, 8}},
		{{kv.region, 0, UINT64_MAX}, {kv.region, 0, KV_STAGE_BLOCK + 1}},
		{{kv.region, 0, KV_STAGE_BLOCK / 2},
		 {kv.region, hbm_region_bytes(kv.region) - 8, KV_STAGE_BLOCK / 2}},
		{{kv.region, 0, KV_STAGE_BLOCK / 2},
		 {kv.region, UINT64_MAX - 8, KV_STAGE_BLOCK / 2}},
		{{kv.region, 0, KV_STAGE_BLOCK}, {kv.region, 0, 0}},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct hbm_block block = {
			.key = kv_key(1), .segments = bad[i], .segment_count = 2};
		assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), HBM_INVALID);
		assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, NULL), HBM_INVALID);
	}

	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
}

/* What a message costs is bounded by the bytes of its blocks: segments that reach over
 * whole regions, by the thousand and with the time it takes to look at every slab of
 * each, are refused before that is begun. */
static void test_segments_are_added_up_before_they_are_looked_for(void **state)
{
	(void)state;
	struct hbm_region *empty;
	const struct hbm_region_options options = {.address_space = 64 * SLAB, .slab = SLAB};
	assert_int_equal(hbm_region_create(kv.hbm, &options, &empty), 0);
	const struct hbm_segment whole = {empty, 0, hbm_region_bytes(empty)},
				 right = {empty, 0, KV_STAGE_BLOCK};
	struct hbm_block block = {.key = kv_key(1), .segments = &whole, .segment_count = 1};
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, NULL), HBM_INVALID);
	block.segments = &right;
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, NULL),
			 HBM_NOT_FOUND); /* nothing is committed there */
	assert_int_equal(hbm_region_destroy(kv.hbm, empty), 0);
}

static void test_a_key_that_exists(void **state)
{
	(void)state;
	kv_stage_store(1, 8, 0);

	/* Other bytes under the same key change nothing. */
	for (uint64_t slot = 0; slot < 8; slot++)
		kv_wipe(&kv, slot);
	struct hbm_block blocks[8];
	struct hbm_segment segments[8];
	kv_blocks(&kv, 0, 1, 8, 0, blocks, segments);
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, 8, results), 0);
	kv_stage_expect(8, HBM_EXISTS);
	kv_stage_load(1, 8);

	/* Twice in one request. */
	kv_put(&kv, 0, 100);
	kv_put(&kv, 1, 100);
	kv_blocks(&kv, 0, 100, 2, 0, blocks, segments);
	blocks[1].key = blocks[0].key;
	blocks[1].parent = (hbm_key){{0}};
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, 2, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(results[1].status, HBM_EXISTS);
	kv_stage_load(100, 1);
}

static void test_what_is_gone_is_a_miss(void **state)
{
	(void)state;
	kv_stage_store(1, 8, 0);
	kv_stage_press(1000);
	assert_int_equal(kv_lookup(&kv, 1, 8, results), 0);
	kv_stage_expect(8, HBM_MISS);
	assert_int_equal(kv_load(&kv, 0, 1, 8, results), 0);
	kv_stage_expect(8, HBM_MISS);
	kv_stage_keys(HBM_WIRE_PIN, 1, 8, HBM_MISS);
	kv_stage_keys(HBM_WIRE_TOUCH, 1, 8, HBM_MISS);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 8, HBM_MISS);
	kv_stage_keys(HBM_WIRE_PREFETCH, 1, 8, HBM_MISS);
	kv_stage_store(1, 8, 0);
	kv_stage_load(1, 8);
}

static void test_a_block_needs_its_parent(void **state)
{
	(void)state;
	assert_int_equal(kv_store(&kv, 0, 5, 3, 4, results), 0);
	kv_stage_expect(3, HBM_NO_PARENT);
	for (int i = 0; i < 3; i++)
		assert_int_equal(results[i].tier, HBM_TIER_NONE);
	kv_stage_store(4, 1, 0);
	kv_stage_store(5, 3, 4);
	assert_int_equal(kv_lookup(&kv, 4, 4, NULL), 4);
}

static void test_more_in_one_request_than_the_tiers_hold(void **state)
{
	(void)state;
	assert_int_equal(kv_store(&kv, 0, 1, KV_STAGE_ALL + 100, 0, results), 0);
	uint32_t run = kv_lookup(&kv, 1, KV_STAGE_ALL + 100, NULL);
	assert_in_range(run, 1, KV_STAGE_ALL); /* the head of the chain is what stays */
	kv_stage_load(1, run);
}

/* ---- Order ---- */

/* When there may be no more blocks, the least recently used make room for new ones, one
 * for one, however much room for bytes there is. */
static void test_a_full_index_forgets_as_many_as_come(void **state)
{
	static const char *const sets[] = {"limits.blocks=32", NULL};

	(void)state;
	struct spawn other;
	struct kv few;
	spawn_init(&other);
	spawn_start(&other, sets, NULL);
	kv_open(&few, &other, 0, KV_STAGE_BLOCK, 32);
	assert_int_equal(kv_store(&few, 0, 1, 16, 0, NULL), 0);
	assert_int_equal(kv_store(&few, 0, 101, 16, 0, NULL), 0);

	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(kv_store(&few, 0, 201 + i, 1, 0, results), 0);
		kv_stage_expect(1, HBM_OK);
	}

	assert_int_equal(kv_lookup(&few, 1, 16, NULL), 8);
	assert_int_equal(kv_lookup(&few, 101, 16, NULL), 16);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(kv_lookup(&few, 201 + i, 1, NULL), 1);
	assert_int_equal(kv_store(&few, 0, 301, 16, 0, results), 0);
	kv_stage_expect(16, HBM_OK);
	assert_int_equal(kv_lookup(&few, 1, 16, NULL), 0);
	assert_int_equal(kv_lookup(&few, 101, 16, NULL), 8);
	assert_int_equal(kv_lookup(&few, 301, 16, NULL), 16);
	assert_true(spawn_balanced(&other));
	kv_close(&few);
	assert_int_equal(spawn_stop(&other), 0);
	spawn_free(&other);
}

static void test_what_was_touched_stays_longer(void **state)
{
	(void)state;
	kv_stage_store(1, 10, 0);
	kv_stage_store(100, KV_STAGE_ALL - 10, 0);
	kv_stage_keys(HBM_WIRE_TOUCH, 1, 10, HBM_OK);
	kv_stage_store(1000, KV_STAGE_ALL - 10, 0);
	assert_int_equal(kv_lookup(&kv, 1, 10, NULL), 10);
	assert_int_equal(kv_lookup(&kv, 100, 10, NULL), 0);
	kv_stage_load(1, 10);
}

/* A session without a region has no device of its own: the first takes the blocks. */
static void test_a_touch_without_a_region(void **state)
{
	(void)state;
	const struct hbm_namespace_options options = {.model = "kv", .block_bytes = KV_STAGE_BLOCK};
	struct hbm *other = spawn_connect(&daemon_);
	hbm_key key = kv_key(1);
	uint32_t ns;

	kv_stage_store(1, 1, 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_DDR);
	assert_int_equal(hbm_namespace_open(other, &options, &ns), 0);
	assert_int_equal(hbm_keys(other, HBM_WIRE_TOUCH, ns, 0, &key, 1, results), 0);
	kv_stage_expect(1, HBM_OK);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	kv_stage_load(1, 1);
	hbm_close(other);
}

static void test_evict_and_prefetch(void **state)
{
	(void)state;
	kv_stage_store(1, 16, 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	for (uint64_t i = 1; i <= 16; i++)
		assert_int_equal(kv_tier(&kv, i), HBM_TIER_DDR);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, 4 * KV_STAGE_BLOCK, NULL), 0);
	for (uint64_t i = 1; i <= 16; i++) /* tails first */
		assert_int_equal(kv_tier(&kv, i), i <= 12 ? HBM_TIER_DDR : HBM_TIER_NVME);
	kv_stage_keys(HBM_WIRE_PREFETCH, 1, 16, HBM_OK);
	for (uint64_t i = 1; i <= 16; i++)
		assert_int_equal(kv_tier(&kv, i), HBM_TIER_HBM);
	kv_stage_load(1, 16);
	for (int tier = HBM_TIER_HBM; tier <= HBM_TIER_NVME; tier++)
		assert_int_equal(hbm_evict(kv.hbm, (enum hbm_tier)tier, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(kv_lookup(&kv, 1, 16, NULL), 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 1, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_NONE, 0, 1, NULL), HBM_INVALID);
}

static void test_remove_takes_what_descends(void **state)
{
	(void)state;
	kv_stage_store(1, 4, 0);   /* 1 2 3 4 */
	kv_stage_store(10, 4, 2);  /* below 2 */
	kv_stage_store(20, 4, 13); /* below those */
	kv_stage_keys(HBM_WIRE_REMOVE, 10, 1, HBM_OK);
	assert_int_equal(kv_lookup(&kv, 1, 4, NULL), 4);

	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(kv_tier(&kv, 10 + i), HBM_TIER_NONE);
		assert_int_equal(kv_tier(&kv, 20 + i), HBM_TIER_NONE);
	}

	kv_stage_keys(HBM_WIRE_REMOVE, 1, 4, HBM_OK);
	assert_int_equal(kv_lookup(&kv, 1, 4, NULL), 0);
}

/* However long the chain is: when REMOVE is answered, all that descends is gone. */
static void test_remove_of_a_long_chain(void **state)
{
	enum { LENGTH = KV_STAGE_ALL, AT_ONCE = 16 };

	(void)state;
	for (uint64_t i = 0; i < LENGTH; i += AT_ONCE)
		kv_stage_store(1 + i, AT_ONCE, i);

	struct hbm_wire_status before;
	spawn_status(&daemon_, &before);
	assert_in_range(before.blocks, LENGTH / 2, LENGTH);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_TOUCH, 1, LENGTH, HBM_MISS);
}

/* The estimate for blocks [1, count]. */
static uint64_t estimate(uint32_t count)
{
	hbm_key chain[4] = {kv_key(1), kv_key(2), kv_key(3), kv_key(4)};
	struct hbm_lookup answer = {0};

	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, chain, count, &answer, results), 0);
	assert_int_equal(answer.resident, count);

	return answer.load_ns;
}

/* Four blocks of a tier take four times as long as one, at the same rates: two estimates
 * are compared that lie between equal ones. */
static void test_how_long_a_load_would_take(void **state)
{
	(void)state;
	kv_stage_store(1, 4, 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	kv_stage_load(1, 4); /* every link has a rate now */
	kv_stage_load(1, 4);

	for (int tier = HBM_TIER_HBM; tier <= HBM_TIER_NVME; tier++) {
		uint64_t one, four, again;

		assert_int_equal(kv_tier(&kv, 1), tier);
		do {
			one = estimate(1);
			four = estimate(4);
			again = estimate(1);
		} while (one != again);

		assert_true(one > 0);
		assert_in_range(four, 4 * one, 4 * one + 4);
		if (tier < HBM_TIER_NVME)
			assert_int_equal(
				hbm_evict(kv.hbm, (enum hbm_tier)tier, 0, UINT64_MAX, NULL), 0);
	}
}

/* ---- Looking ---- */

/* One page of blocks from a cursor on: its records, and where to go on. */
static uint32_t page_of_blocks(int socket, uint64_t *cursor)
{
	static _Alignas(struct hbm_wire_query_reply) unsigned char bytes[HBM_WIRE_MESSAGE_MAX];
	const struct hbm_wire_query query = {
		.header = {.size = sizeof(query), .opcode = HBM_WIRE_QUERY, .id = 1},
		.kind = HBM_QUERY_BLOCKS,
		.cursor = *cursor};

	assert_true(raw_send(socket, &query, sizeof(query), 0));
	assert_in_range(recv(socket, bytes, sizeof(bytes), 0), sizeof(struct hbm_wire_query_reply),
			sizeof(bytes));
	const struct hbm_wire_query_reply *reply = (const void *)bytes;
	assert_int_equal(reply->header.status, HBM_OK);
	*cursor = reply->next;

	return reply->count;
}

/* Listing what is in the cache is done in steps, however many blocks there are, or were,
 * or are children of one. */
static void test_no_page_of_blocks_looks_at_all_of_them(void **state)
{
	(void)state;
	struct spawn other;
	struct kv small;
	kv_stage_open_small(&other, &small);

	for (uint64_t first = 1; first < KV_STAGE_MANY;
	     first += 1000) { /* chains of a thousand; the first root gets more children */
		assert_int_equal(kv_store(&small, 0, first, 1000, 0, results), 0);
		kv_stage_expect(1000, HBM_OK);
	}

	for (uint64_t child = KV_STAGE_MANY + 1; child <= KV_STAGE_MANY + 1500; child++)
		assert_int_equal(kv_store(&small, 0, child, 1, 1, NULL), 0);
	struct kv_stage_blocks seen = kv_stage_blocks(small.hbm);
	assert_int_equal(seen.blocks, KV_STAGE_MANY + 1500);
	assert_int_equal(seen.children, KV_STAGE_MANY / 1000 * 999 - 1 + 1024);
	for (uint64_t first = 1; first < KV_STAGE_MANY; first += 1000)
		assert_int_equal(kv_keys(&small, HBM_WIRE_REMOVE, first, 1000, 0, NULL), 0);
	int socket = raw_greet(&other);
	uint64_t cursor = 0, pages = 0;
	do {
		assert_int_equal(page_of_blocks(socket, &cursor), 0);
		pages++;
	} while (cursor != 0);
	assert_in_range(pages, 2, KV_STAGE_MANY); /* empty ones */
	close(socket);
	kv_stage_close_small(&other, &small);
}

/* ---- Counters ---- */

static int find_session(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_session *session = record;
	assert_int_equal(bytes, sizeof(*session));
	if (session->leased > 0)
		memcpy(arg, session, sizeof(*session));
	return 0;
}

/* Stores and loads are counted by what they moved, hits by the tier the block belonged
 * to; a PREFETCH, a key that exists and a block that is not there count as none. */
static void test_what_was_moved_is_counted(void **state)
{
	(void)state;
	struct hbm_wire_status status, before;
	struct hbm_wire_session session = {0};

	kv_stage_store(1, 8, 0);
	assert_int_equal(kv_store(&kv, 0, 1, 4, 0, results), 0);
	kv_stage_expect(4, HBM_EXISTS);
	kv_stage_load(1, 3);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	kv_stage_load(1, 2);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	kv_stage_keys(HBM_WIRE_PREFETCH, 1, 8, HBM_OK);
	assert_int_equal(kv_load(&kv, 0, 50, 6, results), 0);
	kv_stage_expect(6, HBM_MISS);
	kv_stage_keys(HBM_WIRE_PREFETCH, 50, 6, HBM_MISS);
	spawn_status(&daemon_, &before);
	for (int i = 0; i < 2; i++)
		assert_int_equal(kv_lookup(&kv, 8, 2, NULL), 1);
	kv_stage_keys(HBM_WIRE_REMOVE, 7, 2, HBM_OK);
	kv_stage_keys(HBM_WIRE_REMOVE, 7, 2, HBM_MISS);

	spawn_status(&daemon_, &status);
	assert_int_equal(status.lookups - before.lookups, 2);
	assert_int_equal(status.lookup_keys - before.lookup_keys, 4);
	assert_int_equal(status.lookup_hits - before.lookup_hits, 2);
	assert_int_equal(status.lookup_misses - before.lookup_misses, 2);
	assert_int_equal(status.removed_blocks, 2);
	assert_int_equal(status.stores, 2);
	assert_int_equal(status.stored_blocks, 8);
	assert_int_equal(status.stored_bytes, 8 * KV_STAGE_BLOCK);
	assert_int_equal(status.loads, 3);
	assert_int_equal(status.loaded_blocks, 5);
	assert_int_equal(status.loaded_bytes, 5 * KV_STAGE_BLOCK);
	assert_int_equal(status.hits[HBM_TIER_HBM], 3);
	assert_int_equal(status.hits[HBM_TIER_DDR], 2);
	assert_int_equal(status.hits[HBM_TIER_NVME], 0);
	assert_int_equal(status.late_misses, 6);

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_SESSIONS, find_session, &session), 0);
	assert_int_equal(session.stored_bytes, 8 * KV_STAGE_BLOCK);
	assert_int_equal(session.loaded_bytes, 5 * KV_STAGE_BLOCK);
}

/* More blocks than the daemon evicts between two turns of its loop. */
static void test_an_eviction_says_how_much(void **state)
{
	(void)state;
	struct hbm_amount evicted;
	struct spawn daemon;
	struct kv small;
	kv_stage_open_small(&daemon, &small);
	kv_stage_store_many(&small);

	assert_int_equal(hbm_evict(small.hbm, HBM_TIER_HBM, 0, 3 * KV_STAGE_SMALL - 1, &evicted),
			 0);
	assert_int_equal(evicted.blocks, 3);
	assert_int_equal(evicted.bytes, 3 * KV_STAGE_SMALL);
	assert_int_equal(hbm_evict(small.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(hbm_evict(small.hbm, HBM_TIER_DDR, 0, UINT64_MAX, &evicted), 0);
	assert_int_equal(evicted.blocks, KV_STAGE_MANY);
	assert_int_equal(evicted.bytes, (uint64_t)KV_STAGE_MANY * KV_STAGE_SMALL);
	assert_int_equal(hbm_evict(small.hbm, HBM_TIER_DDR, 0, UINT64_MAX, &evicted), 0);
	assert_int_equal(evicted.blocks, 0);
	assert_int_equal(evicted.bytes, 0);

	kv_stage_close_small(&daemon, &small);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_block_in_scattered_pieces),
		TEST(test_segments_that_are_not_a_block),
		TEST(test_segments_are_added_up_before_they_are_looked_for),
		TEST(test_a_key_that_exists),
		TEST(test_what_is_gone_is_a_miss),
		TEST(test_a_block_needs_its_parent),
		TEST(test_more_in_one_request_than_the_tiers_hold),
		TEST(test_a_full_index_forgets_as_many_as_come),
		TEST(test_what_was_touched_stays_longer),
		TEST(test_a_touch_without_a_region),
		TEST(test_evict_and_prefetch),
		TEST(test_remove_takes_what_descends),
		TEST(test_remove_of_a_long_chain),
		TEST(test_how_long_a_load_would_take),
		TEST(test_no_page_of_blocks_looks_at_all_of_them),
		TEST(test_what_was_moved_is_counted),
		TEST(test_an_eviction_says_how_much),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
