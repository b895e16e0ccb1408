/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mover and the lanes under it, on soft devices and a real file: whatever is asked in
 * whatever order, every byte that comes back is the byte that was stored, everything
 * asked for ends, and at the end the books balance. The contents of a block are a
 * function of its namespace and key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "daemon/move/load.h"
#include "daemon/move/pump.h"
#include "daemon/move/store.h"
#include "daemon/tier/nvme_file.h"
#include "kernels/soft/soft.h"
#include "tests/support/seed.h"
#include "tests/support/tier_memory.h"
#include "tests/support/tier_rig.h"

enum { SLOTS = 48, SPACES = 4, KEYS = 160, CHAIN = 8, SPANS = 4 };
#define SLOT_BYTES (512 * KIB)
#define CLIENT_BYTES (SLOTS * SLOT_BYTES) /* on each device */

struct traffic;

/* One transfer of the client's, with its slot of client memory. */
struct work {
	struct store store;
	struct load load;
	struct device *device;
	uint32_t span_count;
	struct traffic *traffic;
	struct span spans[SPANS];
	uint32_t slot, ns, key;
	bool busy;
};

struct traffic {
	struct rig rig;
	struct seed seed;
	uint64_t block_bytes[SPACES];
	uint16_t ns[SPACES];
	uint32_t namespaces;
	struct work works[SLOTS];
	uint32_t busy, wanted_busy; /* transfers under way; how many are waited for to remain */
	uint32_t held[SPACES][KEYS];
	bool faulty; /* failures are to be expected */
	uint64_t loads, stores, failed_loads, failed_stores;
};

/* ---- contents ---- */

static uint64_t word(uint32_t ns, uint32_t key, uint64_t i)
{
	uint64_t x = ((uint64_t)ns << 48 | (uint64_t)key << 32 | i) * 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

/* The client's memory of a work, as the concatenation of its spans: each word is seen and
 * put back. */
static void each_word(struct work *work, void (*visit)(uint64_t *at, uint64_t expected))
{
	static uint64_t words[SLOT_BYTES / sizeof(uint64_t)];
	const struct rig *rig = &work->traffic->rig;
	unsigned device = work->device->index;
	uint64_t i = 0;

	for (uint32_t s = 0; s < work->span_count; s++) {
		const struct span *span = &work->spans[s];
		assert_int_equal(rig->peek(words, device, span->address, span->bytes), 0);
		for (uint64_t n = 0; n < span->bytes / sizeof(words[0]); n++)
			visit(&words[n], word(work->ns, work->key, i++));
		assert_int_equal(rig->poke(device, span->address, words, span->bytes), 0);
	}
}

static void put_word(uint64_t *at, uint64_t expected)
{
	*at = expected;
}

static void check_word(uint64_t *at, uint64_t expected)
{
	if (*at != expected)
		assert_int_equal(*at, expected);
}

static void spoil_word(uint64_t *at, uint64_t expected)
{
	*at = ~expected;
}

/* ---- transfers ---- */

static struct hbm_wire_key key_of(uint32_t key)
{
	struct hbm_wire_key wire = {{1}};
	memcpy(wire.bytes + 4, &key, sizeof(key));
	return wire;
}

static uint32_t find(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	struct hbm_wire_key wire = key_of(key);
	return index_find(traffic->rig.hbmd.cache->index, traffic->ns[ns], &wire);
}

/* Pieces of random sizes, last first in memory. */
static void cut_spans(struct work *work, struct seed *seed, uint64_t bytes, uint64_t base)
{
	uint64_t slot = base + work->slot * SLOT_BYTES, end = slot + SLOT_BYTES;
	uint32_t count = 0;
	while (bytes > 0) {
		uint64_t piece = count + 1 == SPANS ? bytes : 8 * (1 + seed_below(seed, bytes / 8));
		end -= piece;
		bytes -= piece;
		work->spans[count++] = (struct span){end, piece};
	}

	work->span_count = count;
}

static struct work *new_work(struct traffic *traffic, uint32_t ns, uint32_t key, uint32_t device)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct work *work = &traffic->works[i];
		if (work->busy)
			continue;

		struct device *on = &traffic->rig.hbmd.devices->list[device];
		*work = (struct work){.traffic = traffic,
				      .slot = i,
				      .ns = ns,
				      .key = key,
				      .busy = true,
				      .device = on};
		cut_spans(work, &traffic->seed, traffic->block_bytes[ns],
			  traffic->rig.client[device].address);
		traffic->busy++;

		return work;
	}

	fail_msg("%s", "more transfers than the test has memory for");
	return NULL;
}

