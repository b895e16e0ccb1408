/* SPDX-License-Identifier: Apache-2.0 */
/* Moves between tiers: what they count, and that corrupt blocks do not arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/cache/cache.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/tier/tier.h"
#include "tests/support/traffic.h"

static void assert_moved(const struct tier *tier, uint64_t in, uint64_t out)
{
	assert_int_equal(tier->in_blocks, in);
	assert_int_equal(tier->in_bytes, in * 64 * KIB);
	assert_int_equal(tier->out_blocks, out);
	assert_int_equal(tier->out_bytes, out * 64 * KIB);
}

/* Moves count in both tiers; a store, and a block that is dropped, in none. */
static void test_moves_are_counted_where_they_leave_and_arrive(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	assert_moved(cache_hbm(cache, 0), 0, 0);

	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache_hbm(cache, 0), 0, 4);
	assert_moved(cache->ddr, 4, 0);

	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache->ddr, 4, 4);
	assert_moved(cache->nvme, 4, 0);

	traffic_use(traffic, 0, 0, 2, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_moved(cache_hbm(cache, 0), 2, 4);
	assert_moved(cache->nvme, 4, 2);

	cache_push_out(cache, cache->nvme, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache->nvme, 4, 2);
	traffic_end(traffic);
}

static bool is_out(void *arg)
{
	return ((const struct move *)arg)->out;
}

/* Who holds a block between two of its slices ends the move that has waited for it. */
static void test_a_move_ends_with_the_last_use(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct mover *mover = traffic->rig.hbmd.mover;

	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	uint32_t number = traffic_find(traffic, 0, 0);
	block_use(&cache->blocks, number);
	cache_push_out(cache, cache_hbm(cache, 0), 1, 1);
	pump_run(mover);

	struct move *move = mover->moves[cache_block(cache, number)->move];
	assert_non_null(move);
	rig_run(&traffic->rig, is_out, move);
	assert_ptr_equal(mover->moves[cache_block(cache, number)->move], move);
	move_unuse(mover, number);
	assert_int_equal(cache_block(cache, number)->move, 0);
	assert_true(mover_is_idle(mover));
	traffic_end(traffic);
}

static unsigned readers_ready, readers_failed;

static void reader_is_ready(struct move_reader *reader)
{
	readers_ready++;
	list_remove(&reader->link);
}

static void reader_has_failed(struct move_reader *reader, int status)
{
	(void)reader;
	assert_int_equal(status, HBM_IO);
	readers_failed++;
}

/* A disk falls silent that has the first pieces of a block; the rest is on its way from a
 * device into host memory. Whoever waits for the bytes gets them, and the move is held until
 * the disk answers. */
static void test_a_silent_target_fails_no_reader(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct mover *mover = traffic->rig.hbmd.mover;
	struct move_reader reader = {.ready = reader_is_ready, .failed = reader_has_failed};
	const struct place to = {cache->nvme, tier_alloc(cache->nvme, 64 * KIB)};

	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	struct move *move = move_new(mover, NULL, traffic_find(traffic, 0, 0), to);
	struct transfer *transfer = &move->transfer;
	mover->context.active++;
	list_push_back(&move->readers, &reader.link);
	reader.move = move;

	transfer->at = cache->nvme;
	move_hold(move, cache->nvme);
	assert_true(move->held);
	assert_int_equal(readers_failed, 0);

	transfer->host_valid = true;
	transfer->on_host(transfer);
	assert_int_equal(readers_ready, 1);
	assert_true(move->held);

	transfer->at = NULL;
	transfer_fail(transfer, HBM_CANCELLED);
	transfer->done(transfer);
	assert_int_equal(mover->context.held, 0);
	rig_settle(&traffic->rig);
	assert_int_equal(readers_failed, 0);
	traffic_end(traffic);
}

