/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX 1024
#define MIXER 0x9e3779b97f4a7c15ull

static void accept_status(struct kv *kv, const char *what, int status)
{
	if (status != 0)
		fail_msg("%s: %s: %s", what, hbm_strerror(status), hbm_error(kv->hbm));
}

static void accept_result(struct kv *kv, const char *what, CUresult result)
{
	if (result != CUDA_SUCCESS)
		fail_msg("%s: %s", what, driver_error_name(kv->driver, result));
}

void kv_enter(struct kv *kv, struct hbm *hbm, uint32_t device)
{
	char error[256];
	enum driver_choice choice =
		hbm_info(hbm)->driver == HBM_DRIVER_CUDA ? DRIVER_CUDA : DRIVER_SOFT;
	int ordinal = 0;

	kv->hbm = hbm;
	accept_status(kv, "device", hbm_device_ordinal(hbm, device, &ordinal));
	if (driver_open(&kv->driver, choice, NULL, error, sizeof(error)) < 0)
		fail_msg("%s", error);

	accept_result(kv, "cuDeviceGet", kv->driver->cuDeviceGet(&kv->handle, ordinal));
	accept_result(kv, "retain", kv->driver->cuDevicePrimaryCtxRetain(&kv->context, kv->handle));
}

struct hbm_region *kv_region(struct kv *kv, uint64_t bytes)
{
	const struct hbm_region_options options = {
		.device = kv->device, .address_space = bytes, .slab = 2 << 20};
	struct hbm_region *region;

	accept_status(kv, "region", hbm_region_create(kv->hbm, &options, &region));
	const struct hbm_range all = {region, 0, hbm_region_bytes(region)};
	accept_status(kv, "commit", hbm_commit(kv->hbm, &all, 1));

	return region;
}

void kv_open(struct kv *kv, const struct spawn *spawn, uint32_t device, uint64_t block_bytes,
	     uint64_t slots)
{
	*kv = (struct kv){
		.hbm = spawn_connect(spawn), .device = device, .block_bytes = block_bytes};
	kv->region = kv_region(kv, block_bytes * slots);
	kv_enter(kv, kv->hbm, device);
	kv->buffer = malloc(block_bytes);
	assert_non_null(kv->buffer);
	const struct hbm_namespace_options ns = {.model = "kv", .block_bytes = block_bytes};
	accept_status(kv, "namespace", hbm_namespace_open(kv->hbm, &ns, &kv->ns));
}

void kv_leave(struct kv *kv)
{
	if (kv->driver) {
		kv->driver->cuCtxSetCurrent(NULL);
		kv->driver->cuDevicePrimaryCtxRelease(kv->handle);
	}
	kv->driver = driver_close(kv->driver);
}

void kv_close(struct kv *kv)
{
	kv_leave(kv);
	kv->hbm = hbm_close(kv->hbm);
	free(kv->buffer);
	kv->buffer = NULL;
}

/* ---- Contents ---- */

hbm_key kv_key(uint64_t block)
{
	hbm_key key = {{0}};
	const uint64_t half[2] = {block, block * MIXER};
	memcpy(key.bytes, half, sizeof(half));
	return key;
}

void kv_fill(uint64_t block, void *bytes, uint64_t size)
{
	uint64_t *words = bytes;
	for (uint64_t i = 0; i < size / sizeof(*words); i++)
		words[i] = (block * MIXER + size) * MIXER + i;
}

void kv_write(struct kv *kv, uint64_t address, const void *bytes, uint64_t size)
{
	kv->driver->cuCtxSetCurrent(kv->context);
	accept_result(kv, "cuMemcpyHtoD", kv->driver->cuMemcpyHtoD(address, bytes, size));
	/* Of memory that is not registered it may only be under way; other processes are
	 * told of it next. */
	accept_result(kv, "cuCtxSynchronize", kv->driver->cuCtxSynchronize());
}

void kv_read(struct kv *kv, void *bytes, uint64_t address, uint64_t size)
{
	kv->driver->cuCtxSetCurrent(kv->context);
	accept_result(kv, "cuMemcpyDtoH", kv->driver->cuMemcpyDtoH(bytes, address, size));
}

static uint64_t slot_address(const struct kv *kv, uint64_t slot)
{
	return hbm_region_address(kv->region) + slot * kv->block_bytes;
}

void kv_put(struct kv *kv, uint64_t slot, uint64_t block)
{
	kv_fill(block, kv->buffer, kv->block_bytes);
	kv_write(kv, slot_address(kv, slot), kv->buffer, kv->block_bytes);
}

void kv_wipe(struct kv *kv, uint64_t slot)
{
	memset(kv->buffer, 0xa5, kv->block_bytes);
	kv_write(kv, slot_address(kv, slot), kv->buffer, kv->block_bytes);
}

