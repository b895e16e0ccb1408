/* SPDX-License-Identifier: Apache-2.0 */
/* traffic: see traffic.h. */
#include "tests/support/traffic.h"
#include "tests/support/effort.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
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
#include "daemon/tier/tier.h"
#include "tests/support/open_namespace.h"
#include "tests/support/seed.h"

#define SLOT_BYTES (512 * KIB)
#define CLIENT_BYTES (TRAFFIC_SLOTS * SLOT_BYTES) /* on each device */

const uint64_t traffic_one_size[] = {64 * KIB};
const uint64_t traffic_mixed_sizes[TRAFFIC_NAMESPACES] = {4 * KIB, 64 * KIB, 192 * KIB, 512 * KIB};

/* ---- contents ---- */

static uint64_t traffic_noise(uint32_t ns, uint32_t key, uint64_t i)
{
	uint64_t x = ((uint64_t)ns << 48 | (uint64_t)key << 32 | i) * 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

static uint64_t traffic_word(const struct traffic_work *work, uint64_t i)
{
	uint64_t noise = traffic_noise(work->ns, work->key, i);
	if (work->traffic->encodings[work->ns].encoding == HBM_ENCODING_RAW)
		return noise;

	switch (work->key % 4) {
	case 1:
		return 0;
	case 2:
		return (noise & 0x01ff01ff01ff01ffu) | 0x3e003e003e003e00u;
	case 3:
		return 0x0100010001000100u * (1 + work->key % 250) + 0x0055005500550055u;
	default:
		return noise;
	}
}

/* The client's memory of a work, as the concatenation of its spans: each word is seen and
 * put back. */
static void traffic_each_word(struct traffic_work *work,
			      void (*visit)(uint64_t *at, uint64_t expected))
{
	static uint64_t words[SLOT_BYTES / sizeof(uint64_t)];
	const struct rig *rig = &work->traffic->rig;
	unsigned device = work->device->index;
	uint64_t i = 0;

	for (uint32_t s = 0; s < work->span_count; s++) {
		const struct span *span = &work->spans[s];
		assert_int_equal(rig->call.peek(words, device, span->address, span->bytes), 0);
		for (uint64_t n = 0; n < span->bytes / sizeof(words[0]); n++)
			visit(&words[n], traffic_word(work, i++));
		assert_int_equal(rig->call.poke(device, span->address, words, span->bytes), 0);
	}
}

static void traffic_put_word(uint64_t *at, uint64_t expected)
{
	*at = expected;
}

static void traffic_check_word(uint64_t *at, uint64_t expected)
{
	if (*at != expected)
		assert_int_equal(*at, expected);
}

static void traffic_change_word(uint64_t *at, uint64_t expected)
{
	*at = ~expected;
}

void traffic_corrupt_file(struct traffic *traffic, uint32_t number, uint64_t at)
{
	int fd = open(traffic->rig.file, O_WRONLY | O_CLOEXEC);

	assert_in_range(fd, 0, INT32_MAX);
	uint64_t offset =
		NVME_HEAD + tier_offset(cache_block(traffic->rig.hbmd.cache, number)->unit) + at;
	assert_int_equal(pwrite(fd, "?", 1, (off_t)offset), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

/* ---- transfers ---- */

static struct hbm_wire_key traffic_key(uint32_t key)
{
	struct hbm_wire_key wire = {{1}};

	memcpy(wire.bytes + 4, &key, sizeof(key));
	return wire;
}

uint32_t traffic_find(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	struct hbm_wire_key wire = traffic_key(key);
	return index_find(traffic->rig.hbmd.cache->index, traffic->ns[ns], &wire);
}

/* Pieces of random sizes, last first in memory. */
static void traffic_cut_spans(struct traffic_work *work, struct seed *seed, uint64_t bytes,
			      uint64_t base)
{
	uint64_t slot = base + work->slot * SLOT_BYTES, end = slot + SLOT_BYTES;
	uint32_t count = 0;

	while (bytes > 0) {
		uint64_t piece =
			count + 1 == TRAFFIC_SPANS ? bytes : 8 * (1 + seed_below(seed, bytes / 8));
		end -= piece;
		bytes -= piece;
		work->spans[count++] = (struct span){end, piece};
	}

	work->span_count = count;
}

static struct traffic_work *traffic_work_new(struct traffic *traffic, uint32_t ns, uint32_t key,
					     uint32_t device)
{
	for (uint32_t i = 0; i < TRAFFIC_SLOTS; i++) {
		struct traffic_work *work = &traffic->works[i];
		if (work->busy)
			continue;

		struct device *on = &traffic->rig.hbmd.devices->list[device];
		*work = (struct traffic_work){.traffic = traffic,
					      .slot = i,
					      .ns = ns,
					      .key = key,
					      .busy = true,
					      .device = on};
		traffic_cut_spans(work, &traffic->seed, traffic->block_bytes[ns],
				  traffic->rig.client[device].address);
		traffic->busy++;

		return work;
	}

	fail_msg("%s", "more transfers than the test has memory for");
	return NULL;
}

static void traffic_work_over(struct traffic_work *work)
{
	struct traffic *traffic = work->traffic;
	work->busy = false;
	if (--traffic->busy == traffic->wanted_busy)
		loop_stop(traffic->rig.loop);
}

static void traffic_stored(struct store *store)
{
	const struct transfer *transfer = &store->transfer;
	struct traffic_work *work = container_of(store, struct traffic_work, store);
	struct traffic *traffic = work->traffic;

	if (transfer->status == HBM_DEVICE || transfer->status == HBM_IO)
		assert_true(traffic->faulty);
	else if (transfer->status != HBM_OK)
		assert_int_equal(transfer->status, HBM_NO_SPACE);

	traffic->stores++;
	traffic->failed_stores += transfer->status != HBM_OK;
	traffic_work_over(work);
}

static void traffic_loaded(struct load *load)
{
	const struct transfer *transfer = &load->transfer;
	struct traffic_work *work = container_of(load, struct traffic_work, load);
	struct traffic *traffic = work->traffic;

	traffic->loads++;

	if (transfer->status == HBM_OK) {
		traffic_each_word(work, traffic_check_word);
	} else {
		assert_true(traffic->faulty);
		assert_in_range(transfer->status, HBM_OK + 1,
				HBM_DEVICE + HBM_MISS + HBM_IO + HBM_NO_SPACE);
		traffic->failed_loads++;
	}

	traffic_work_over(work);
}

static void traffic_start_load(struct traffic *traffic, uint32_t number, uint32_t ns, uint32_t key,
			       uint32_t device)
{
	struct traffic_work *work = traffic_work_new(traffic, ns, key, device);

	traffic_each_word(work, traffic_change_word);
	work->load = (struct load){.block = number,
				   .device = work->device,
				   .spans = work->spans,
				   .span_count = work->span_count,
				   .done = traffic_loaded};
	load_begin(traffic->rig.hbmd.mover, &work->load);
	block_unuse(&traffic->rig.hbmd.cache->blocks, number);
}

void traffic_load(struct traffic *traffic, uint32_t key)
{
	uint32_t number = traffic_find(traffic, 0, key);
	assert_int_not_equal(number, 0);
	block_use(&traffic->rig.hbmd.cache->blocks, number);
	traffic_start_load(traffic, number, 0, key, 0);
}

static void traffic_start_store(struct traffic *traffic, uint32_t number, uint32_t ns, uint32_t key,
				uint32_t device)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	if (!block_target(&cache->blocks, number)) {
		cache_abandon_store(cache, number);
		return;
	}

	struct traffic_work *work = traffic_work_new(traffic, ns, key, device);
	traffic_each_word(work, traffic_put_word);
	work->store = (struct store){.block = number,
				     .device = work->device,
				     .spans = work->spans,
				     .span_count = work->span_count,
				     .done = traffic_stored};
	store_begin(traffic->rig.hbmd.mover, &work->store);
}

void traffic_use(struct traffic *traffic, uint32_t ns, uint32_t first, uint32_t count,
		 uint32_t device)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	uint32_t numbers[TRAFFIC_CHAIN] = {0}, present = 0;

	for (; present < count; present++) {
		struct hbm_wire_key key = traffic_key(first + present);
		numbers[present] = cache_find(cache, traffic->ns[ns], &key);
		if (numbers[present] == 0)
			break;
		block_use(&cache->blocks, numbers[present]);
	}

	uint32_t end = present;
	for (; end < count && traffic_find(traffic, ns, first + end) == 0; end++) {
		struct hbm_wire_key key = traffic_key(first + end);
		uint32_t parent = end == 0 ? 0 : numbers[end - 1];
		numbers[end] = cache_insert(cache, traffic->ns[ns], &key, parent);
		assert_int_not_equal(numbers[end], 0);
	}

	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	for (uint32_t i = end; i-- > 0;)
		cache_touch(cache, &touch, numbers[i], device);
	cache_settle(cache);
	cache_touch_end(cache);
	for (uint32_t i = 0; i < present; i++)
		traffic_start_load(traffic, numbers[i], ns, first + i, device);
	for (uint32_t i = present; i < end; i++)
		traffic_start_store(traffic, numbers[i], ns, first + i, device);
	pump_run(traffic->rig.hbmd.mover);
}

static bool traffic_few_are_busy(void *arg)
{
	const struct traffic *traffic = arg;
	return traffic->busy <= traffic->wanted_busy;
}

void traffic_wait(struct traffic *traffic, uint32_t busy)
{
	traffic->wanted_busy = busy;
	rig_run(&traffic->rig, traffic_few_are_busy, traffic);
	traffic->wanted_busy = 0;
}

/* ---- random operations ---- */

static void traffic_drop_one(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	uint32_t number = traffic_find(traffic, ns, key);
	if (number != 0 && !cache_is_pinned(traffic->rig.hbmd.cache, number))
		cache_drop(traffic->rig.hbmd.cache, number);
	pump_run(traffic->rig.hbmd.mover);
}

void traffic_pin(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	struct hbm_wire_key wire = traffic_key(key);
	struct cache *cache = traffic->rig.hbmd.cache;
	uint32_t number = cache_find(cache, traffic->ns[ns], &wire);
	if (number != 0 && traffic->pinned[ns][key] == 0 &&
	    cache_pin(cache, number, &(uint32_t){CACHE_WALK_MAX}) == HBM_OK) {
		traffic->pinned[ns][key] = number;
		ledger_charge_always(&traffic->pins[ns][key], &traffic->rig.ledger.host,
				     LEDGER_PINS, 1);
	}
}

void traffic_unpin(struct traffic *traffic, uint32_t ns, uint32_t key)
{
	if (traffic->pinned[ns][key] != 0)
		cache_unpin(traffic->rig.hbmd.cache, traffic->pinned[ns][key]);
	traffic->pinned[ns][key] = 0;
	ledger_release(&traffic->pins[ns][key]);
	pump_run(traffic->rig.hbmd.mover);
}

static void traffic_unpin_all(struct traffic *traffic)
{
	for (uint32_t ns = 0; ns < traffic->namespaces; ns++)
		for (uint32_t key = 0; key < TRAFFIC_KEYS; key++)
			traffic_unpin(traffic, ns, key);
}

static void traffic_push_out(struct traffic *traffic)
{
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = &cache->tiers[1 + seed_below(&traffic->seed, cache->tier_count)];
	cache_push_out(cache, tier, seed_below(&traffic->seed, MIB), 8);
	pump_run(traffic->rig.hbmd.mover);
}

void traffic_random_operation(struct traffic *traffic)
{
	struct seed *seed = &traffic->seed;
	uint32_t ns = (uint32_t)seed_below(seed, traffic->namespaces);

	/* some keys far more often than others */
	uint32_t key = (uint32_t)seed_below(
		seed, 1 + seed_below(seed, 1 + seed_below(seed, TRAFFIC_KEYS)));
	uint32_t device = (uint32_t)seed_below(seed, traffic->rig.hbmd.devices->count);
	uint64_t dice = seed_below(seed, 100);
	if (dice < 90)
		traffic_use(traffic, ns, key / TRAFFIC_CHAIN * TRAFFIC_CHAIN,
			    1 + key % TRAFFIC_CHAIN, device);
	else if (dice < 93)
		traffic_drop_one(traffic, ns, key);
	else if (dice < 95)
		traffic_pin(traffic, ns, key);
	else if (dice < 98)
		traffic_unpin(traffic, ns, key);
	else
		traffic_push_out(traffic);
}

void traffic_random(struct traffic *traffic, unsigned operations)
{
	for (unsigned i = 0; i < effort_of(operations); i++) {
		traffic_wait(traffic,
			     (uint32_t)seed_below(&traffic->seed, TRAFFIC_SLOTS - TRAFFIC_CHAIN));
		traffic_random_operation(traffic);
		if (i % 64 == 0)
			rig_assert_balanced(&traffic->rig);
	}

	traffic_unpin_all(traffic);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
}

/* ---- setting up ---- */

struct traffic *traffic_new(const char *name)
{
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	assert_non_null(traffic);
	seed_open(&traffic->seed, name);
	rig_init(&traffic->rig);
	traffic->piece = 64 * KIB; /* larger blocks */
	return traffic;
}

void traffic_open(struct traffic *traffic, uint32_t namespaces, const uint64_t *block_bytes)
{
	rig_open(&traffic->rig, CLIENT_BYTES);
	traffic->rig.hbmd.mover->context.piece = traffic->piece;
	traffic->namespaces = namespaces;
	for (uint32_t i = 0; i < namespaces; i++) {
		struct hbm_wire_namespace_spec spec = {.weights = i, .block_bytes = block_bytes[i]};
		traffic->block_bytes[i] = block_bytes[i];
		traffic->ns[i] =
			open_namespace_as(traffic->rig.hbmd.cache->namespaces, &traffic->rig.ledger,
					  &spec, &traffic->encodings[i]);
		assert_int_not_equal(traffic->ns[i], 0);
	}
}

void traffic_close(struct traffic *traffic)
{
	rig_assert_empties(&traffic->rig);
	rig_close(&traffic->rig);
}

void traffic_free(struct traffic *traffic)
{
	rig_clear(&traffic->rig);
	free(traffic);
}

void traffic_end(struct traffic *traffic)
{
	rig_assert_at_rest(&traffic->rig);
	traffic_close(traffic);
	traffic_free(traffic);
}
