/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/host_stage.h"

#include <stdlib.h>
#include <unistd.h>

const char *const host_stage_sets[] = {"ddr.regions=32MiB", "device.slab=2MiB", NULL};
struct hbm *host_hbm;

static unsigned fds;

int host_stage_setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, host_stage_sets, NULL);
	fds = spawn_fds(&daemon_);
	host_hbm = spawn_connect(&daemon_);

	return 0;
}

int host_stage_teardown(void **state)
{
	host_hbm = hbm_close(host_hbm);
	if (daemon_.pid > 0)
		stage_finish(fds);

	return stage_teardown(state);
}

/* ---- Regions ---- */

struct hbm_region *host_create(struct hbm *hbm, uint64_t bytes)
{
	const struct hbm_region_options options = {
		.device = HBM_DEVICE_HOST, .address_space = bytes, .slab = HOST_SLAB};
	struct hbm_region *region = NULL;

	if (hbm_region_create(hbm, &options, &region) != 0)
		fail_msg("%s", hbm_error(hbm));

	return region;
}

struct hbm_region *host_make(struct hbm *hbm, uint64_t bytes)
{
	struct hbm_region *region = host_create(hbm, bytes);

	if (host_commit(hbm, region, 0, bytes) != 0)
		fail_msg("%s", hbm_error(hbm));

	return region;
}

int host_commit(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	return hbm_commit(hbm, &(struct hbm_range){region, offset, bytes}, 1);
}

int host_decommit(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	return hbm_decommit(hbm, &(struct hbm_range){region, offset, bytes}, 1);
}

char *host_at(const struct hbm_region *region, uint64_t offset)
{
	return (char *)hbm_region_host(region) + offset;
}

/* ---- The pool ---- */

static int host_see(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_device *device = record;

	(void)bytes;
	if (device->index != HBM_WIRE_DEVICE_HOST)
		return 0;
	*(struct hbm_wire_device *)arg = *device;

	return 1;
}

struct hbm_wire_device host_pool(struct hbm *hbm)
{
	struct hbm_wire_device pool;

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, host_see, &pool), 1);
	assert_int_equal(pool.regions, HOST_POOL);
	assert_int_equal(pool.leased + pool.quarantined + pool.retiring + pool.ready +
				 pool.uncreated + pool.held,
			 HOST_POOL);

	return pool;
}

void host_await(struct hbm *hbm, uint64_t leased)
{
	struct hbm_wire_device pool = host_pool(hbm);

	for (unsigned i = 0; i < 20000; i++) {
		if (pool.leased == leased && pool.quarantined + pool.retiring + pool.held == 0)
			return;
		usleep(1000);
		pool = host_pool(hbm);
	}

	fail_msg("%llu leased, %llu quarantined, %llu retiring, %llu held",
		 (unsigned long long)pool.leased, (unsigned long long)pool.quarantined,
		 (unsigned long long)pool.retiring, (unsigned long long)pool.held);
}

/* ---- Blocks ---- */

uint32_t host_namespace(struct hbm *hbm)
{
	const struct hbm_namespace_options options = {.model = "host", .block_bytes = HOST_BLOCK};
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);

	return ns;
}

void host_fill(const struct hbm_region *region)
{
	for (uint64_t i = 0; i < HOST_BLOCKS; i++)
		kv_fill(i + 1, host_at(region, i * HOST_BLOCK), HOST_BLOCK);
}

void host_check(const struct hbm_region *region)
{
	char *bytes = malloc(HOST_BLOCK);

	assert_non_null(bytes);
	for (uint64_t i = 0; i < HOST_BLOCKS; i++) {
		kv_fill(i + 1, bytes, HOST_BLOCK);
		assert_memory_equal(host_at(region, i * HOST_BLOCK), bytes, HOST_BLOCK);
	}
	free(bytes);
}

static void host_move(struct hbm *hbm, uint32_t ns, struct hbm_region *region,
		      int (*move)(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
				  size_t count, hbm_result *results))
{
	struct hbm_block blocks[HOST_BLOCKS];
	struct hbm_segment segments[HOST_BLOCKS];
	hbm_result results[HOST_BLOCKS];

	for (uint64_t i = 0; i < HOST_BLOCKS; i++) {
		segments[i] = (struct hbm_segment){region, i * HOST_BLOCK, HOST_BLOCK};
		blocks[i] = (struct hbm_block){
			.key = kv_key(i + 1), .segments = &segments[i], .segment_count = 1};
	}

	if (move(hbm, ns, blocks, HOST_BLOCKS, results) != 0)
		fail_msg("%s", hbm_error(hbm));
	for (unsigned i = 0; i < HOST_BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

void host_store(struct hbm *hbm, uint32_t ns, struct hbm_region *region)
{
	host_move(hbm, ns, region, hbm_store);
}

void host_load(struct hbm *hbm, uint32_t ns, struct hbm_region *region)
{
	host_move(hbm, ns, region, hbm_load);
}