uint64_t kv_holds(struct kv *kv, uint64_t slot, uint64_t block)
{
	const uint64_t *words = kv->buffer;
	kv_read(kv, kv->buffer, slot_address(kv, slot), kv->block_bytes);

	for (uint64_t i = 0; i < kv->block_bytes / sizeof(*words); i++)
		if (words[i] != (block * MIXER + kv->block_bytes) * MIXER + i)
			return 0;

	return 1;
}

/* ---- Calls ---- */

void kv_blocks(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count, uint64_t parent,
	       struct hbm_block *blocks, struct hbm_segment *segments)
{
	for (uint64_t i = 0; i < count; i++) {
		segments[i] = (struct hbm_segment){kv->region, (first_slot + i) * kv->block_bytes,
						   kv->block_bytes};
		blocks[i] = (struct hbm_block){
			.key = kv_key(first + i), .segments = &segments[i], .segment_count = 1};
		blocks[i].parent = kv_key(i > 0 ? first + i - 1 : parent);
	}
}

int kv_store(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count, uint64_t parent,
	     hbm_result *results)
{
	static struct hbm_block blocks[BLOCKS_MAX];
	static struct hbm_segment segments[BLOCKS_MAX];

	assert_in_range(count, 1, BLOCKS_MAX);
	for (uint64_t i = 0; i < count; i++)
		kv_put(kv, first_slot + i, first + i);
	kv_blocks(kv, first_slot, first, count, parent, blocks, segments);

	return hbm_store(kv->hbm, kv->ns, blocks, count, results);
}

int kv_store_roots(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count,
		   const struct hbm_block *as, hbm_result *results)
{
	static struct hbm_block blocks[BLOCKS_MAX];
	static struct hbm_segment segments[BLOCKS_MAX];

	assert_in_range(count, 1, BLOCKS_MAX);
	kv_blocks(kv, first_slot, first, count, 0, blocks, segments);
	for (uint64_t i = 0; i < count; i++) {
		kv_put(kv, first_slot + i, first + i);
		blocks[i].parent = (hbm_key){{0}};
		blocks[i].tier = as->tier;
		blocks[i].pin = as->pin;
		blocks[i].lend = as->lend;
		blocks[i].durable = as->durable;
	}

	return hbm_store(kv->hbm, kv->ns, blocks, count, results);
}

int kv_load(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count, hbm_result *results)
{
	static struct hbm_block blocks[BLOCKS_MAX];
	static struct hbm_segment segments[BLOCKS_MAX];
	hbm_result own[BLOCKS_MAX];

	assert_in_range(count, 1, BLOCKS_MAX);
	results = results ? results : own;
	for (uint64_t i = 0; i < count; i++)
		kv_wipe(kv, first_slot + i);
	kv_blocks(kv, first_slot, first, count, 0, blocks, segments);
	int status = hbm_load(kv->hbm, kv->ns, blocks, count, results);
	for (uint64_t i = 0; status == 0 && i < count; i++)
		if (results[i].status == HBM_OK && !kv_holds(kv, first_slot + i, first + i))
			fail_msg("block %llu came back wrong", (unsigned long long)(first + i));

	return status;
}

static void fill_keys(hbm_key *keys, uint64_t first, uint64_t count)
{
	assert_in_range(count, 1, BLOCKS_MAX);
	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(first + i);
}

int kv_keys(struct kv *kv, enum hbm_wire_opcode op, uint64_t first, uint64_t count, uint32_t flags,
	    hbm_result *results)
{
	hbm_key keys[BLOCKS_MAX];
	fill_keys(keys, first, count);
	if (op == HBM_WIRE_PREFETCH)
		return hbm_prefetch(kv->hbm, kv->ns, kv->device, keys, count, 0, results);
	return hbm_keys(kv->hbm, op, kv->ns, flags, keys, count, results);
}

uint32_t kv_lookup(struct kv *kv, uint64_t first, uint64_t count, hbm_result *results)
{
	hbm_key keys[BLOCKS_MAX];
	struct hbm_lookup answer = {0};
	fill_keys(keys, first, count);
	accept_status(kv, "lookup", hbm_lookup(kv->hbm, kv->ns, keys, count, &answer, results));
	return answer.resident;
}

int kv_tier(struct kv *kv, uint64_t block)
{
	hbm_result result;
	kv_lookup(kv, block, 1, &result);
	return result.status == HBM_OK ? result.tier : HBM_TIER_NONE;
}

/* ---- Moves ---- */

static int add_moving(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_account *account = record;
	assert_int_equal(bytes, sizeof(*account));
	*(uint64_t *)arg += account->moving;
	return 0;
}

void kv_await_moves(struct kv *kv)
{
	for (uint64_t moving = 1; moving > 0;) {
		moving = 0;
		accept_status(kv, "verify",
			      hbm_query(kv->hbm, HBM_QUERY_VERIFY, add_moving, &moving));
	}
}

void kv_push_to_nvme(struct kv *kv)
{
	accept_status(kv, "evict", hbm_evict(kv->hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL));
	kv_await_moves(kv);
	accept_status(kv, "evict", hbm_evict(kv->hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL));
	kv_await_moves(kv);
}
