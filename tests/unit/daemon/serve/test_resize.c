/* SPDX-License-Identifier: Apache-2.0 */
/* Tiers that become larger and smaller: what each step does, what is refused and undone, and that
 * the books balance meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/move/pump.h"
#include "daemon/region/slab.h"
#include "daemon/serve/resize.h"
#include "daemon/service/memory_setup.h"
#include "daemon/tier/ddr.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/nvme_claim.h"
#include "daemon/tier/tier_resize.h"
#include "tests/support/traffic.h"

#define SIZE (8 * MIB)
#define REGISTRATIONS 4 /* attempts with each chunk */

struct outcome {
	unsigned count;
	int status;
	char why[256];
};

static char refused_why[256];

static void ended(void *arg, int status, const char *why)
{
	struct outcome *outcome = arg;

	outcome->count++;
	outcome->status = status;
	snprintf(outcome->why, sizeof(outcome->why), "%s", why);
}

static bool has_ended(void *arg)
{
	return ((struct outcome *)arg)->count > 0;
}

static int begin(struct traffic *traffic, struct tier *tier, uint64_t bytes,
		 struct outcome *outcome)
{
	struct reason why = {refused_why, sizeof(refused_why)};

	*outcome = (struct outcome){0};
	refused_why[0] = '\0';

	return resize_begin(&traffic->rig.hbmd, tier, bytes, ended, outcome, &why);
}

static void assert_size(const struct traffic *traffic, const struct tier *tier, uint64_t bytes)
{
	assert_int_equal(tier->capacity, bytes);
	assert_int_equal(tier->usable, bytes);
	assert_int_equal(extent_capacity(tier->extents), bytes + tier->headroom + tier->copies_max);
	assert_int_equal(extent_retiring(tier->extents), 0);
	assert_false(resize_is_on(&traffic->rig.hbmd, tier));
	assert_int_equal(traffic->rig.hbmd.cache->touching, 0);
}

static void resize(struct traffic *traffic, struct tier *tier, uint64_t bytes)
{
	struct outcome outcome;

	assert_int_equal(begin(traffic, tier, bytes, &outcome), HBM_OK);
	assert_true(outcome.count > 0 || resize_is_on(&traffic->rig.hbmd, tier));
	rig_run(&traffic->rig, has_ended, &outcome);
	assert_int_equal(outcome.count, 1);
	assert_string_equal(outcome.why, "");
	assert_int_equal(outcome.status, HBM_OK);
	assert_size(traffic, tier, bytes);
	rig_assert_balanced(&traffic->rig);
}

static struct traffic *open_traffic(const char *name)
{
	struct traffic *traffic = traffic_new(name);

	traffic->rig.config.ddr_size.bytes = SIZE;
	traffic->rig.config.ddr_chunk = GRANULE;
	traffic->rig.config.device_memory.bytes = 12 * MIB;
	traffic->rig.config.nvme_size = 16 * MIB;
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);

	return traffic;
}

static unsigned registrations(struct traffic *traffic)
{
	return (unsigned)traffic->rig.call.live("registrations");
}

/* Staging is 512 KiB, headroom 256 KiB: the tier ends 768 KiB behind a multiple of chunks. */
static void test_ddr_memory_comes_and_goes(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct cache *cache = traffic->rig.hbmd.cache;
	const struct ddr *ddr = traffic->rig.hbmd.ddr;
	uint64_t beside = 768 * KIB;

	assert_int_equal(ddr_bytes(ddr), SIZE + beside);
	assert_int_equal(registrations(traffic), 5);
	resize(traffic, cache->ddr, SIZE - beside);
	assert_int_equal(ddr_bytes(ddr), SIZE);
	assert_int_equal(registrations(traffic), 4);
	resize(traffic, cache->ddr, 2 * MIB); /* of the second chunk some is in no use */
	assert_int_equal(ddr_bytes(ddr), 4 * MIB);
	assert_int_equal(registrations(traffic), 2);
	resize(traffic, cache->ddr, 3 * MIB);
	assert_int_equal(ddr_bytes(ddr), 4 * MIB);
	resize(traffic, cache->ddr, EXTENT_UNIT);
	assert_int_equal(ddr_bytes(ddr), 2 * MIB); /* what is beside the staging buffer */
	resize(traffic, cache->ddr, 3 * SIZE);
	assert_int_equal(ddr_bytes(ddr), 3 * SIZE + beside);
	assert_int_equal(registrations(traffic), 13);
	memset(cache->ddr->host, 1, 3 * SIZE + 256 * KIB);

	/* the last chunk is not whole: what comes next begins behind it */
	resize(traffic, cache->ddr, 3 * SIZE + MIB);
	assert_int_equal(ddr_bytes(ddr), 3 * SIZE + MIB + beside);
	assert_int_equal(registrations(traffic), 14);
	resize(traffic, cache->ddr, SIZE);
	traffic_random(traffic, 300);
	rig_assert_at_rest(&traffic->rig);
	traffic_end(traffic);
}

