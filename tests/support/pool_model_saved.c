/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_saved: see pool_model_saved.h. */
#include "tests/support/pool_model_saved.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/saved.h>
#include <string.h>

#define SAVED_PART 4096u /* blocks of the cache are whole ones */

/* Of the model: others have the same names. */
static struct hbm_saved_space saved_space(const struct pool_model *model)
{
	return (struct hbm_saved_space){.model = "random", .weights = model->number};
}

/* Layers with a window have given up tokens. */
static bool saved_has_slid(struct pool_model *model, int r)
{
	return r == HBM_INVALID && strstr(hbm_pool_error(model->rig->pool), "window");
}

/* ---- Tokens that are given up ---- */

bool pool_model_keep(struct pool_model *model, struct model_sequence *one)
{
	uint64_t set[RIG_MAX];
	size_t count = 0;

	if (!one || one->draft_count > 0 || one->first == one->tokens)
		return false;
	const uint64_t of = 2 + seed_below(model->seed, 6);

	for (uint64_t i = one->first; i < one->tokens; i++)
		if (seed_below(model->seed, of) || (count == 0 && i + 1 == one->tokens))
			set[count++] = i;

	int r = hbm_sequence_keep(one->sequence, HBM_AXIS_TOKENS, set, count);

	if (saved_has_slid(model, r) || pool_model_is_short(model, r))
		return false;
	for (size_t i = 0; i < count; i++)
		one->values[one->first + i] = one->values[set[i]];
	one->tokens = one->first + count;

	return true;
}

/* ---- Names ---- */

static const char *saved_name(size_t i)
{
	static const char *const names[MODEL_NAMES] = {"a", "b", "c", "d"};

	return names[i];
}

bool pool_model_save(struct pool_model *model, struct model_sequence *one)
{
	if (!one)
		return false;

	const size_t i = seed_below(model->seed, MODEL_NAMES);
	const struct hbm_save save = {one->sequence, saved_name(i), 0};
	const struct hbm_save_options options = {
		.space = saved_space(model),
		.tier = seed_below(model->seed, 2) ? HBM_TIER_DDR : HBM_TIER_NVME};
	struct model_saved *now = &model->saved[i];
	uint64_t saved;
	int r = hbm_sequences_save(model->rig->pool, &save, 1, &options, &saved);

	if (pool_model_is_short(model, r) && saved == 0)
		return false;
	*now = (struct model_saved){.is = true, .first = one->first, .tokens = saved};
	memcpy(now->values, one->values, sizeof(now->values));

	return true;
}

/* One that was saved, or any. */
static size_t saved_choose_name(struct pool_model *model)
{
	size_t name = seed_below(model->seed, MODEL_NAMES);

	for (size_t i = 1; i < MODEL_NAMES && !model->saved[name].is; i++)
		name = (name + 1) % MODEL_NAMES;

	return name;
}

/* What was evicted is missing at the end. */
bool pool_model_restore(struct pool_model *model, struct model_sequence *one)
{
	const size_t i = saved_choose_name(model);
	const struct model_saved *saved = &model->saved[i];
	const struct hbm_saved_space space = saved_space(model);

	if (!one)
		return false;

	int r = hbm_sequence_restore(model->rig->pool, &space, saved_name(i), NULL, &one->sequence);

	if (r == HBM_NOT_FOUND || pool_model_is_short(model, r))
		return false;
	assert_true(saved->is);
	one->draft_count = 0;
	one->first = saved->first;
	one->tokens = pool_rig_facts(one->sequence).tokens;
	assert_in_range(one->tokens, saved->first, saved->tokens);
	memcpy(one->values, saved->values, sizeof(one->values));

	return true;
}

/* ---- Blocks ---- */

static void saved_open_blocks(struct pool_model *model)
{
	const struct hbm_namespace_options options = {.model = "random", .weights = model->number};
	struct hbm_layout_facts facts;

	if (model->block_tokens)
		return;
	hbm_layout_facts(model->rig->layout, &facts);
	for (model->block_tokens = 4; model->block_tokens * facts.token_bytes % SAVED_PART;)
		model->block_tokens += 4;
	if (hbm_pool_namespace(model->rig->pool, &options, model->block_tokens, &model->ns) != 0)
		fail_msg("%s", hbm_pool_error(model->rig->pool));
}

