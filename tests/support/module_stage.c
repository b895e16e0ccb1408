/* SPDX-License-Identifier: Apache-2.0 */
/* module_stage: see module_stage.h. */
#include "tests/support/module_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/device_record.h"
#include "tests/support/stage.h"

#include <poll.h>

const struct hbm_pool_options module_pool = {.max_sequences = 8};
const struct hbm_saved_space module_space = {.model = "small"};
struct pool_rig module_rig;
static unsigned fds;

void module_stage_daemon(const char *const *settings)
{
	static const char *const usual[] = {"device.lend=64MiB", "ddr.staging=32MiB",
					    "ddr.size=128MiB", "nvme.size=256MiB", NULL};

	if (daemon_.pid != 0)
		return;

	spawn_start(&daemon_, settings ? settings : usual, NULL);
	fds = spawn_fds(&daemon_);
}

void module_stage_start(const char *const *settings, const char *layout)
{
	module_stage_daemon(settings);
	pool_rig_open(&module_rig, &daemon_, layout, &module_pool);
}

void module_stage_end(void)
{
	stage_finish(fds);
}

uint64_t module_stage_leased(void)
{
	return device_record(module_rig.hbm).leased / RIG_SLAB;
}

uint64_t module_stage_lent(void)
{
	return device_record(module_rig.hbm).lent / RIG_SLAB;
}

void module_stage_await_leased(uint64_t slabs)
{
	for (int i = 0; i < 20000 && module_stage_leased() != slabs; i++)
		poll(NULL, 0, 1);
	assert_int_equal(module_stage_leased(), slabs);
}

void module_stage_finish(void)
{
	assert_true(spawn_balanced(&daemon_));
	pool_rig_close(&module_rig);
	module_stage_end();
}

void module_stage_drop_all(void)
{
	assert_int_equal(hbm_schema_drop(module_rig.pool, &module_space, "chat"), 0);
	module_stage_await_leased(0);
	assert_int_equal(module_stage_lent(), 0);
	assert_int_equal(device_record(module_rig.hbm).replicas, 0);
}

void module_stage_grow(struct hbm_sequence *sequence, uint64_t end, uint64_t tag)
{
	const struct contents contents = {.kv = &module_rig.kv, .tag = tag};
	const uint64_t from = pool_rig_facts(sequence).tokens;

	if (pool_rig_step(&module_rig, sequence, end) != 0)
		fail_msg("%s", hbm_pool_error(module_rig.pool));
	contents_write(&contents, sequence, from, end);
}

struct hbm_sequence *module_stage_sequence(uint64_t tokens, uint64_t tag)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&module_rig);

	module_stage_grow(sequence, tokens, tag);

	return sequence;
}

void module_stage_expect(struct hbm_sequence *sequence, uint64_t at, uint64_t count, uint64_t first,
			 uint64_t tag)
{
	const struct contents contents = {.kv = &module_rig.kv, .tag = tag, .shift = first - at};

	if (!contents_are(&contents, sequence, at, at + count))
		fail_msg("tokens from %d on are not those from %d of %d", (int)at, (int)first,
			 (int)tag);
}

int module_stage_put(struct hbm_sequence *sequence, uint64_t version)
{
	const struct hbm_module module = {"chat", "m", version};

	return hbm_module_put(sequence, &module_space, &module, MODULE_FIRST, MODULE_END, NULL);
}

int module_stage_map(struct hbm_sequence *sequence)
{
	const struct hbm_module module = {"chat", "m", 0};

	return hbm_module_map(sequence, &module_space, &module);
}

void module_stage_close(struct hbm_sequence *sequence)
{
	if (hbm_sequence_close(sequence) != 0)
		fail_msg("%s", hbm_pool_error(module_rig.pool));
}

void module_stage_check(struct hbm_sequence *sequence, uint64_t slabs)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	const struct hbm_wire_sequence shown = pool_rig_shown(&module_rig, facts.number);

	assert_int_equal(facts.lent_bytes, slabs * RIG_SLAB);
	assert_int_equal(shown.own, facts.mapped_bytes - facts.shared_bytes);
	assert_int_equal(shown.shared, facts.shared_bytes);
	assert_in_range(facts.shared_bytes, facts.lent_bytes, facts.mapped_bytes);
}

struct hbm_sequence *module_stage_mapped(uint64_t at, uint64_t tag, uint64_t slabs)
{
	struct hbm_sequence *sequence = module_stage_sequence(at, tag);

	if (module_stage_map(sequence) != 0)
		fail_msg("%s", hbm_pool_error(module_rig.pool));
	assert_int_equal(pool_rig_facts(sequence).tokens, at + MODULE_TOKENS);
	module_stage_check(sequence, slabs);
	module_stage_expect(sequence, 0, at, 0, tag);
	module_stage_expect(sequence, at, MODULE_TOKENS, MODULE_FIRST, MODULE_TAG);

	return sequence;
}

void module_stage_expect_mapped(struct hbm_sequence *sequence, uint64_t at, uint64_t tag)
{
	module_stage_expect(sequence, 0, at, 0, tag);
	module_stage_expect(sequence, at, MODULE_TOKENS, MODULE_FIRST, MODULE_TAG);
}

struct hbm_sequence *module_stage_source(void)
{
	struct hbm_sequence *source = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);

	assert_int_equal(module_stage_put(source, 1), 0);

	return source;
}