/* A size that is no multiple of a unit is cut. */
static void test_units(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	struct outcome outcome;

	assert_int_equal(begin(traffic, tier, 5 * MIB + 1, &outcome), HBM_OK);
	rig_run(&traffic->rig, has_ended, &outcome);
	assert_size(traffic, tier, 5 * MIB);
	traffic_end(traffic);
}

static void assert_refused(struct traffic *traffic, struct tier *tier, uint64_t bytes, int status,
			   const char *text)
{
	uint64_t capacity = tier->capacity;
	struct outcome outcome;

	assert_int_equal(begin(traffic, tier, bytes, &outcome), status);
	if (!strstr(refused_why, text))
		fail_msg("\"%s\" has no \"%s\"", refused_why, text);
	assert_int_equal(outcome.count, 0);
	assert_int_equal(tier->capacity, capacity);
	rig_settle(&traffic->rig);
	assert_int_equal(tier->usable, capacity);
}

static void test_refusals(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = cache->ddr;

	assert_refused(traffic, tier, 0, HBM_INVALID, "0 bytes: expected 4096 to");
	assert_refused(traffic, tier, EXTENT_END, HBM_INVALID, "bytes: expected 4096 to");
	assert_refused(traffic, tier, 7ull << 40, HBM_NO_SPACE, "this host has");

	traffic_use(traffic, 3, 0, 4, 0); /* of 512 KiB */
	traffic_wait(traffic, 0);
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 16);
	rig_settle(&traffic->rig);
	traffic_pin(traffic, 3, 3);
	assert_int_equal(cache_pinned(cache, tier), 2 * MIB);
	assert_refused(traffic, tier, 2 * MIB - EXTENT_UNIT, HBM_NO_SPACE,
		       "2097152 bytes in it are pinned");
	resize(traffic, tier, 2 * MIB);
	assert_int_equal(cache_pinned(cache, tier), 2 * MIB);
	traffic_unpin(traffic, 3, 3);

	tier->silent = true;
	assert_refused(traffic, tier, MIB, HBM_IO, "does not answer");
	tier->silent = false;
	traffic->rig.hbmd.state = HBMD_STOPPING;
	assert_refused(traffic, tier, MIB, HBM_SHUTDOWN, "stopping");
	traffic->rig.hbmd.state = HBMD_RUNNING;
	resize(traffic, tier, SIZE);
	traffic_end(traffic);
}

/* The n-th registration is refused, as often as it is tried: the tier has its old size, and what
 * had come is given back. */