static void spoil_in_hbm(struct traffic *traffic, uint32_t number, uint64_t at)
{
	const struct block *block = cache_block(traffic->rig.hbmd.cache, number);
	const struct tier *tier = &traffic->rig.hbmd.cache->tiers[block->actual];
	CUdeviceptr address = tier->base + tier_offset(block->unit) + at;
	unsigned char byte;

	assert_int_equal(tier->kind, HBM_TIER_HBM);
	assert_int_equal(traffic->rig.call.peek(&byte, 0, address, 1), 0);
	byte = (unsigned char)~byte;
	assert_int_equal(traffic->rig.call.poke(0, address, &byte, 1), 0);
}

/* Of four blocks that are pushed out of HBM, the third has another byte than was stored:
 * it goes, and so does its child; the others arrive below as they were. */
static void push_out_spoilt(struct traffic *traffic, const struct tier *to)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *from = &cache->tiers[1];

	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	spoil_in_hbm(traffic, traffic_find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	cache_push_out(cache, from, UINT64_MAX, 64);
	rig_settle(&traffic->rig);

	assert_int_equal(cache->counters.checksum_failures, 1);
	assert_int_equal(traffic_find(traffic, 0, 2), 0);
	assert_int_equal(traffic_find(traffic, 0, 3), 0);
	assert_int_equal(from->blocks, 0);
	assert_int_equal(to->blocks, 2);
	for (uint32_t key = 0; key < 2; key++) {
		uint32_t number = traffic_find(traffic, 0, key);
		assert_int_not_equal(number, 0);
		assert_int_equal(cache_block(cache, number)->actual, to->number);
		traffic_load(traffic, key);
	}

	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	assert_int_equal(traffic->loads, 2);
}

static void test_a_spoilt_block_does_not_go_down_to_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	traffic_open(traffic, 1, traffic_one_size);
	push_out_spoilt(traffic, traffic->rig.hbmd.cache->ddr);
	traffic_end(traffic);
}

static void test_a_spoilt_block_does_not_go_down_to_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	push_out_spoilt(traffic, traffic->rig.hbmd.cache->nvme);
	traffic_end(traffic);
}

/* Up from NVMe to DDR no device has a part in it; the bytes are verified all the same. */
static void test_a_spoilt_block_does_not_come_up_to_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_int_equal(cache->nvme->blocks, 4);

	traffic_corrupt_file(traffic, traffic_find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	for (uint32_t key = 4; key-- > 0;)
		cache_touch(cache, &touch, traffic_find(traffic, 0, key), 0);
	cache_settle(cache);
	cache_touch_end(cache);
	rig_settle(&traffic->rig);

	assert_int_equal(cache->counters.checksum_failures, 1);
	assert_int_equal(traffic_find(traffic, 0, 2), 0);
	assert_int_equal(traffic_find(traffic, 0, 3), 0);
	assert_int_equal(cache->ddr->blocks, 2);
	assert_int_equal(cache->nvme->blocks, 0);
	traffic_end(traffic);
}

static void assert_checksummed(struct traffic *traffic, uint32_t keys, bool expected)
{
	for (uint32_t key = 0; key < keys; key++) {
		uint32_t number = traffic_find(traffic, 0, key);
		assert_int_not_equal(number, 0);
		assert_int_equal(cache_block(traffic->rig.hbmd.cache, number)->checksummed,
				 expected);
	}
}

static void push_all_out(struct traffic *traffic, struct tier *from)
{
	cache_push_out(traffic->rig.hbmd.cache, from, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_int_equal(from->blocks, 0);
}

static uint64_t hashed(const struct traffic *traffic)
{
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, HBM_LINK_HASH, &link);
	return link.count;
}

/* A block gets its checksum on its way to NVMe, has it compared on its way from there, and
 * keeps it: in all, two computations. */
static void test_checksums_are_of_blocks_on_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;

	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	assert_checksummed(traffic, 4, false);
	push_all_out(traffic, cache_hbm(cache, 0));
	assert_checksummed(traffic, 4, false);
	assert_int_equal(hashed(traffic), 0);
	push_all_out(traffic, cache->ddr);
	assert_int_equal(cache->nvme->blocks, 4);
	assert_checksummed(traffic, 4, true);
	assert_int_equal(hashed(traffic), 4);

	for (uint32_t key = 0; key < 4; key++)
		traffic_load(traffic, key);
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_checksummed(traffic, 4, true);
	assert_int_equal(hashed(traffic), 8);
	traffic_end(traffic);
}

