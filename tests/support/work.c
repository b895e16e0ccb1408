/* SPDX-License-Identifier: Apache-2.0 */
/* work: see work.h. */
#include "tests/support/work.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 65536u
#define BLOCKS 8u
#define SLAB (2ull << 20)
#define READY_SLOT 0
#define DONE_SLOT 1
#define ANSWER_MS 60000 /* so that some calls wait with a timeout */

static const struct hbm_namespace_options namespace_options = {.model = "kv", .block_bytes = BLOCK};

static bool good(struct work *work, int status)
{
	work->failures += status != 0;
	return status == 0;
}

static void use_device(struct work *work)
{
	char error[256];
	struct kv *kv = &work->kv;
	if (!good(work, driver_open(&kv->driver, DRIVER_SOFT, NULL, error, sizeof(error))))
		return;

	if (good(work, (int)kv->driver->cuDevicePrimaryCtxRetain(&kv->context, 0)) &&
	    good(work, (int)kv->driver->cuCtxSetCurrent(kv->context)))
		return;

	kv->driver = driver_close(kv->driver);
}

static void store_blocks(struct work *work)
{
	struct kv *kv = &work->kv;
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	hbm_result results[BLOCKS];

	for (uint64_t i = 0; i < BLOCKS; i++) {
		kv_fill(1 + i, kv->buffer, BLOCK);
		if (!good(work,
			  (int)kv->driver->cuMemcpyHtoD(
				  hbm_region_address(work->region) + i * BLOCK, kv->buffer, BLOCK)))
			return;
	}

	kv_blocks(kv, 0, 1, BLOCKS, 0, blocks, segments);
	if (!good(work, hbm_store(kv->hbm, kv->ns, blocks, BLOCKS, results)))
		return;

	for (uint64_t i = 0; i < BLOCKS; i++)
		work->failures += results[i].status != HBM_OK && results[i].status != HBM_EXISTS;
}

static void check_block(struct work *work, uint64_t slot, uint64_t block)
{
	struct kv *kv = &work->kv;
	static uint64_t expected[BLOCK / 8];
	kv_fill(block, expected, BLOCK);

	if (good(work, (int)kv->driver->cuMemcpyDtoH(
			       kv->buffer, hbm_region_address(work->region) + slot * BLOCK, BLOCK)))
		work->wrong += memcmp(kv->buffer, expected, BLOCK) != 0;
}

static void load_blocks(struct work *work)
{
	struct kv *kv = &work->kv;
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	hbm_result results[BLOCKS];
	uint64_t at = hbm_region_address(work->region) + BLOCKS * BLOCK;

	memset(kv->buffer, 0xa5, BLOCK);

	for (uint64_t i = 0; i < BLOCKS; i++)
		if (!good(work, (int)kv->driver->cuMemcpyHtoD(at + i * BLOCK, kv->buffer, BLOCK)))
			return;

	kv_blocks(kv, BLOCKS, 1, BLOCKS, 0, blocks, segments);
	if (!good(work, hbm_load(kv->hbm, kv->ns, blocks, BLOCKS, results)))
		return;

	for (uint64_t i = 0; i < BLOCKS; i++)
		if (good(work, results[i].status))
			check_block(work, BLOCKS + i, 1 + i);
}

static void name_blocks(struct work *work, enum hbm_wire_opcode op, size_t count)
{
	hbm_key keys[BLOCKS];
	hbm_result results[BLOCKS];

	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(1 + i);
	if (!good(work, hbm_keys(work->kv.hbm, op, work->kv.ns, 0, keys, count, results)))
		return;

	for (uint64_t i = 0; i < count; i++)
		work->failures += results[i].status != HBM_OK;
}

static void look_up_blocks(struct work *work)
{
	hbm_key keys[BLOCKS];
	hbm_result results[BLOCKS];
	struct hbm_lookup answer;

	for (uint64_t i = 0; i < BLOCKS; i++)
		keys[i] = kv_key(1 + i);
	good(work, hbm_lookup(work->kv.hbm, work->kv.ns, keys, BLOCKS, &answer, results));
	good(work, hbm_prefetch(work->kv.hbm, work->kv.ns, 0, keys, BLOCKS, 0, results));
}

/* A load that waits for a value in memory, which comes, or is cancelled. */
static void load_when_ready(struct work *work, bool is_cancelled)
{
	struct kv *kv = &work->kv;
	const struct hbm_sync sync = {.ready_slot = READY_SLOT,
				      .ready_value = is_cancelled ? UINT64_MAX : 1,
				      .fence_slot = DONE_SLOT,
				      .fence_value = 1};
	struct hbm_block block;
	struct hbm_segment segment;
	static hbm_result result; /* a load that cannot be cancelled may outlast this call */
	hbm_ticket ticket;

	kv_blocks(kv, BLOCKS, 1, 1, 0, &block, &segment);
	if (!good(work, hbm_submit_load(kv->hbm, kv->ns, &block, 1, &sync, &result, &ticket)))
		return;

	if (is_cancelled && good(work, hbm_cancel(kv->hbm, ticket)))
		work->failures += hbm_wait(kv->hbm, ticket, -1) != HBM_CANCELLED;
	if (is_cancelled)
		return; /* what was not cancelled ends with the connection */

	good(work, hbm_fence_signal(kv->hbm, READY_SLOT, 1));
	if (good(work, hbm_wait(kv->hbm, ticket, -1)) && good(work, result.status))
		check_block(work, BLOCKS, 1);
}

