/* SPDX-License-Identifier: Apache-2.0 */
/* system_stage: see system_stage.h. */
#include "tests/support/system_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

uint64_t system_stage_used(struct hbm *hbm, uint32_t device)
{
	const struct hbm_device_memory memory = system_stage_memory(hbm, device);

	return memory.capacity - memory.free;
}