/* A store that goes to NVMe at once. */
static void test_a_store_to_nvme_takes_the_checksum(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);

	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	assert_checksummed(traffic, 4, true);
	assert_int_equal(hashed(traffic), 4);
	traffic_end(traffic);
}

static void test_no_checksums_where_they_are_off(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_OFF;
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);

	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->loads, 4);
	assert_checksummed(traffic, 4, false);
	assert_int_equal(hashed(traffic), 0);
	traffic_end(traffic);
}

/* From when it is stored, in every tier, and compared in each move. */
static void test_checksums_of_every_block(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	traffic_open(traffic, 1, traffic_one_size);

	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_checksummed(traffic, 4, true);
	assert_int_equal(hashed(traffic), 4);
	push_all_out(traffic, cache_hbm(traffic->rig.hbmd.cache, 0));
	assert_int_equal(hashed(traffic), 8);
	traffic_end(traffic);
}

struct crowd {
	struct move_reader *readers;
	unsigned ready;
};

static struct crowd crowd;

static void note_ready(struct move_reader *reader)
{
	assert_ptr_equal(reader, &crowd.readers[crowd.ready++]);
}

static void note_failed(struct move_reader *reader, int status)
{
	(void)reader;
	(void)status;
	fail();
}

static bool some_are_ready(void *arg)
{
	(void)arg;
	return crowd.ready > 0;
}

/* Very many readers of one block become ready some at a time, in order, and none is
 * forgotten; one that comes meanwhile is the last. The move does not end before they have
 * left. */
static void test_many_readers_go_in_steps(void **state)
{
	enum { MANY = 1200, STEP = 512 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct mover *mover = traffic->rig.hbmd.mover;
	const struct fair_payer payer = {.id = 1};
	crowd = (struct crowd){.readers = calloc(MANY + 1, sizeof(*crowd.readers))};
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);

	mover_listen(mover, NULL); /* the pump runs when this test says so */
	struct move *move = move_new(mover, &payer, traffic_find(traffic, 0, 0), (struct place){0});
	assert_non_null(move);
	for (unsigned i = 0; i <= MANY; i++)
		crowd.readers[i] = (struct move_reader){.ready = note_ready, .failed = note_failed};
	for (unsigned i = 0; i < MANY; i++)
		move_add_reader(move, &crowd.readers[i], payer);
	move_begin(move);
	pump_run(mover);
	rig_run(&traffic->rig, some_are_ready, NULL);

	assert_int_equal(crowd.ready, STEP);
	move_add_reader(move, &crowd.readers[MANY], payer);
	assert_int_equal(crowd.ready, STEP);
	move_serve_more(mover);
	assert_int_equal(crowd.ready, 2 * STEP);
	move_serve_more(mover);
	assert_int_equal(crowd.ready, MANY + 1);
	assert_true(list_empty(&mover->serving));

	for (unsigned i = 0; i <= MANY; i++) {
		assert_int_equal(mover_moves(mover), 1);
		list_remove(&crowd.readers[i].link);
		move_try_end(move);
	}

	assert_int_equal(mover_moves(mover), 0);
	free(crowd.readers);
	pump_start(mover, traffic->rig.loop);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_readers_go_in_steps),
		cmocka_unit_test(test_a_move_ends_with_the_last_use),
		cmocka_unit_test(test_a_silent_target_fails_no_reader),
		cmocka_unit_test(test_moves_are_counted_where_they_leave_and_arrive),
		cmocka_unit_test(test_a_spoilt_block_does_not_go_down_to_ddr),
		cmocka_unit_test(test_a_spoilt_block_does_not_go_down_to_nvme),
		cmocka_unit_test(test_a_spoilt_block_does_not_come_up_to_ddr),
		cmocka_unit_test(test_checksums_are_of_blocks_on_nvme),
		cmocka_unit_test(test_a_store_to_nvme_takes_the_checksum),
		cmocka_unit_test(test_no_checksums_where_they_are_off),
		cmocka_unit_test(test_checksums_of_every_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
