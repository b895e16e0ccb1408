/* SPDX-License-Identifier: Apache-2.0 */
/* kept: see kept.h. */
#include "tests/support/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct kept kept_open(struct pool_rig *rig)
{
	const struct hbm_layout_options *options = hbm_layout_options(rig->layout);
	struct kept kept = {.sequence = pool_rig_sequence(rig),
			    .layer_count = options->layer_count,
			    .head_count = KEPT_HEADS};

	for (uint64_t i = 0; i < KEPT_LAYERS; i++)
		kept.layers[i] = i;
	for (uint64_t i = 0; i < KEPT_HEADS; i++)
		kept.heads[i] = i;

	return kept;
}

/* ---- Places ---- */

typedef void kept_access(struct pool_rig *rig, uint64_t address, uint64_t value);

/* The first and the last bytes. */
static void kept_ends(struct pool_rig *rig, uint64_t address, uint64_t bytes, uint64_t value,
		      kept_access *access)
{
	access(rig, address, value);
	access(rig, address + bytes - sizeof(value), value + 1);
}

static uint64_t kept_value(const struct kept *kept, uint64_t id, uint32_t layer, uint32_t part,
			   uint32_t head)
{
	return (((id * KEPT_LAYERS + kept->layers[layer]) * 2 + part) * KEPT_HEADS +
		kept->heads[head]) *
	       2;
}

static void kept_layer(struct pool_rig *rig, const struct kept *kept, uint32_t layer,
		       uint64_t token, kept_access *access)
{
	const struct hbm_layout *layout = hbm_sequence_layout(kept->sequence);
	const struct hbm_layer *shape = &hbm_layout_options(layout)->layers[layer];
	const uint64_t base = pool_rig_facts(kept->sequence).address;

	if (shape->state_bytes ||
	    (access == pool_rig_see && shape->window && token + shape->window < kept->tokens))
		return;
	assert_true(shape->heads <= kept->head_count);
	for (uint32_t part = 0; part < (shape->keys_only ? 1 : 2); part++)
		for (uint32_t head = 0; head < shape->heads; head++) {
			uint64_t offset;

			assert_int_equal(
				hbm_layout_offset(layout, layer, part, token, head, &offset), 0);
			kept_ends(rig, base + offset,
				  (uint64_t)shape->head_dim * shape->element_bytes,
				  kept_value(kept, kept->ids[token], layer, part, head), access);
		}
}

static void kept_states(struct pool_rig *rig, const struct kept *kept, kept_access *access)
{
	const struct hbm_layout *layout = hbm_sequence_layout(kept->sequence);
	const uint64_t base = pool_rig_facts(kept->sequence).address;

	for (uint32_t layer = 0; layer < kept->layer_count; layer++) {
		uint64_t offset, bytes;

		if (hbm_layout_state(layout, layer, &offset, &bytes) == 0)
			kept_ends(rig, base + offset, bytes,
				  kept->state * KEPT_LAYERS + kept->layers[layer], access);
	}
}

void kept_write(struct pool_rig *rig, struct kept *kept, uint64_t id)
{
	const uint64_t token = kept->tokens++;

	kept->ids[token] = kept->state = id;
	for (uint32_t layer = 0; layer < kept->layer_count; layer++)
		kept_layer(rig, kept, layer, token, pool_rig_put);
	kept_states(rig, kept, pool_rig_put);
}

void kept_check(struct pool_rig *rig, const struct kept *kept)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(kept->sequence);
	const struct hbm_layout *layout = hbm_sequence_layout(kept->sequence);

	assert_int_equal(facts.tokens, kept->tokens);
	assert_int_equal(facts.first, kept->first);
	assert_int_equal(hbm_layout_options(layout)->layer_count, kept->layer_count);
	if (facts.ready < facts.tokens)
		assert_int_equal(pool_rig_step(rig, kept->sequence, kept->tokens), 0);
	for (uint32_t layer = 0; layer < kept->layer_count; layer++)
		for (uint64_t token = kept->first; token < kept->tokens; token++)
			kept_layer(rig, kept, layer, token, pool_rig_see);
	if (kept->tokens > 0)
		kept_states(rig, kept, pool_rig_see);
}

/* ---- Keep ---- */

static void kept_choose(uint64_t *numbers, const uint64_t *set, size_t count)
{
	for (size_t i = 0; i < count; i++)
		numbers[i] = numbers[set[i]];
}

int kept_keep(struct kept *kept, enum hbm_axis axis, const uint64_t *set, size_t count)
{
	int r = hbm_sequence_keep(kept->sequence, axis, set, count);

	if (r)
		return r;
	switch (axis) {
	case HBM_AXIS_LAYERS:
		kept_choose(kept->layers, set, count);
		kept->layer_count = (uint32_t)count;
		break;
	case HBM_AXIS_HEADS:
		kept_choose(kept->heads, set, count);
		kept->head_count = (uint32_t)count;
		break;
	case HBM_AXIS_TOKENS:
		for (size_t i = 0; i < count; i++)
			kept->ids[kept->first + i] = kept->ids[set[i]];
		kept->tokens = kept->first + count;
		break;
	}

	return 0;
}
