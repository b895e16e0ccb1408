/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_switch: see pool_model_switch.h. */
#include "tests/support/pool_model_switch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct group {
	struct hbm_sequence *list[MODEL_SEQUENCES];
	struct model_sequence *named[MODEL_SEQUENCES];
	size_t count;
};

/* One in three of those that are suspended, or are not. */
static void switch_choose(struct pool_model *model, struct group *group, bool suspended)
{
	*group = (struct group){0};
	for (size_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[i];

		if (!one->sequence || one->suspended != suspended || seed_below(model->seed, 3))
			continue;
		group->named[group->count] = one;
		group->list[group->count++] = one->sequence;
	}
}

static void switch_turn(struct group *group, bool suspended)
{
	for (size_t i = 0; i < group->count; i++)
		group->named[i]->suspended = suspended;
}

bool pool_model_switch(struct pool_model *model)
{
	struct hbm_pool *pool = model->rig->pool;
	const enum hbm_tier tier = seed_below(model->seed, 2) ? HBM_TIER_DDR : HBM_TIER_NVME;
	const uint64_t kind = seed_below(model->seed, 4);
	struct group out, in;

	switch_choose(model, &out, false);
	switch_choose(model, &in, true);
	if (kind == 0)
		in.count = 0;
	if (kind == 1)
		out.count = 0;

	int r = hbm_sequences_switch(pool, out.list, out.count, tier, in.list, in.count);

	/* More would be pinned than may be: that is known before anything has changed. */
	if (r == HBM_LIMIT && out.count > 0)
		return false;
	if (pool_model_is_short(model, r))
		return false;
	switch_turn(&out, true);
	switch_turn(&in, false);

	return out.count + in.count > 0;
}

void pool_model_switch_check(const struct model_sequence *one)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(one->sequence);

	assert_int_equal(facts.state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(facts.tokens, one->tokens);
	assert_int_equal(facts.first, one->first);
	assert_int_equal(facts.mapped_bytes, 0);
	if (one->tokens + one->draft_count > one->first)
		assert_true(facts.suspended_bytes > 0);
}
