/* SPDX-License-Identifier: Apache-2.0 */
/* kv_stage: see kv_stage.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"

#define SLOTS 512u
#define SMALL_SLOTS 1000u

struct kv kv;
hbm_result results[1024];
static unsigned fds;

int kv_stage_setup(void **state)
{
	static const char *const sets[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					   NULL};

	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, KV_STAGE_BLOCK, SLOTS);

	return 0;
}

int kv_stage_teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);
	return stage_teardown(state);
}

void kv_stage_expect(uint64_t count, int status)
{
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, status);
}

void kv_stage_store(uint64_t first, uint64_t count, uint64_t parent)
{
	assert_int_equal(kv_store(&kv, 0, first, count, parent, results), 0);
	kv_stage_expect(count, HBM_OK);
}

void kv_stage_load(uint64_t first, uint64_t count)
{
	assert_int_equal(kv_load(&kv, 0, first, count, results), 0);
	kv_stage_expect(count, HBM_OK);
}

void kv_stage_keys(enum hbm_wire_opcode op, uint64_t first, uint64_t count, int status)
{
	assert_int_equal(kv_keys(&kv, op, first, count, 0, results), 0);
	kv_stage_expect(count, status);
}

void kv_stage_press(uint64_t first)
{
	kv_stage_store(first, KV_STAGE_ALL / 2, 0);
	kv_stage_store(first + KV_STAGE_ALL / 2, KV_STAGE_ALL / 2, 0);
}

void kv_stage_open_small(struct spawn *daemon, struct kv *small)
{
	static const char *const sets[] = {"ddr.size=96MiB", "nvme.path=", "nvme.size=0", NULL};

	spawn_init(daemon);
	spawn_start(daemon, sets, NULL);
	kv_open(small, daemon, 0, KV_STAGE_SMALL, SMALL_SLOTS);
}

void kv_stage_close_small(struct spawn *daemon, struct kv *small)
{
	kv_close(small);
	assert_int_equal(spawn_stop(daemon), 0);
	spawn_free(daemon);
}

void kv_stage_store_many(struct kv *small)
{
	for (uint64_t block = 1; block < KV_STAGE_MANY; block += SMALL_SLOTS)
		assert_int_equal(kv_store(small, 0, block, SMALL_SLOTS, block - 1, results), 0);
}

static int see_block(const void *record, size_t size, void *arg)
{
	const struct hbm_wire_block_info *block = record;
	struct kv_stage_blocks *seen = arg;

	(void)size;
	seen->blocks++;
	seen->children += block->children;

	return 0;
}

struct kv_stage_blocks kv_stage_blocks(struct hbm *hbm)
{
	struct kv_stage_blocks seen = {0};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_BLOCKS, see_block, &seen), 0);
	return seen;
}