/* What is on loan has the bytes that were stored. A daemon that lends nothing says so. */
static void borrow_blocks(struct work *work)
{
	struct kv *kv = &work->kv;
	static uint64_t expected[BLOCK / 8];
	const hbm_key keys[] = {kv_key(1), kv_key(2)};
	struct hbm_loan *loans[2];
	hbm_result results[2];

	int rc = hbm_borrow(kv->hbm, kv->ns, 0, 0, keys, 2, loans, results);
	if (rc == HBM_UNSUPPORTED || !good(work, rc))
		return;

	for (uint64_t i = 0; i < 2; i++) {
		uint64_t address;
		if (!good(work, results[i].status) ||
		    !good(work, hbm_loan_map(kv->hbm, loans[i], &address)))
			continue;

		kv_fill(1 + i, expected, BLOCK);
		if (good(work, (int)kv->driver->cuMemcpyDtoH(kv->buffer, address, BLOCK)))
			work->wrong += memcmp(kv->buffer, expected, BLOCK) != 0;
	}

	if (loans[0])
		good(work, hbm_return(kv->hbm, &loans[0], 1)); /* the other is the connection's */
}

static void move_blocks(struct work *work)
{
	struct kv *kv = &work->kv;
	static uint64_t buffer[BLOCK / 8];

	kv->block_bytes = BLOCK;
	kv->region = work->region;
	kv->buffer = buffer;
	if (!good(work, hbm_namespace_open(kv->hbm, &namespace_options, &kv->ns)))
		return;

	store_blocks(work);
	load_blocks(work);
	name_blocks(work, HBM_WIRE_PIN, BLOCKS);
	good(work, hbm_evict(kv->hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL));
	load_blocks(work);
	name_blocks(work, HBM_WIRE_UNPIN, BLOCKS);
	good(work, hbm_evict(kv->hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL));
	good(work, hbm_evict(kv->hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL));
	name_blocks(work, HBM_WIRE_TOUCH, BLOCKS);
	load_blocks(work);
	look_up_blocks(work);
	load_when_ready(work, false);
	load_when_ready(work, true);
	borrow_blocks(work);
	name_blocks(work, HBM_WIRE_REMOVE, 1);
	store_blocks(work);
	good(work, hbm_namespace_drop(kv->hbm, kv->ns, 0, NULL));
	good(work, hbm_namespace_close(kv->hbm, kv->ns));
}

static int ignore_record(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	(void)arg;
	return 0;
}

static void work_connected(struct work *work)
{
	const struct hbm_region_options options = {.address_space = 4 * SLAB, .slab = SLAB};
	struct hbm *hbm = work->kv.hbm;

	good(work, hbm_ping(hbm));
	good(work, hbm_query(hbm, HBM_QUERY_SESSIONS, ignore_record, NULL));
	if (!good(work, hbm_region_create(hbm, &options, &work->region)))
		return;

	unsetenv("HBM_SOFT_FAIL"); /* it is in force by now, once */
	const struct hbm_range all = {work->region, 0, 2 * SLAB},
			       last = {work->region, 2 * SLAB, SLAB};
	const struct hbm_share fork = {work->region, work->region, SLAB, 3 * SLAB, SLAB, 0, NULL};
	bool committed = good(work, hbm_commit(hbm, &all, 1));
	use_device(work);
	if (committed && work->kv.driver)
		move_blocks(work);

	good(work, hbm_commit(hbm, &last, 1));
	if (committed) {
		good(work, hbm_share(hbm, &fork, 1)); /* outlives its source */
		good(work, hbm_decommit(hbm, &all, 1));
	}

	good(work, hbm_region_destroy(hbm, work->region));
}

void work_do(const struct spawn *spawn, struct work *work)
{
	const struct hbm_options options = {
		.socket = spawn->socket, .name = "work", .answer_ms = ANSWER_MS};

	*work = (struct work){.failures = 0};
	if (!good(work, hbm_connect(&work->kv.hbm, &options)))
		return;

	work_connected(work);
	kv_leave(&work->kv);
	hbm_close(work->kv.hbm);
}

enum work_outcome work_outcome(const struct work *work)
{
	return work->wrong > 0 ? WORK_WRONG : work->failures > 0 ? WORK_REFUSED : WORK_CLEAN;
}

static void work_play(const struct spawn *spawn, uint64_t number)
{
	struct work work;

	(void)number;
	work_do(spawn, &work);
	_exit(work_outcome(&work));
}

const struct child_part work_parts[] = {{"work", work_play}, {NULL, NULL}};

int work_client(const struct spawn *spawn)
{
	struct child child;

	child_start(&child, "work", spawn, 0);

	return child_wait(&child);
}

void work_clear(const struct spawn *spawn)
{
	struct hbm *hbm = spawn_connect(spawn);
	uint32_t ns;
	hbm_key root = kv_key(1);
	hbm_result result;

	assert_int_equal(hbm_namespace_open(hbm, &namespace_options, &ns), 0);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_REMOVE, ns, 0, &root, 1, &result), 0);
	hbm_close(hbm);
}