/* A key for all that is in front of it, too. */
static void saved_make_keys(struct model_stored *stored, uint64_t block_tokens)
{
	uint64_t sum = 1;

	for (uint64_t i = 0; i < stored->tokens; i++) {
		sum = (sum ^ stored->values[i]) * 0x100000001b3;
		stored->keys[i / block_tokens] = kv_key(sum >> 8 | 1); /* not 0 */
	}
	stored->count = (stored->tokens + block_tokens - 1) / block_tokens;
}

static struct hbm_token_blocks saved_blocks(const struct pool_model *model,
					    const struct model_stored *stored)
{
	return (struct hbm_token_blocks){.ns = model->ns,
					 .block_tokens = model->block_tokens,
					 .tokens = stored->tokens,
					 .keys = stored->keys,
					 .count = stored->count};
}

static bool saved_is_fine(int status)
{
	return status == HBM_OK || status == HBM_EXISTS || status == HBM_NO_SPACE ||
	       status == HBM_LIMIT || status == HBM_MISS || status == HBM_NOT_FOUND;
}

bool pool_model_store(struct pool_model *model, struct model_sequence *one)
{
	struct model_stored *stored = &model->stored[seed_below(model->seed, MODEL_STORED)];
	hbm_result results[RIG_MAX];
	bool has_stored = false;

	saved_open_blocks(model);
	if (!one || one->first > 0 || one->tokens < model->block_tokens || one->draft_count > 0)
		return false;
	stored->tokens = one->tokens - seed_below(model->seed, model->block_tokens);
	if (seed_below(model->seed, 2))
		stored->tokens -= stored->tokens % model->block_tokens;
	memcpy(stored->values, one->values, sizeof(stored->values));
	saved_make_keys(stored, model->block_tokens);

	const struct hbm_token_blocks blocks = saved_blocks(model, stored);
	int r = hbm_sequence_store(one->sequence, &blocks, 0, results);

	/* Layers with a window have given up tokens. */
	if ((r == HBM_INVALID && strstr(hbm_pool_error(model->rig->pool), "with tokens")) ||
	    pool_model_is_short(model, r)) {
		stored->count = 0;
		return false;
	}
	for (size_t i = 0; i < stored->count; i++) {
		if (!saved_is_fine(results[i].status))
			fail_msg("block %zu: %d", i, results[i].status);
		has_stored |= results[i].status == HBM_OK;
	}

	return has_stored;
}

/* One of those that are remembered, or an empty one. */
static const struct model_stored *saved_choose(struct pool_model *model)
{
	const uint64_t start = seed_below(model->seed, MODEL_STORED);
	const struct model_stored *stored = &model->stored[start];

	for (uint64_t i = 1; i < MODEL_STORED && stored->count == 0; i++)
		stored = &model->stored[(start + i) % MODEL_STORED];

	return stored;
}

bool pool_model_open_cached(struct pool_model *model, struct model_sequence *one)
{
	const struct model_stored *stored = saved_choose(model);
	const struct hbm_token_blocks blocks = saved_blocks(model, stored);
	const struct hbm_sequence_options options = {
		.expected = stored->tokens + seed_below(model->seed, RIG_MAX - stored->tokens + 1)};
	uint64_t tokens;

	if (!one || stored->count == 0)
		return false;
	if (pool_model_is_short(model, hbm_sequence_open_cached(model->rig->pool, &options, &blocks,
								&one->sequence, &tokens)))
		return false;
	assert_true(tokens <= stored->tokens);
	one->first = one->draft_count = 0;
	one->tokens = tokens;
	memcpy(one->values, stored->values, sizeof(one->values));

	return tokens > 0;
}

/* ---- Idle ones ---- */

bool pool_model_balance(struct pool_model *model)
{
	size_t count, suspended = 0;

	for (size_t i = 0; i < MODEL_SEQUENCES; i++)
		if (model->all[i].sequence)
			hbm_sequence_idle(model->all[i].sequence, seed_below(model->seed, 2),
					  seed_below(model->seed, 8));

	const enum hbm_tier tier = seed_below(model->seed, 2) ? HBM_TIER_DDR : HBM_TIER_NVME;
	int r = hbm_pool_balance(model->rig->pool, seed_below(model->seed, 64) << 21, tier, &count);

	if (r != HBM_LIMIT)
		pool_model_is_short(model, r);
	for (size_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[i];

		if (!one->sequence || one->suspended)
			continue;
		one->suspended = pool_rig_facts(one->sequence).state == HBM_SEQUENCE_SUSPENDED;
		suspended += one->suspended;
	}
	assert_int_equal(suspended, count);

	return count > 0;
}
