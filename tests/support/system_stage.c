/* SPDX-License-Identifier: Apache-2.0 */
/* system_stage: see system_stage.h. */
#include "tests/support/system_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/system_calls.h"

#include <string.h>
#include <unistd.h>

static unsigned system_stage_fds;

void system_stage_start(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	system_stage_fds = spawn_fds(&daemon_);
}

void system_stage_finish(void)
{
	stage_finish(system_stage_fds);
}

void system_stage_pool(struct pool_rig *rig, const char *layout, uint32_t device,
		       uint64_t warm_bytes)
{
	const struct hbm_pool_options options = {
		.device = device, .max_sequences = SYSTEM_SEQUENCES, .warm_bytes = warm_bytes};

	pool_rig_open(rig, &daemon_, layout, &options);
}

/* ---- Tokens ---- */

void system_stage_write(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			uint64_t end, uint64_t value)
{
	for (uint64_t i = first; i < end; i++)
		pool_rig_write(rig, sequence, i, value + i);
}

void system_stage_expect(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			 uint64_t end, uint64_t value)
{
	for (uint64_t i = first; i < end; i++)
		pool_rig_expect(rig, sequence, i, value + i);
}

void system_stage_grow(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t end,
		       uint64_t value)
{
	const uint64_t first = pool_rig_facts(sequence).tokens;

	assert_int_equal(pool_rig_step(rig, sequence, end), 0);
	system_stage_write(rig, sequence, first, end, value);
}

struct hbm_sequence *system_stage_prompt(struct pool_rig *rig, uint64_t tokens, uint64_t value)
{
	struct hbm_sequence *sequence = pool_rig_sequence(rig);

	system_stage_grow(rig, sequence, tokens, value);

	return sequence;
}

void system_stage_silent_step(struct pool_rig *rig, struct hbm_sequence *const *sequences,
			      const uint64_t *lengths, size_t count)
{
	const bool counted = system_calls_begin();
	int r = hbm_step(rig->pool, sequences, lengths, count);

	if (counted)
		assert_int_equal(system_calls_end(), 0);
	assert_int_equal(r, 0);
}

/* ---- Blocks ---- */

static void system_stage_block(struct pool_rig *rig, uint64_t offset, uint64_t name,
			       struct system_blocks *blocks)
{
	const size_t i = blocks->count++;

	assert_true(i < SYSTEM_BLOCKS);
	blocks->segments[i] = (struct hbm_segment){hbm_pool_region(rig->pool), offset, RIG_SLAB};
	blocks->keys[i] = kv_key(name + i);
	blocks->blocks[i] = (struct hbm_block){
		.key = blocks->keys[i], .segments = &blocks->segments[i], .segment_count = 1};
}

void system_stage_blocks(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			 uint64_t end, uint64_t name, struct system_blocks *blocks)
{
	const uint64_t slot =
		pool_rig_facts(sequence).address - hbm_region_address(hbm_pool_region(rig->pool));
	struct hbm_layout_facts facts;

	hbm_layout_facts(rig->layout, &facts);
	blocks->count = 0;
	for (uint32_t buffer = 0; buffer < facts.buffers; buffer++) {
		uint64_t offset, bytes;

		assert_int_equal(hbm_layout_range(rig->layout, buffer, first, end, &offset, &bytes),
				 0);
		for (uint64_t at = 0; at < bytes; at += RIG_SLAB)
			system_stage_block(rig, slot + offset + at, name, blocks);
	}
}

void system_stage_expect_results(const struct system_blocks *blocks, enum hbm_status status)
{
	for (size_t i = 0; i < blocks->count; i++)
		assert_int_equal(blocks->results[i].status, status);
}

/* ---- Memory ---- */

uint64_t system_stage_bytes(const struct pool_rig *rig, uint64_t tokens)
{
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_use(rig->layout, tokens, &use), 0);

	return use.mapped_bytes;
}

struct hbm_device_memory system_stage_memory(struct hbm *hbm, uint32_t device)
{
	struct hbm_device_memory memory;

	do {
		assert_int_equal(hbm_device_memory(hbm, device, &memory), 0);
	} while (memory.returning > 0 && usleep(1000) == 0);

	return memory;
}

void system_stage_take_all(struct kv *other)
{
	const struct hbm_device_memory memory = system_stage_memory(other->hbm, other->device);

	if (memory.available > 0)
		kv_region(other, memory.available);
}

uint64_t system_stage_used(struct hbm *hbm, uint32_t device)
{
	const struct hbm_device_memory memory = system_stage_memory(hbm, device);

	return memory.capacity - memory.free;
}

static int system_stage_see_device(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_device *device = arg;

	if (((const struct hbm_wire_device *)record)->index != device->index)
		return 0;
	memcpy(device, record, bytes < sizeof(*device) ? bytes : sizeof(*device));

	return 1;
}

struct hbm_wire_device system_stage_device(struct hbm *hbm, uint32_t index)
{
	struct hbm_wire_device device = {.index = index};

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, system_stage_see_device, &device), 1);

	return device;
}

struct hbm_sequence *system_stage_open(struct pool_rig *engine, uint64_t expected)
{
	const struct hbm_sequence_options options = {.expected = expected};
	struct hbm_sequence *sequence;

	assert_int_equal(hbm_sequence_open(engine->pool, &options, &sequence), 0);

	return sequence;
}

uint32_t system_stage_namespace(struct hbm *hbm, const char *model, uint64_t weights,
				uint64_t block_bytes)
{
	const struct hbm_namespace_options options = {
		.model = model, .weights = weights, .block_bytes = block_bytes};
	uint32_t ns = 0;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);

	return ns;
}