static void over(struct work *work)
{
	struct traffic *traffic = work->traffic;
	work->busy = false;
	if (--traffic->busy == traffic->wanted_busy)
		loop_stop(traffic->rig.loop);
}

static void stored(struct store *store)
{
	const struct transfer *transfer = &store->transfer;
	struct work *work = container_of(store, struct work, store);
	struct traffic *traffic = work->traffic;

	if (transfer->status == HBM_DEVICE || transfer->status == HBM_IO)
		assert_true(traffic->faulty);
	else if (transfer->status != HBM_OK)
		assert_int_equal(transfer->status, HBM_NO_SPACE);

	traffic->stores++;
	traffic->failed_stores += transfer->status != HBM_OK;
	over(work);
}

static void loaded(struct load *load)
{
	const struct transfer *transfer = &load->transfer;
	struct work *work = container_of(load, struct work, load);
	struct traffic *traffic = work->traffic;

	traffic->loads++;

	if (transfer->status == HBM_OK) {
		each_word(work, check_word);
	} else {
		assert_true(traffic->faulty);
		assert_in_range(transfer->status, HBM_OK + 1,
				HBM_DEVICE + HBM_MISS + HBM_IO + HBM_NO_SPACE);
		traffic->failed_loads++;
	}

	over(work);
}

static void start_load(struct traffic *traffic, uint32_t number, uint32_t ns, uint32_t key,
		       uint32_t device)
{
	struct work *work = new_work(traffic, ns, key, device);

	each_word(work, spoil_word);
	work->load = (struct load){.block = number,
				   .device = work->device,
				   .spans = work->spans,
				   .span_count = work->span_count,
				   .done = loaded};
	load_begin(traffic->rig.hbmd.mover, &work->load);
	block_unuse(&traffic->rig.hbmd.cache->blocks, number);
}

static void start_store(struct traffic *traffic, uint32_t number, uint32_t ns, uint32_t key,
			uint32_t device)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	if (!block_target(&cache->blocks, number)) {
		cache_abandon_store(cache, number);
		return;
	}

	struct work *work = new_work(traffic, ns, key, device);
	each_word(work, put_word);
	work->store = (struct store){.block = number,
				     .device = work->device,
				     .spans = work->spans,
				     .span_count = work->span_count,
				     .done = stored};
	store_begin(traffic->rig.hbmd.mover, &work->store);
}

/* What an engine does with the first `count` keys of a chain: what is there is loaded,
 * what is not is stored. */
static void use_chain(struct traffic *traffic, uint32_t ns, uint32_t first, uint32_t count,
		      uint32_t device)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	uint32_t numbers[CHAIN] = {0}, present = 0;

	for (; present < count; present++) {
		struct hbm_wire_key key = key_of(first + present);
		numbers[present] = cache_find(cache, traffic->ns[ns], &key);
		if (numbers[present] == 0)
			break;
		block_use(&cache->blocks, numbers[present]);
	}

	uint32_t end = present;
	for (; end < count && find(traffic, ns, first + end) == 0; end++) {
		struct hbm_wire_key key = key_of(first + end);
		uint32_t parent = end == 0 ? 0 : numbers[end - 1];
		numbers[end] = cache_insert(cache, traffic->ns[ns], &key, parent);
		assert_int_not_equal(numbers[end], 0);
	}

	cache_touch_begin(cache);
	for (uint32_t i = end; i-- > 0;)
		cache_touch(cache, numbers[i], device);
	cache_settle(cache);
	for (uint32_t i = 0; i < present; i++)
		start_load(traffic, numbers[i], ns, first + i, device);
	for (uint32_t i = present; i < end; i++)
		start_store(traffic, numbers[i], ns, first + i, device);
	pump_run(traffic->rig.hbmd.mover);
}

static bool few_are_busy(void *arg)
{
	const struct traffic *traffic = arg;
	return traffic->busy <= traffic->wanted_busy;
}

static void wait_until_busy(struct traffic *traffic, uint32_t busy)
{
	traffic->wanted_busy = busy;
	rig_run(&traffic->rig, few_are_busy, traffic);
	traffic->wanted_busy = 0;
}

/* ---- random operations ---- */

static void drop_one(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	uint32_t number = find(traffic, ns, key);
	if (number != 0 && !cache_is_pinned(traffic->rig.hbmd.cache, number))
		cache_drop(traffic->rig.hbmd.cache, number);
	pump_run(traffic->rig.hbmd.mover);
}

static void hold_one(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	struct hbm_wire_key wire = key_of(key);
	struct cache *cache = traffic->rig.hbmd.cache;
	uint32_t number = cache_find(cache, traffic->ns[ns], &wire);
	if (number != 0 && traffic->held[ns][key] == 0 && cache_pin(cache, number))
		traffic->held[ns][key] = number;
}