static void test_growth_that_fails_is_undone(void **state)
{
	(void)state;
	for (unsigned nth = 1; nth <= 4; nth++) {
		struct traffic *traffic = open_traffic(__func__);
		struct tier *tier = traffic->rig.hbmd.cache->ddr;
		uint64_t bytes = ddr_bytes(traffic->rig.hbmd.ddr);
		unsigned before = registrations(traffic);
		struct outcome outcome;

		traffic_random(traffic, 60);
		for (unsigned i = 0; i < 8 * REGISTRATIONS; i++)
			assert_int_equal(traffic->rig.call.fail_nth("cuMemHostRegister", nth + i,
								    CUDA_ERROR_OUT_OF_MEMORY),
					 0);
		assert_int_equal(begin(traffic, tier, 2 * SIZE, &outcome), HBM_OK);
		rig_run(&traffic->rig, has_ended, &outcome);
		assert_int_equal(outcome.status, HBM_NO_SPACE);
		assert_non_null(strstr(outcome.why, "bytes more; see the log"));
		assert_size(traffic, tier, SIZE);
		assert_int_equal(ddr_bytes(traffic->rig.hbmd.ddr), bytes);
		assert_int_equal(registrations(traffic), before);
		rig_assert_balanced(&traffic->rig);
		assert_int_equal(traffic->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
		resize(traffic, tier, 2 * SIZE);
		traffic_random(traffic, 60);
		traffic_end(traffic);
	}
}

/* What the device does not forget stays allocated; the tier is as large as it should be, and grows
 * beside it. */
static void test_a_registration_that_stays(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	uint64_t bytes = ddr_bytes(traffic->rig.hbmd.ddr);

	assert_int_equal(
		traffic->rig.call.fail_nth("cuMemHostUnregister", 2, CUDA_ERROR_INVALID_VALUE), 0);
	resize(traffic, tier, SIZE / 4);
	assert_int_equal(ddr_bytes(traffic->rig.hbmd.ddr), 6 * MIB);
	assert_int_equal(registrations(traffic), 3);
	resize(traffic, tier, SIZE);
	assert_true(ddr_bytes(traffic->rig.hbmd.ddr) > bytes);
	traffic_random(traffic, 60);
	traffic_end(traffic);
}

/* ---- HBM: what it gets, the memory for regions loses ---- */

static struct traffic *open_hbm(const char *name)
{
	struct traffic *traffic = traffic_new(name);
	struct config *config = &traffic->rig.config;

	config->device_memory.bytes = 12 * MIB;
	config->device_cache.bytes = 3 * MIB;
	config->device_headroom.bytes = MIB;
	config->device_slab = GRANULE;
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);

	return traffic;
}

static struct slabs_books books_of(const struct traffic *traffic)
{
	return slabs_books(traffic->rig.hbmd.devices->list[0].slabs);
}

static void test_hbm_memory_comes_and_goes(void **state)
{
	(void)state;
	struct traffic *traffic = open_hbm(__func__);
	struct tier *tier = cache_hbm(traffic->rig.hbmd.cache, 0);

	assert_int_equal(books_of(traffic).budget, 8 * MIB);
	traffic_random(traffic, 100);
	resize(traffic, tier, 7 * MIB);
	assert_int_equal(books_of(traffic).budget, 4 * MIB);
	assert_int_equal(hbm_memory_bytes(tier->memory), 8 * MIB);
	traffic_random(traffic, 200);
	resize(traffic, tier, 2 * MIB); /* half of the second slab is in no use */
	assert_int_equal(hbm_memory_bytes(tier->memory), 4 * MIB);
	assert_int_equal(books_of(traffic).budget, 8 * MIB);
	resize(traffic, tier, EXTENT_UNIT);
	assert_int_equal(hbm_memory_bytes(tier->memory), 2 * MIB);
	assert_int_equal(books_of(traffic).budget, 10 * MIB);
	resize(traffic, tier, 11 * MIB);
	assert_int_equal(books_of(traffic).budget, 0);
	traffic_random(traffic, 200);
	resize(traffic, tier, 3 * MIB);
	assert_int_equal(books_of(traffic).budget, 8 * MIB);
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	traffic_end(traffic);
}

static void slabs_are_there(struct slab_request *request)
{
	assert_int_equal(request->status, HBM_OK);
	request->status = HBM_SHUTDOWN; /* seen */
}

static bool are_there(void *arg)
{
	return ((struct slab_request *)arg)->status == HBM_SHUTDOWN;
}

/* What regions have, and what is promised to sessions, is not the tier's to take. */
static void test_hbm_takes_what_is_free(void **state)
{
	(void)state;
	struct traffic *traffic = open_hbm(__func__);
	struct tier *tier = cache_hbm(traffic->rig.hbmd.cache, 0);
	struct slabs *slabs = traffic->rig.hbmd.devices->list[0].slabs;
	struct slab_request request = {.bytes = GRANULE, .count = 2, .done = slabs_are_there};

	assert_int_equal(slabs_request(slabs, &request), HBM_OK);
	rig_run(&traffic->rig, are_there, &request);
	assert_refused(traffic, tier, 7 * MIB + EXTENT_UNIT, HBM_NO_SPACE,
		       "6291456 more bytes are needed of the memory for regions: of 8388608, "
		       "4194304 are free");
	resize(traffic, tier, 7 * MIB);
	assert_int_equal(books_of(traffic).budget, 4 * MIB);
	assert_int_equal(books_of(traffic).free, 0);
	for (struct list *node; (node = list_pop_front(&request.taken));) {
		struct slab *slab = container_of(node, struct slab, link);
		slab_place(slab);
		slab_unref(slab, false);
	}
	resize(traffic, tier, 11 * MIB);
	traffic_end(traffic);
}

