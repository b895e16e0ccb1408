/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_tree: see pool_model_tree.h. */
#include "tests/support/pool_model_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TREE_DRAFTS 9 /* of one call, at most */

static bool tree_has(const struct model_sequence *one, int32_t draft)
{
	return one->drafts[draft].value != 0;
}

void pool_model_tree_check(struct pool_model *model, const struct model_sequence *one)
{
	assert_int_equal(pool_rig_facts(one->sequence).drafts, one->draft_count);
	for (uint32_t i = 0; i < one->draft_count; i++)
		if (tree_has(one, (int32_t)i))
			pool_rig_expect(model->rig, one->sequence, one->tokens + i,
					one->drafts[i].value);
}

/* Any draft that is there, or -1. */
static int32_t tree_pick(struct pool_model *model, const struct model_sequence *one, uint32_t count)
{
	const int32_t draft = (int32_t)seed_below(model->seed, count + 1) - 1;

	return draft < 0 || tree_has(one, draft) ? draft : -1;
}

bool pool_model_draft(struct pool_model *model, struct model_sequence *one)
{
	int32_t parents[TREE_DRAFTS];
	uint64_t tokens[TREE_DRAFTS];
	const uint64_t left = one ? RIG_MAX - one->tokens - one->draft_count : 0;
	uint64_t count = 1 + seed_below(model->seed, TREE_DRAFTS);

	if (!one || left == 0)
		return false;
	count = count < left ? count : left;
	for (uint32_t i = 0; i < count; i++) {
		struct model_draft *draft = &one->drafts[one->draft_count + i];

		parents[i] = tree_pick(model, one, one->draft_count + i);
		*draft = (struct model_draft){parents[i], ++model->last_value};
	}

	int r = hbm_sequence_draft(one->sequence, parents, count, tokens);
	if (pool_model_is_short(model, r))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(tokens[i], one->tokens + one->draft_count);
		pool_rig_write(model->rig, one->sequence, tokens[i],
			       one->drafts[one->draft_count++].value);
	}

	return true;
}

bool pool_model_accept(struct pool_model *model, struct model_sequence *one)
{
	int32_t path[RIG_MAX];
	size_t count = 0;

	if (!one)
		return false;

	/* From a draft up to the root, and then the other way round. */
	for (int32_t i = tree_pick(model, one, one->draft_count); i >= 0; i = one->drafts[i].parent)
		path[count++] = i;
	for (size_t i = 0; i < count / 2; i++) {
		const int32_t other = path[i];

		path[i] = path[count - 1 - i];
		path[count - 1 - i] = other;
	}

	assert_int_equal(hbm_sequence_accept(one->sequence, path, count), 0);
	for (size_t i = 0; i < count; i++)
		one->values[one->tokens++] = one->drafts[path[i]].value;
	one->draft_count = 0;

	return count > 0;
}

bool pool_model_prune(struct pool_model *model, struct model_sequence *one)
{
	if (!one)
		return false;

	const int32_t draft = tree_pick(model, one, one->draft_count);

	assert_int_equal(hbm_sequence_prune(one->sequence, draft), 0);
	if (draft < 0)
		one->draft_count = 0;
	for (uint32_t i = 0; i < one->draft_count; i++) {
		const int32_t parent = one->drafts[i].parent;

		if ((int32_t)i == draft || (parent >= 0 && !tree_has(one, parent)))
			one->drafts[i].value = 0;
	}
	while (one->draft_count > 0 && !tree_has(one, (int32_t)one->draft_count - 1))
		one->draft_count--;

	return true;
}