static void unhold_one(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	if (traffic->held[ns][key] != 0)
		cache_unpin(traffic->rig.hbmd.cache, traffic->held[ns][key]);
	traffic->held[ns][key] = 0;
	pump_run(traffic->rig.hbmd.mover);
}

static void unhold_all(struct traffic *traffic)
{
	for (uint32_t ns = 0; ns < traffic->namespaces; ns++)
		for (uint32_t key = 0; key < KEYS; key++)
			unhold_one(traffic, ns, key);
}

static void push_out(struct traffic *traffic)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = &cache->tiers[1 + seed_below(&traffic->seed, cache->tier_count)];
	cache_push_out(cache, tier, seed_below(&traffic->seed, MIB), 8);
	pump_run(traffic->rig.hbmd.mover);
}

static void random_operation(struct traffic *traffic)
{
	struct seed *seed = &traffic->seed;
	uint32_t ns = (uint32_t)seed_below(seed, traffic->namespaces);

	/* some keys far more often than others */
	uint32_t key = (uint32_t)seed_below(seed, 1 + seed_below(seed, 1 + seed_below(seed, KEYS)));
	uint32_t device = (uint32_t)seed_below(seed, traffic->rig.hbmd.devices->count);
	uint64_t dice = seed_below(seed, 100);
	if (dice < 90)
		use_chain(traffic, ns, key / CHAIN * CHAIN, 1 + key % CHAIN, device);
	else if (dice < 93)
		drop_one(traffic, ns, key);
	else if (dice < 95)
		hold_one(traffic, ns, key);
	else if (dice < 98)
		unhold_one(traffic, ns, key);
	else
		push_out(traffic);
}

static void run_random(struct traffic *traffic, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		wait_until_busy(traffic, (uint32_t)seed_below(&traffic->seed, SLOTS - CHAIN));
		random_operation(traffic);
		if (i % 64 == 0)
			rig_assert_balanced(&traffic->rig);
	}

	unhold_all(traffic);
	wait_until_busy(traffic, 0);
	rig_settle(&traffic->rig);
}

/* ---- setting up ---- */

static struct traffic *traffic_new(const char *name)
{
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	assert_non_null(traffic);
	seed_open(&traffic->seed, name);
	rig_init(&traffic->rig);
	return traffic;
}

static void traffic_open(struct traffic *traffic, uint32_t namespaces, const uint64_t *block_bytes)
{
	rig_open(&traffic->rig, CLIENT_BYTES);
	traffic->namespaces = namespaces;
	for (uint32_t i = 0; i < namespaces; i++) {
		struct hbm_wire_namespace_spec spec = {.weights = i, .block_bytes = block_bytes[i]};
		traffic->block_bytes[i] = block_bytes[i];
		traffic->ns[i] = namespaces_open(traffic->rig.hbmd.cache->namespaces, &spec);
		assert_int_not_equal(traffic->ns[i], 0);
	}
}

static void traffic_close(struct traffic *traffic)
{
	rig_assert_empties(&traffic->rig);
	rig_close(&traffic->rig);
}

static void traffic_free(struct traffic *traffic)
{
	rig_clear(&traffic->rig);
	free(traffic);
}

static void end_test(struct traffic *traffic)
{
	rig_assert_at_rest(&traffic->rig);
	traffic_close(traffic);
	traffic_free(traffic);
}

static const uint64_t one_size[] = {64 * KIB};
static const uint64_t mixed_sizes[SPACES] = {4 * KIB, 64 * KIB, 192 * KIB, 512 * KIB};

/* ---- tests ---- */

static void test_stores_and_loads_through_all_tiers(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new("test_stores_and_loads_through_all_tiers");
	traffic_open(traffic, 1, one_size);
	struct cache *cache = traffic->rig.hbmd.cache;

	/* 8 blocks fit HBM, 16 DDR, 32 NVMe. */
	for (uint32_t first = 0; first < 56; first += CHAIN) {
		use_chain(traffic, 0, first, CHAIN, 0);
		wait_until_busy(traffic, 0);
	}

	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	assert_int_equal(cache_hbm(cache, 0)->placed, 8 * 64 * KIB);
	assert_int_equal(cache->ddr->placed, 16 * 64 * KIB);
	assert_int_equal(cache->nvme->placed, 32 * 64 * KIB);
	assert_int_equal(traffic->failed_stores, 0);

	for (uint32_t first = 0; first < 56; first += CHAIN) {
		use_chain(traffic, 0, first, CHAIN, 0);
		wait_until_busy(traffic, 0);
	}

	assert_int_equal(traffic->loads, 56);
	assert_int_equal(traffic->stores, 56);
	rig_settle(&traffic->rig);
	end_test(traffic);
}

