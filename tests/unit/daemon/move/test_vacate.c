/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks leave the retired ranges of a tier: which way, and that their bytes stay right while
 * clients go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"
#include "daemon/loop/loop.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/move/vacate.h"
#include "daemon/tier/tier_resize.h"
#include "tests/support/traffic.h"

static unsigned done;

static void count_done(struct vacate *vacate)
{
	(void)vacate;
	done++;
}

static bool is_done(void *arg)
{
	(void)arg;
	return done > 0;
}

/* The policy's capacity and the extents in service. */
static void set_size(struct cache *cache, struct tier *tier, uint64_t bytes)
{
	tier->capacity = bytes;
	assert_int_equal(tier_retire_to(tier, bytes + tier->headroom), 0);
	while (tier_sort_some(tier, 1))
		;
	if (cache->touching == 0)
		cache_settle(cache);
}

static void shrink(struct traffic *traffic, struct tier *tier, uint64_t bytes)
{
	struct vacate vacate;

	done = 0;
	set_size(traffic->rig.hbmd.cache, tier, bytes);
	vacate_begin(&vacate, traffic->rig.hbmd.mover, tier, count_done);
	rig_run(&traffic->rig, is_done, NULL);
	assert_int_equal(done, 1);
	assert_int_equal(extent_retiring(tier->extents), 0);
	assert_int_equal(extent_capacity(tier->extents), bytes + tier->headroom);
	assert_int_equal(tier->usable, bytes);
	rig_assert_balanced(&traffic->rig);
}

/* Each block that there is has its bytes. */
static void load_all(struct traffic *traffic)
{
	for (uint32_t key = 0; key < TRAFFIC_KEYS; key++) {
		if (traffic_find(traffic, 0, key) == 0)
			continue;

		traffic_load(traffic, key);
		pump_run(traffic->rig.hbmd.mover);
		traffic_wait(traffic, 0);
	}
}

/* Tier 1 is HBM, 2 DDR, 3 NVMe: what the policy keeps in it stays there, at another place. */
static void check_moves_within(const char *name, uint32_t number, uint64_t bytes)
{
	struct traffic *traffic = traffic_new(name);
	traffic->rig.config.device_memory.bytes = 3 * GRANULE;
	traffic->rig.config.device_cache.bytes = 2 * GRANULE - 512 * KIB;
	traffic->rig.config.device_headroom.bytes = 512 * KIB;
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = &cache->tiers[number];

	/* the newest blocks lie at the top */
	for (uint32_t i = 0; i < TRAFFIC_KEYS / TRAFFIC_CHAIN; i++) {
		traffic_use(traffic, 0, i * TRAFFIC_CHAIN, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
		rig_settle(&traffic->rig);
	}

	shrink(traffic, tier, bytes);
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	uint64_t blocks = tier->blocks, moved = tier->in_blocks;
	assert_int_equal(blocks, bytes / (64 * KIB));
	load_all(traffic);

	/* the same blocks once more, nearer to the front */
	shrink(traffic, tier, bytes / 2);
	rig_settle(&traffic->rig);
	assert_int_equal(tier->blocks, blocks / 2);
	assert_int_equal(tier->in_blocks, moved);
	load_all(traffic);
	set_size(cache, tier, bytes * 2);
	traffic_random(traffic, 300);
	rig_assert_at_rest(&traffic->rig);
	traffic_end(traffic);
}

static void test_within_hbm(void **state)
{
	(void)state;
	check_moves_within(__func__, 1, 256 * KIB);
}

static void test_within_ddr(void **state)
{
	(void)state;
	check_moves_within(__func__, 2, 512 * KIB);
}

static void test_within_nvme(void **state)
{
	(void)state;
	check_moves_within(__func__, 3, 1 * MIB);
}

/* A block in use leaves its old place when the use is over. */
static void test_what_is_in_use(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = cache->ddr;
	struct vacate vacate;
	uint32_t last = 0;

	traffic_use(traffic, 0, 0, 8, 0);
	traffic_wait(traffic, 0);
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 8);
	rig_settle(&traffic->rig);
	for (uint32_t key = 0; key < 8; key++) {
		uint32_t number = traffic_find(traffic, 0, key);
		if (last == 0 || cache_block(cache, number)->unit > cache_block(cache, last)->unit)
			last = number;
	}

	traffic_pin(traffic, 0, 0);
	block_use(&cache->blocks, last);
	uint32_t unit = cache_block(cache, last)->unit;
	done = 0;
	tier->headroom = 0;
	set_size(cache, tier, 448 * KIB);
	assert_int_equal(tier_offset(unit), 448 * KIB);
	if (cache_block(cache, last)->target != tier->number)
		cache_move(cache, last, tier);
	vacate_begin(&vacate, traffic->rig.hbmd.mover, tier, count_done);
	for (unsigned i = 0; i < 64; i++)
		loop_flush(traffic->rig.loop);
	assert_int_equal(done, 0);
	assert_int_equal(cache_block(cache, last)->unit, unit);
	move_unuse(traffic->rig.hbmd.mover, last);
	rig_run(&traffic->rig, is_done, NULL);
	assert_int_not_equal(cache_block(cache, last)->unit, unit);
	traffic_unpin(traffic, 0, 0);
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	tier->headroom = 256 * KIB;
	set_size(cache, tier, MIB);
	traffic_end(traffic);
}

struct ticks {
	struct loop *loop;
	struct timer timer;
	unsigned left;
};