/* Each call of the driver that growth makes fails in turn. */
static void test_hbm_growth_that_fails_is_undone(void **state)
{
	(void)state;
	static const char *const calls[] = {"cuMemCreate", "cuMemMap", "cuMemSetAccess"};

	for (unsigned i = 0; i < 6; i++) {
		struct traffic *traffic = open_hbm(__func__);
		struct tier *tier = cache_hbm(traffic->rig.hbmd.cache, 0);
		struct outcome outcome;

		traffic_random(traffic, 60);
		assert_int_equal(traffic->rig.call.fail_nth(calls[i / 2], 1 + i % 2,
							    CUDA_ERROR_OUT_OF_MEMORY),
				 0);
		assert_int_equal(begin(traffic, tier, 9 * MIB, &outcome), HBM_OK);
		rig_run(&traffic->rig, has_ended, &outcome);
		assert_int_equal(outcome.status, HBM_NO_SPACE);
		assert_size(traffic, tier, 3 * MIB);
		assert_int_equal(hbm_memory_bytes(tier->memory), 4 * MIB);
		assert_int_equal(books_of(traffic).budget, 8 * MIB);
		rig_assert_balanced(&traffic->rig);
		traffic->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		resize(traffic, tier, 9 * MIB);
		traffic_random(traffic, 60);
		traffic_end(traffic);
	}
}

/* What cannot be unmapped stays where it is: the tier has its new size, and grows no more. */
static void test_hbm_that_stays_mapped(void **state)
{
	(void)state;
	struct traffic *traffic = open_hbm(__func__);
	struct tier *tier = cache_hbm(traffic->rig.hbmd.cache, 0);

	resize(traffic, tier, 7 * MIB);
	assert_int_equal(traffic->rig.call.faults("cuMemUnmap:2+:CUDA_ERROR_INVALID_VALUE"), 0);
	resize(traffic, tier, MIB);
	traffic->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(hbm_memory_bytes(tier->memory), 6 * MIB);
	assert_int_equal(books_of(traffic).budget, 6 * MIB);
	assert_refused(traffic, tier, 7 * MIB, HBM_NO_SPACE, "restart hbmd");
	traffic_random(traffic, 60);
	traffic_end(traffic);
}

/* ---- NVMe ---- */

static uint64_t file_bytes(const struct traffic *traffic)
{
	struct stat st;

	assert_int_equal(stat(traffic->rig.file, &st), 0);

	return (uint64_t)st.st_size - NVME_HEAD;
}

static void test_nvme_file_becomes_longer_and_shorter(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
	struct tier *tier = traffic->rig.hbmd.cache->nvme;
	static const uint64_t sizes[] = {9 * MIB, 3 * MIB, MIB, MIB + 12288, 6 * MIB, 2 * MIB};

	uint64_t copies = tier->copies_max;

	assert_true(copies > 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct outcome outcome;

		traffic_random(traffic, 150);
		assert_int_equal(begin(traffic, tier, sizes[i], &outcome), HBM_OK);
		rig_run(&traffic->rig, has_ended, &outcome);
		assert_int_equal(outcome.status, HBM_OK);
		assert_int_equal(file_bytes(traffic), sizes[i] + copies);
		assert_int_equal(extent_capacity(tier->extents), sizes[i] + copies);
		assert_int_equal(tier->usable, sizes[i]);
		rig_assert_balanced(&traffic->rig);
	}

	traffic_random(traffic, 150);
	rig_assert_at_rest(&traffic->rig);
	tier->failed += EXTENT_UNIT;
	assert_refused(traffic, tier, MIB, HBM_IO, "4096 bytes of the disk have failed");
	tier->failed -= EXTENT_UNIT;
	assert_refused(traffic, tier, EXTENT_END / 2, HBM_NO_SPACE, "bytes are needed for");
	traffic_end(traffic);
}