static void random_test(const char *name, struct traffic *traffic, uint32_t namespaces,
			const uint64_t *sizes)
{
	traffic_open(traffic, namespaces, sizes);
	run_random(traffic, 1500);
	print_message("%s: %llu loads, %llu stores, %llu of them dropped meanwhile\n", name,
		      (unsigned long long)traffic->loads, (unsigned long long)traffic->stores,
		      (unsigned long long)traffic->failed_stores);
	assert_int_not_equal(traffic->loads, 0);
	end_test(traffic);
}

static void test_random_one_size(void **state)
{
	(void)state;
	random_test(__func__, traffic_new(__func__), 1, one_size);
}

static void test_random_mixed_sizes(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size.bytes = 2 * MIB;
	traffic->rig.config.nvme_size = 4 * MIB;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_two_devices(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_without_reserves(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct config *config = &traffic->rig.config;
	config->device_cache.bytes = GRANULE;
	config->device_headroom = (struct config_size){0};
	config->ddr_size.bytes = 2 * MIB;
	config->ddr_headroom = 0;
	config->nvme_size = 4 * MIB;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_with_io_threads(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.io = CONFIG_IO_THREADS;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

/* Few movements at once and a staging area of one large block: nearly everything has to
 * wait for something. */
static void test_random_with_little_of_everything(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct config *config = &traffic->rig.config;
	config->soft_devices = 2;
	config->limit_moves = 1;
	config->nvme_depth = 1;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_without_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size = (struct config_size){0};
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_without_hbm(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_without_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	free(traffic->rig.config.nvme_path);
	traffic->rig.config.nvme_path = strdup("");
	traffic->rig.config.nvme_size = 0;
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

static void test_random_only_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	random_test(__func__, traffic, SPACES, mixed_sizes);
}

/* ---- many loads of one block that is far away ---- */

static void load_one(struct traffic *traffic, uint32_t key)
{
	uint32_t number = find(traffic, 0, key);
	assert_int_not_equal(number, 0);
	block_use(&traffic->rig.hbmd.cache->blocks, number);
	start_load(traffic, number, 0, key, 0);
}

/* With two movements at once, loads of more blocks than that, each twice: those that wait
 * for a movement of theirs must not keep the movement that another load has begun from
 * ending. */
static void test_loads_of_the_same_blocks_twice(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.limit_moves = 1;
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	for (uint32_t first = 0; first < 2 * CHAIN; first += CHAIN)
		use_chain(traffic, 0, first, CHAIN, 0);
	wait_until_busy(traffic, 0);

	for (int twice = 0; twice < 2; twice++)
		for (uint32_t key = 0; key < 2 * CHAIN; key++)
			load_one(traffic, key);

	pump_run(traffic->rig.hbmd.mover);
	wait_until_busy(traffic, 0);
	assert_int_equal(traffic->loads, 4 * CHAIN);
	assert_int_equal(traffic->failed_loads, 0);
	rig_settle(&traffic->rig);
	end_test(traffic);
}

/* Loads that come while a block is on its way are served from that one read. */
static void test_a_block_is_read_once(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	use_chain(traffic, 0, 0, 1, 0);
	wait_until_busy(traffic, 0);
	for (int i = 0; i < 20; i++)
		load_one(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	wait_until_busy(traffic, 0);
	assert_int_equal(traffic->loads, 20);
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, HBM_LINK_NVME_READ, &link);
	assert_int_equal(link.count, 1);
	rig_settle(&traffic->rig);
	end_test(traffic);
}

/* A block that waits to come down to DDR is wanted in HBM after all, and when its turn
 * comes nothing else moves: it must not stay where it is until somebody happens to do
 * something. */
static void test_a_change_of_mind_while_a_block_waits(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.limit_moves = 1;
	traffic_open(traffic, 1, one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *hbm = cache_hbm(cache, 0);
	use_chain(traffic, 0, 0, 1, 0);
	wait_until_busy(traffic, 0);

	for (struct tier *tier = hbm; tier != cache->nvme; tier = tier->below) {
		cache_push_out(cache, tier, 1, 1);
		rig_settle(&traffic->rig);
	}

	use_chain(traffic, 0, CHAIN, 1, 0);
	wait_until_busy(traffic, 0);
	uint32_t number = find(traffic, 0, 0);
	assert_int_equal(cache_block(cache, number)->actual, cache->tier_count);
	cache_touch_begin(cache);
	cache_touch(cache, number, 0);
	cache_push_out(cache, hbm, MIB, 2);
	pump_run(traffic->rig.hbmd.mover); /* the other block moves now, this one comes after it */
	assert_int_equal(cache->ddr->inbound_first, number);
	cache_touch_begin(cache);
	cache_touch(cache, number, 0);
	rig_run(&traffic->rig, rig_is_idle, &traffic->rig);
	end_test(traffic);
}

static void test_the_first_failure_is_the_status(void **state)
{
	(void)state;
	struct transfer transfer = {.status = HBM_OK};

	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_OK);
	transfer_fail(&transfer, HBM_DEVICE);
	transfer_fail(&transfer, HBM_NO_SPACE);
	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_DEVICE);
}

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
	traffic_open(traffic, 1, one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	use_chain(traffic, 0, 0, 4, 0);
	wait_until_busy(traffic, 0);
	assert_moved(cache_hbm(cache, 0), 0, 0);

	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache_hbm(cache, 0), 0, 4);
	assert_moved(cache->ddr, 4, 0);

	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache->ddr, 4, 4);
	assert_moved(cache->nvme, 4, 0);

	use_chain(traffic, 0, 0, 2, 0);
	wait_until_busy(traffic, 0);
	rig_settle(&traffic->rig);
	assert_moved(cache_hbm(cache, 0), 2, 4);
	assert_moved(cache->nvme, 4, 2);

	cache_push_out(cache, cache->nvme, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_moved(cache->nvme, 4, 2);
	end_test(traffic);
}

/* ---- bytes that went bad ---- */

static void overwrite(struct traffic *traffic, uint32_t number, uint64_t at)
{
	int fd = open(traffic->rig.file, O_WRONLY | O_CLOEXEC);

	assert_in_range(fd, 0, INT32_MAX);
	uint64_t offset =
		NVME_HEAD + tier_offset(cache_block(traffic->rig.hbmd.cache, number)->unit) + at;
	assert_int_equal(pwrite(fd, "?", 1, (off_t)offset), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static void test_a_spoilt_block_is_a_miss(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	use_chain(traffic, 0, 0, 4, 0);
	wait_until_busy(traffic, 0);
	overwrite(traffic, find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	for (uint32_t key = 0; key < 4; key++)
		load_one(traffic, key);
	pump_run(traffic->rig.hbmd.mover);
	wait_until_busy(traffic, 0);
	assert_int_equal(traffic->failed_loads, 1);
	assert_int_equal(traffic->works[2].load.transfer.status, HBM_MISS);
	assert_int_equal(traffic->rig.hbmd.cache->checksum_failures, 1);
	assert_int_not_equal(find(traffic, 0, 1), 0);
	assert_int_equal(find(traffic, 0, 2), 0);
	assert_int_equal(find(traffic, 0, 3), 0); /* its child, which nobody could find any more */
	rig_settle(&traffic->rig);
	end_test(traffic);
}

static void spoil_in_hbm(struct traffic *traffic, uint32_t number, uint64_t at)
{
	const struct block *block = cache_block(traffic->rig.hbmd.cache, number);
	const struct tier *tier = &traffic->rig.hbmd.cache->tiers[block->actual];
	CUdeviceptr address = tier->base + tier_offset(block->unit) + at;
	unsigned char byte;

	assert_int_equal(tier->kind, HBM_TIER_HBM);
	assert_int_equal(traffic->rig.peek(&byte, 0, address, 1), 0);
	byte = (unsigned char)~byte;
	assert_int_equal(traffic->rig.poke(0, address, &byte, 1), 0);
}

/* Of four blocks that are pushed out of HBM, the third has another byte than was stored:
 * it goes, and so does its child; the others arrive below as they were. */
static void push_out_spoilt(struct traffic *traffic, const struct tier *to)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *from = &cache->tiers[1];

	use_chain(traffic, 0, 0, 4, 0);
	wait_until_busy(traffic, 0);
	spoil_in_hbm(traffic, find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	cache_push_out(cache, from, UINT64_MAX, 64);
	rig_settle(&traffic->rig);

	assert_int_equal(cache->checksum_failures, 1);
	assert_int_equal(find(traffic, 0, 2), 0);
	assert_int_equal(find(traffic, 0, 3), 0);
	assert_int_equal(from->blocks, 0);
	assert_int_equal(to->blocks, 2);
	for (uint32_t key = 0; key < 2; key++) {
		uint32_t number = find(traffic, 0, key);
		assert_int_not_equal(number, 0);
		assert_int_equal(cache_block(cache, number)->actual, to->number);
		load_one(traffic, key);
	}

	pump_run(traffic->rig.hbmd.mover);
	wait_until_busy(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	assert_int_equal(traffic->loads, 2);
}

static void test_a_spoilt_block_does_not_go_down_to_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, one_size);
	push_out_spoilt(traffic, traffic->rig.hbmd.cache->ddr);
	end_test(traffic);
}

static void test_a_spoilt_block_does_not_go_down_to_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	push_out_spoilt(traffic, traffic->rig.hbmd.cache->nvme);
	end_test(traffic);
}

/* Up from NVMe to DDR no device has a part in it; the bytes are verified all the same. */
static void test_a_spoilt_block_does_not_come_up_to_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	use_chain(traffic, 0, 0, 4, 0);
	wait_until_busy(traffic, 0);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_int_equal(cache->nvme->blocks, 4);

	overwrite(traffic, find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	cache_touch_begin(cache);
	for (uint32_t key = 4; key-- > 0;)
		cache_touch(cache, find(traffic, 0, key), 0);
	cache_settle(cache);
	rig_settle(&traffic->rig);

	assert_int_equal(cache->checksum_failures, 1);
	assert_int_equal(find(traffic, 0, 2), 0);
	assert_int_equal(find(traffic, 0, 3), 0);
	assert_int_equal(cache->ddr->blocks, 2);
	assert_int_equal(cache->nvme->blocks, 0);
	end_test(traffic);
}

/* ---- a fourth tier ---- */

/* 8 blocks fit HBM, 16 DDR, 32 NVMe, and 16 the memory below. */
static struct traffic *fourth_tier_new(const char *name, struct tier_memory *memory)
{
	struct traffic *traffic = traffic_new(name);
	traffic_open(traffic, 1, one_size);
	tier_memory_open(memory, traffic->rig.hbmd.cache, traffic->rig.loop, MIB,
			 traffic->rig.config.limit_blocks);
	pump_start(traffic->rig.hbmd.mover);

	for (uint32_t first = 0; first < 72; first += CHAIN) {
		use_chain(traffic, 0, first, CHAIN, 0);
		wait_until_busy(traffic, 0);
	}

	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);

	return traffic;
}

static void test_blocks_cascade_into_a_fourth_tier_and_back(void **state)
{
	(void)state;
	struct tier_memory memory;
	struct traffic *traffic = fourth_tier_new(__func__, &memory);
	assert_int_equal(memory.tier->placed, 16 * 64 * KIB);
	assert_int_equal(memory.writes, 16);
	assert_int_equal(memory.reads, 0);

	for (uint32_t first = 0; first < 72; first += CHAIN) {
		use_chain(traffic, 0, first, CHAIN, 0);
		wait_until_busy(traffic, 0);
	}

	assert_int_equal(traffic->loads, 72);
	assert_int_equal(traffic->stores, 72);
	/* A block may be read twice: for its load, and to move it. */
	assert_in_range(memory.reads, 16, 2 * 72);
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);

	run_random(traffic, 500);
	assert_int_equal(traffic->failed_loads, 0);
	end_test(traffic);
	tier_memory_close(&memory);
}

static void test_a_failing_read_of_a_fourth_tier_drops_the_block(void **state)
{
	(void)state;
	struct tier_memory memory;
	struct traffic *traffic = fourth_tier_new(__func__, &memory);
	memory.fail_reads = true;
	traffic->faulty = true;
	load_one(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	wait_until_busy(traffic, 0);

	assert_int_equal(traffic->failed_loads, 1);
	assert_int_equal(traffic->works[0].load.transfer.status, HBM_IO);
	assert_int_equal(traffic->rig.hbmd.cache->io_errors, 1);
	assert_int_equal(find(traffic, 0, 0), 0);
	rig_settle(&traffic->rig);
	end_test(traffic);
	tier_memory_close(&memory);
}

/* ---- a lost device ---- */

static CUresult fail_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_ERROR_LAUNCH_FAILED;
}

/* A kernel that fails ruins the context: nothing that needs it works any more. Module and
 * stream go with it. */
static void ruin(struct rig *rig, uint32_t device)
{
	static const char text[] =
		".version 6.0\n.target sm_70\n.address_size 64\n.visible .entry fail() { ret; }\n";
	static const struct hbm_soft_kernel kernel = {.name = "fail", .run = fail_run};
	const struct driver *driver = rig->hbmd.devices->driver;
	int (*give)(const struct hbm_soft_kernel *);

	*(void **)&give = rig_symbol(rig, "hbm_soft_kernel");
	CUmodule module;
	CUfunction function;
	CUstream stream;
	assert_int_equal(give(&kernel), 0);
	assert_int_equal(device_enter(&rig->hbmd.devices->list[device]), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleLoadData(&module, text), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleGetFunction(&function, module, "fail"), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	assert_int_equal(driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_ERROR_LAUNCH_FAILED);
}

/* Uses a chain and waits; how many of its loads and stores failed. */
static uint64_t failures_of(struct traffic *traffic, uint32_t first, uint32_t count,
			    uint32_t device)
{
	uint64_t before = traffic->failed_loads + traffic->failed_stores;
	use_chain(traffic, 0, first, count, device);
	wait_until_busy(traffic, 0);
	rig_settle(&traffic->rig);
	return traffic->failed_loads + traffic->failed_stores - before;
}

/* What is read from NVMe for one device is verified, whatever has become of another. */
static void test_nvme_serves_others_when_the_first_device_is_lost(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, one_size);
	assert_int_equal(failures_of(traffic, 0, CHAIN, 1), 0);
	traffic->faulty = true;
	ruin(&traffic->rig, 0);
	assert_int_equal(failures_of(traffic, CHAIN, 1, 0), 1);
	assert_true(device_is_lost(&traffic->rig.hbmd.devices->list[0]));
	traffic->faulty = false;
	uint64_t stores = traffic->stores;
	assert_int_equal(failures_of(traffic, 0, CHAIN, 1), 0);
	assert_int_equal(traffic->stores, stores); /* all were found */
	end_test(traffic);
}

/* Blocks that are elsewhere stay when they were to come to a device that is lost; what it
 * had, pinned or not, is missed and can be stored again; nothing belongs there any more. */
static void test_a_lost_device_takes_only_its_own(void **state)
{
	enum { OWN = CHAIN, OTHERS = 24 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic_open(traffic, 1, one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	for (uint32_t first = OWN; first < OWN + OTHERS; first += CHAIN)
		assert_int_equal(failures_of(traffic, first, CHAIN, 1), 0);
	assert_int_equal(failures_of(traffic, 0, OWN, 0), 0);
	hold_one(traffic, 0, 1);
	assert_int_not_equal(traffic->held[0][1], 0);
	traffic->faulty = true;
	ruin(&traffic->rig, 0);

	/* Uses on the device, of which it knows nothing yet: each moves blocks there. */
	for (uint32_t first = OWN; first < OWN + OTHERS; first += CHAIN)
		use_chain(traffic, 0, first, CHAIN, 0);
	wait_until_busy(traffic, 0);
	rig_settle(&traffic->rig);
	assert_int_equal(traffic->failed_loads, OTHERS);
	assert_int_equal(cache_hbm(cache, 0)->usable, 0);
	assert_int_equal(cache_hbm(cache, 0)->placed, 0);
	for (uint32_t key = 0; key < OWN; key++)
		assert_int_equal(find(traffic, 0, key), 0);
	unhold_one(traffic, 0, 1);
	rig_assert_at_rest(&traffic->rig);
	traffic->faulty = false;
	uint64_t stores = traffic->stores;
	for (uint32_t first = OWN; first < OWN + OTHERS; first += CHAIN)
		assert_int_equal(failures_of(traffic, first, CHAIN, 1), 0);
	assert_int_equal(traffic->stores, stores);
	assert_int_equal(failures_of(traffic, 0, OWN, 1), 0);
	assert_int_equal(traffic->stores, stores + OWN);
	end_test(traffic);
}

/* A device is lost at any moment, and whatever is asked afterwards. */
static void test_random_while_a_device_is_lost(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic_open(traffic, SPACES, mixed_sizes);

	for (unsigned i = 0; i < 300; i++) {
		wait_until_busy(traffic, (uint32_t)seed_below(&traffic->seed, SLOTS - CHAIN));
		random_operation(traffic);
	}

	traffic->faulty = true;
	ruin(&traffic->rig, (uint32_t)seed_below(&traffic->seed, 2));
	run_random(traffic, 500);
	assert_int_not_equal(traffic->failed_loads + traffic->failed_stores, 0);
	end_test(traffic);
}

/* ---- faults ---- */

/* Enough to make every kind of movement: stores, demotions to NVMe, loads from each tier. */
static void small_workload(struct traffic *traffic)
{
	for (int round = 0; round < 2; round++) {
		for (uint32_t first = 0; first < 40; first += CHAIN)
			use_chain(traffic, 0, first, CHAIN,
				  first / CHAIN % traffic->rig.hbmd.devices->count);
		wait_until_busy(traffic, 0);
		rig_settle(&traffic->rig);
	}
	rig_assert_at_rest(&traffic->rig);
}

static void test_every_device_call_fails_once(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic_open(traffic, 1, one_size);
	traffic->faulty = true;
	struct rig *rig = &traffic->rig;
	unsigned nth = 0;
	for (bool struck = true; struck;) {
		nth++;
		uint64_t before = rig->calls("*"), errors = 0;
		assert_int_equal(rig->fault("*", nth, CUDA_ERROR_UNKNOWN), 0);
		small_workload(traffic);
		struck = rig->calls("*") - before >= nth;
		assert_int_equal(rig->fault(NULL, 0, CUDA_SUCCESS), 0);
		for (uint32_t i = 0; i < 2; i++)
			errors += rig->hbmd.devices->list[i].errors;
		assert_in_range(errors, struck ? nth : nth - 1, UINT32_MAX);
		rig_assert_empties(rig);
	}

	print_message("%s: %u calls, %llu loads and %llu stores failed\n", __func__, nth - 1,
		      (unsigned long long)traffic->failed_loads,
		      (unsigned long long)traffic->failed_stores);
	assert_in_range(nth, 20, UINT32_MAX);
	assert_int_not_equal(traffic->failed_loads + traffic->failed_stores, 0);
	traffic->faulty = false;
	small_workload(traffic);
	end_test(traffic);
}

static uint64_t count_ios(struct traffic *traffic, enum hbm_link link)
{
	struct hbm_wire_link record;
	link_stats_link(traffic->rig.hbmd.link_stats, link, &record);
	return record.count;
}

/* The n-th read and write, for every n until the run passes. */
static void every_io_fails_once(struct traffic *traffic, const char *direction, const char *what)
{
	char fail[64];

	free(traffic->rig.config.nvme_fail);
	traffic->rig.config.nvme_fail = fail;
	traffic->faulty = strcmp(what, "EIO") == 0;
	enum hbm_link link = direction[0] == 'r' ? HBM_LINK_NVME_READ : HBM_LINK_NVME_WRITE;
	uint64_t ios = UINT64_MAX;
	unsigned nth = 1;
	for (; nth <= ios; nth++) {
		snprintf(fail, sizeof(fail), "%s:%u:%s", direction, nth, what);
		traffic_open(traffic, 1, one_size);
		uint64_t failed = traffic->failed_loads + traffic->failed_stores;
		small_workload(traffic);
		ios = count_ios(traffic, link);
		if (!traffic->faulty)
			assert_int_equal(traffic->failed_loads + traffic->failed_stores, failed);

		traffic_close(traffic);
	}

	assert_in_range(nth, 5, UINT32_MAX);
	traffic->rig.config.nvme_fail = NULL;
	traffic_free(traffic);
}

static void test_every_read_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "read", "EIO");
}

static void test_every_write_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "write", "EIO");
}