static void tick(struct timer *timer)
{
	struct ticks *ticks = container_of(timer, struct ticks, timer);

	if (--ticks->left > 0)
		loop_timer_set(ticks->loop, timer, clock_now() + 1000000);
}

static bool has_ticked(void *arg)
{
	return ((const struct ticks *)arg)->left == 0;
}

static void free_left(void *arg)
{
	tier_free_left(arg, UINT32_MAX);
}

/* As many extents as there may be wait for a flush: however long it takes, no block is evicted. */
static void test_a_flush_is_waited_for(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = cache->nvme;
	struct vacate vacate;
	struct ticks ticks = {.loop = traffic->rig.loop, .timer.fire = tick, .left = 500};
	struct left_extent extent = {0};
	struct left_extents of_catalog = tier->left;

	for (uint32_t i = 0; i < TRAFFIC_KEYS / TRAFFIC_CHAIN; i++) {
		traffic_use(traffic, 0, i * TRAFFIC_CHAIN, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
		rig_settle(&traffic->rig);
	}

	assert_int_equal(of_catalog.count, 0);
	assert_int_equal(left_extents_open(&tier->left, free_left, tier), 0);
	for (uint32_t i = 0; i < LEFT_EXTENTS_MOST; i++)
		left_extents_add(&tier->left, &extent);
	done = 0;
	set_size(cache, tier, 1 * MIB);
	uint64_t blocks = tier->blocks;
	assert_true(extent_retiring(tier->extents) > 0);
	vacate_begin(&vacate, traffic->rig.hbmd.mover, tier, count_done);
	tick(&ticks.timer);
	rig_run(&traffic->rig, has_ticked, &ticks);
	assert_int_equal(done, 0);
	assert_int_equal(tier->blocks, blocks);

	while (left_extents_take(&tier->left, &extent))
		;
	rig_run(&traffic->rig, is_done, NULL);
	assert_int_equal(vacate.end, VACATE_AWAY);
	assert_int_equal(tier->blocks, blocks);
	left_extents_close(&tier->left);
	tier->left = of_catalog;
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	traffic_end(traffic);
}

static void operate(struct traffic *traffic)
{
	for (unsigned i = 0; i < 40; i++) {
		traffic_random_operation(traffic);
		traffic_wait(traffic, TRAFFIC_SLOTS - TRAFFIC_CHAIN);
	}
}

/* Blocks of many sizes, all pinned, may leave holes that take none of those that are left. */
static void assert_only_pinned(struct cache *cache, struct tier *tier)
{
	assert_int_equal(cache_push_out(cache, tier, 1, 1).blocks, 0);
	assert_true(extent_retiring(tier->extents) <= cache_pinned(cache, tier));
	assert_true(extent_largest(tier->extents) < traffic_mixed_sizes[TRAFFIC_NAMESPACES - 1]);
}

/* Sizes go up and down while blocks are stored, loaded, pinned and dropped. */
static void test_under_load(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
	struct cache *cache = traffic->rig.hbmd.cache;
	uint64_t sizes[4];

	for (uint32_t i = 1; i <= 3; i++)
		sizes[i] = cache->tiers[i].capacity;

	for (unsigned round = 0; round < 60; round++) {
		uint32_t number = 1 + (uint32_t)seed_below(&traffic->seed, 3);
		struct tier *tier = &cache->tiers[number];
		struct vacate vacate;

		operate(traffic);
		uint64_t bytes =
			(1 + seed_below(&traffic->seed, sizes[number] / (64 * KIB))) * 64 * KIB;
		uint64_t pinned = cache_pinned(cache, tier);
		if (bytes < pinned)
			continue;

		done = 0;
		set_size(cache, tier, bytes);
		vacate_begin(&vacate, traffic->rig.hbmd.mover, tier, count_done);
		operate(traffic);
		rig_run(&traffic->rig, is_done, NULL);
		rig_assert_balanced(&traffic->rig);
		if (vacate.end == VACATE_PINNED) {
			assert_only_pinned(cache, tier);
			set_size(cache, tier, sizes[number]);
			continue;
		}
		assert_int_equal(vacate.end, VACATE_AWAY);
		assert_int_equal(extent_capacity(tier->extents), bytes + tier->headroom);
	}

	for (uint32_t i = 1; i <= 3; i++)
		set_size(cache, &cache->tiers[i], sizes[i]);
	traffic_random(traffic, 100);
	assert_int_equal(traffic->failed_loads, 0);
	traffic_end(traffic);
}

/* One that is stopped calls nobody. */
static void test_is_stopped(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct vacate vacate = {0};

	vacate_stop(&vacate);
	traffic_use(traffic, 0, 0, 8, 0);
	traffic_wait(traffic, 0);
	done = 0;
	set_size(cache, cache_hbm(cache, 0), 64 * KIB);
	vacate_begin(&vacate, traffic->rig.hbmd.mover, cache_hbm(cache, 0), count_done);
	vacate_stop(&vacate);
	set_size(cache, cache_hbm(cache, 0), 512 * KIB);
	rig_settle(&traffic->rig);
	assert_int_equal(done, 0);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_within_hbm),
		cmocka_unit_test(test_within_ddr),
		cmocka_unit_test(test_within_nvme),
		cmocka_unit_test(test_what_is_in_use),
		cmocka_unit_test(test_a_flush_is_waited_for),
		cmocka_unit_test(test_under_load),
		cmocka_unit_test(test_is_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