/* Pinned blocks that no free extent is large enough for: the tier has its old size. */
static void test_pinned_blocks_in_the_way(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *tier = cache->ddr;
	struct outcome outcome;

	/* one small block at the front, which goes; then four large ones, across the bound */
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_use(traffic, 3, 0, 4, 0);
	traffic_wait(traffic, 0);
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 16);
	rig_settle(&traffic->rig);
	traffic_pin(traffic, 3, 3);
	uint64_t headroom = tier->headroom;
	tier->headroom = 0;
	assert_int_equal(begin(traffic, tier, 2 * MIB, &outcome), HBM_OK);
	rig_run(&traffic->rig, has_ended, &outcome);
	assert_int_equal(outcome.status, HBM_NO_SPACE);
	assert_non_null(
		strstr(outcome.why, "4096 bytes in the part that is to go are of pinned blocks"));
	assert_int_equal(tier->capacity, SIZE);
	rig_assert_balanced(&traffic->rig);
	tier->headroom = headroom;
	traffic_unpin(traffic, 3, 3);
	resize(traffic, tier, MIB);
	resize(traffic, tier, SIZE);
	traffic_end(traffic);
}

/* An extent of those at the top, in use. */
static uint32_t take_the_top(struct tier *tier)
{
	uint32_t units[64], count = 0;

	while ((units[count] = tier_alloc(tier, extent_largest(tier->extents) < MIB
							? extent_largest(tier->extents)
							: MIB)) != UINT32_MAX)
		assert_true(++count < 64);
	for (uint32_t i = 0; i + 1 < count; i++)
		tier_free(tier, units[i], MIB);
	assert_true(count > 0 && tier_is_retired(tier, 0, 1) == false);

	return units[count - 1];
}

/* What has failed stays where it is, so the tier does. What lies below it may go. */
static void test_what_has_failed_is_in_the_way(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	struct outcome outcome;

	assert_int_equal((SIZE + tier->headroom) % (256 * KIB), 0);
	uint64_t bytes = (SIZE + tier->headroom) % MIB;
	uint32_t unit = take_the_top(tier);

	tier_fail(tier, unit, bytes > 0 ? bytes : MIB);
	traffic_random(traffic, 100);
	assert_int_equal(begin(traffic, tier, 2 * MIB, &outcome), HBM_OK);
	rig_run(&traffic->rig, has_ended, &outcome);
	assert_int_equal(outcome.status, HBM_IO);
	assert_non_null(strstr(outcome.why, "bytes in the part that is to go have failed"));
	assert_int_equal(tier->capacity, SIZE);
	assert_true(resize_was_undone(&traffic->rig.hbmd, tier));
	rig_assert_balanced(&traffic->rig);
	traffic_random(traffic, 100);
	traffic_end(traffic);
}

static void test_a_tier_that_is_lost_meanwhile(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct outcome outcome;

	uint64_t top = extent_capacity(cache->nvme->extents) % MIB;
	uint32_t unit = take_the_top(cache->nvme); /* so that it goes on */
	assert_int_equal(begin(traffic, cache->nvme, 2 * MIB, &outcome), HBM_OK);
	for (unsigned i = 0; i < 8; i++)
		loop_flush(traffic->rig.loop);
	assert_int_equal(outcome.count, 0);
	cache_lose_tier(cache, cache->nvme);
	rig_run(&traffic->rig, has_ended, &outcome);
	assert_int_equal(outcome.status, HBM_IO);
	assert_non_null(strstr(outcome.why, "it does not answer"));
	tier_free(cache->nvme, unit, top > 0 ? top : MIB);
	traffic_end(traffic);
}

/* What a smaller size had taken out of service is in service again before the memory has come that a
 * larger one lacks. */
static void test_what_is_recalled_does_not_wait(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	uint64_t all = extent_capacity(tier->extents);
	uint32_t unit = take_the_top(tier); /* so that it goes on */
	struct outcome first, second;

	assert_int_equal(begin(traffic, tier, 2 * MIB, &first), HBM_OK);
	while (extent_capacity(tier->extents) > 4 * MIB)
		loop_flush(traffic->rig.loop);
	assert_int_equal(begin(traffic, tier, 64 * MIB, &second), HBM_OK);
	assert_int_equal(first.status, HBM_CANCELLED);
	assert_int_equal(second.count, 0);
	assert_true(extent_capacity(tier->extents) >= all);
	rig_run(&traffic->rig, has_ended, &second);
	assert_int_equal(second.status, HBM_OK);
	tier_free(tier, unit, all % MIB > 0 ? all % MIB : MIB);
	traffic_random(traffic, 50);
	traffic_end(traffic);
}