static void test_every_read_is_short_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "read", "short");
}

static void test_every_write_is_short_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "write", "short");
}

/* With an argument: only the tests whose names match that pattern. */
int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stores_and_loads_through_all_tiers),
		cmocka_unit_test(test_random_one_size),
		cmocka_unit_test(test_random_mixed_sizes),
		cmocka_unit_test(test_random_two_devices),
		cmocka_unit_test(test_random_without_reserves),
		cmocka_unit_test(test_random_with_io_threads),
		cmocka_unit_test(test_random_with_little_of_everything),
		cmocka_unit_test(test_random_without_ddr),
		cmocka_unit_test(test_random_without_hbm),
		cmocka_unit_test(test_random_without_nvme),
		cmocka_unit_test(test_random_only_nvme),
		cmocka_unit_test(test_loads_of_the_same_blocks_twice),
		cmocka_unit_test(test_a_block_is_read_once),
		cmocka_unit_test(test_a_change_of_mind_while_a_block_waits),
		cmocka_unit_test(test_moves_are_counted_where_they_leave_and_arrive),
		cmocka_unit_test(test_the_first_failure_is_the_status),
		cmocka_unit_test(test_a_spoilt_block_is_a_miss),
		cmocka_unit_test(test_a_spoilt_block_does_not_go_down_to_ddr),
		cmocka_unit_test(test_a_spoilt_block_does_not_go_down_to_nvme),
		cmocka_unit_test(test_a_spoilt_block_does_not_come_up_to_ddr),
		cmocka_unit_test(test_blocks_cascade_into_a_fourth_tier_and_back),
		cmocka_unit_test(test_a_failing_read_of_a_fourth_tier_drops_the_block),
		cmocka_unit_test(test_nvme_serves_others_when_the_first_device_is_lost),
		cmocka_unit_test(test_a_lost_device_takes_only_its_own),
		cmocka_unit_test(test_random_while_a_device_is_lost),
		cmocka_unit_test(test_every_device_call_fails_once),
		cmocka_unit_test(test_every_read_fails_once),
		cmocka_unit_test(test_every_write_fails_once),
		cmocka_unit_test(test_every_read_is_short_once),
		cmocka_unit_test(test_every_write_is_short_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