/* The one that goes on is answered at once; the size is the last one's. */
static void test_another_takes_its_place(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	struct outcome outcomes[4];

	traffic_random(traffic, 100);
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 4; i++) {
			uint64_t units = 1 + seed_below(&traffic->seed, 2 * SIZE / EXTENT_UNIT);

			traffic_random_operation(traffic);
			if (begin(traffic, tier, i < 3 ? units * EXTENT_UNIT : SIZE,
				  &outcomes[i]) != HBM_OK)
				outcomes[i].status = HBM_CANCELLED; /* pins */
			if (i > 0)
				assert_int_equal(outcomes[i - 1].status == HBM_OK ||
							 outcomes[i - 1].status == HBM_CANCELLED,
						 true);
			for (uint64_t turns = seed_below(&traffic->seed, 8); turns > 0; turns--)
				loop_flush(traffic->rig.loop);
		}

		rig_run(&traffic->rig, has_ended, &outcomes[3]);
		assert_int_equal(outcomes[3].status, HBM_OK);
		assert_size(traffic, tier, SIZE);
		traffic_wait(traffic, TRAFFIC_SLOTS / 2);
		rig_assert_balanced(&traffic->rig);
	}

	traffic_random(traffic, 100);
	traffic_end(traffic);
}

/* Sizes of all tiers go up and down while clients go on. */
static void test_under_load(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;

	for (unsigned round = 0; round < 60; round++) {
		uint64_t bytes =
			(1 + seed_below(&traffic->seed, 2 * SIZE / EXTENT_UNIT)) * EXTENT_UNIT;
		struct outcome outcome;

		if (begin(traffic, tier, bytes, &outcome) != HBM_OK)
			continue;
		for (unsigned i = 0; i < 30; i++) {
			traffic_random_operation(traffic);
			traffic_wait(traffic, TRAFFIC_SLOTS - TRAFFIC_CHAIN);
			if (i % 10 == 0)
				rig_assert_balanced(&traffic->rig);
		}
		rig_run(&traffic->rig, has_ended, &outcome);
		if (outcome.status == HBM_OK)
			assert_size(traffic, tier, bytes);
		else
			assert_non_null(strstr(outcome.why, "pinned blocks"));
		rig_assert_balanced(&traffic->rig);
	}

	traffic_random(traffic, 100);
	assert_int_equal(traffic->failed_loads, 0);
	traffic_end(traffic);
}

/* In any state: it ends, and the client that waits is told. */
static void test_stopped(void **state)
{
	(void)state;
	for (unsigned turns = 0; turns < 12; turns++) {
		struct traffic *traffic = open_traffic(__func__);
		struct tier *tier = traffic->rig.hbmd.cache->ddr;
		struct outcome outcome;

		traffic_random(traffic, 40);
		assert_int_equal(begin(traffic, tier, turns % 2 ? 2 * SIZE : SIZE / 4, &outcome),
				 HBM_OK);
		for (unsigned i = 0; i < turns; i++)
			loop_flush(traffic->rig.loop);
		bool on = outcome.count == 0;
		resizes_stop(&traffic->rig.hbmd);
		assert_int_equal(outcome.count, 1);
		assert_int_equal(outcome.status, on ? HBM_SHUTDOWN : HBM_OK);
		assert_false(resize_is_on(&traffic->rig.hbmd, tier));
		rig_run(&traffic->rig, rig_is_idle, &traffic->rig);
		rig_close(&traffic->rig);
		rig_clear(&traffic->rig);
		free(traffic);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ddr_memory_comes_and_goes),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_growth_that_fails_is_undone),
		cmocka_unit_test(test_a_registration_that_stays),
		cmocka_unit_test(test_hbm_memory_comes_and_goes),
		cmocka_unit_test(test_hbm_takes_what_is_free),
		cmocka_unit_test(test_hbm_growth_that_fails_is_undone),
		cmocka_unit_test(test_hbm_that_stays_mapped),
		cmocka_unit_test(test_nvme_file_becomes_longer_and_shorter),
		cmocka_unit_test(test_pinned_blocks_in_the_way),
		cmocka_unit_test(test_what_has_failed_is_in_the_way),
		cmocka_unit_test(test_a_tier_that_is_lost_meanwhile),
		cmocka_unit_test(test_what_is_recalled_does_not_wait),
		cmocka_unit_test(test_another_takes_its_place),
		cmocka_unit_test(test_under_load),
		cmocka_unit_test(test_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
