/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model: see pool_model.h. */
#include "tests/support/pool_model.h"

#include "tests/support/pool_model_module.h"
#include "tests/support/pool_model_saved.h"
#include "tests/support/pool_model_switch.h"
#include "tests/support/pool_model_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static struct model_sequence *model_find(struct pool_model *model, bool open)
{
	const uint64_t start = seed_below(model->seed, MODEL_SEQUENCES);

	for (uint64_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[(start + i) % MODEL_SEQUENCES];

		if (!one->sequence == !open && !one->suspended)
			return one;
	}

	return NULL;
}

bool pool_model_is_short(struct pool_model *model, int r)
{
	if (r == 0)
		return false;
	if (r != HBM_NO_SPACE)
		fail_msg("%d: %s", r, hbm_pool_error(model->rig->pool));
	model->refused++;

	return true;
}

/* A fork can be read when a step has named it. */
static void model_map(struct pool_model *model, const struct model_sequence *one)
{
	if (pool_rig_facts(one->sequence).ready < one->tokens &&
	    pool_rig_step(model->rig, one->sequence, one->tokens) != 0)
		fail_msg("%s", hbm_pool_error(model->rig->pool));
}

static void model_check_one(struct pool_model *model, const struct model_sequence *one)
{
	if (one->suspended) {
		pool_model_switch_check(one);
		return;
	}
	model_map(model, one);

	const struct hbm_sequence_facts facts = pool_rig_facts(one->sequence);

	assert_int_equal(facts.tokens, one->tokens);
	assert_int_equal(facts.first, one->first);
	for (uint64_t i = one->first; i < one->tokens; i++)
		pool_rig_expect(model->rig, one->sequence, i, one->values[i]);
	pool_model_tree_check(model, one);
}

/* ---- Operations: true if they have changed something. ---- */

static bool model_open(struct pool_model *model)
{
	struct model_sequence *one = model_find(model, false);
	const struct hbm_sequence_options options = {.expected = seed_below(model->seed, RIG_MAX)};

	if (!one)
		return false;
	if (pool_model_is_short(model,
				hbm_sequence_open(model->rig->pool, &options, &one->sequence)))
		return false;
	one->first = one->tokens = one->draft_count = 0;

	return true;
}

/* Also one that is suspended. */
static bool model_close(struct pool_model *model)
{
	const uint64_t start = seed_below(model->seed, MODEL_SEQUENCES);
	struct model_sequence *one = NULL;

	for (uint64_t i = 0; i < MODEL_SEQUENCES && !one; i++)
		if (model->all[(start + i) % MODEL_SEQUENCES].sequence)
			one = &model->all[(start + i) % MODEL_SEQUENCES];
	if (!one)
		return false;
	assert_int_equal(hbm_sequence_close(one->sequence), 0);
	one->sequence = NULL;
	one->suspended = false;

	return true;
}

/* The tokens of a step: new numbers, written by way of the address. */
static void model_fill(struct pool_model *model, struct model_sequence *one, uint64_t length)
{
	for (; one->tokens < length; one->tokens++) {
		one->values[one->tokens] = ++model->last_value;
		pool_rig_write(model->rig, one->sequence, one->tokens, model->last_value);
	}
}

/* What it is promised is there, whatever others have. A token more takes at most a page group. */
static void model_step_within(struct pool_model *model, struct model_sequence *one)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(one->sequence);
	struct hbm_layout_facts layout;

	hbm_layout_facts(model->rig->layout, &layout);
	if (facts.promised_bytes < layout.page_group_bytes || facts.shared_bytes > 0 ||
	    one->draft_count > 0 || one->tokens >= facts.expected)
		return;
	if (pool_rig_step(model->rig, one->sequence, one->tokens + 1) != 0)
		fail_msg("%llu bytes are promised: %s", (unsigned long long)facts.promised_bytes,
			 hbm_pool_error(model->rig->pool));
	model_fill(model, one, one->tokens + 1);
	model->within++;
}

static bool model_step(struct pool_model *model)
{
	struct hbm_sequence *sequences[MODEL_SEQUENCES];
	struct model_sequence *named[MODEL_SEQUENCES];
	uint64_t lengths[MODEL_SEQUENCES];
	const uint64_t most = seed_below(model->seed, 4) ? 3 : 40;
	size_t count = 0;

	for (size_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[i];

		if (!one->sequence || one->suspended || seed_below(model->seed, 3) == 0)
			continue;
		const uint64_t left = RIG_MAX - one->tokens;
		const uint64_t more = seed_below(model->seed, most);

		named[count] = one;
		sequences[count] = one->sequence;
		lengths[count] = one->tokens;
		if (one->draft_count == 0)
			lengths[count] += more < left ? more : left;
		count++;
	}

	if (pool_model_is_short(model, hbm_step(model->rig->pool, sequences, lengths, count))) {
		for (size_t i = 0; i < count; i++)
			model_step_within(model, named[i]);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		model_fill(model, named[i], lengths[i]);

	return count > 0;
}

static bool model_truncate(struct pool_model *model)
{
	struct model_sequence *one = model_find(model, true);

	if (!one)
		return false;
	const uint64_t tokens = one->first + seed_below(model->seed, one->tokens - one->first + 1);
	int r = hbm_sequence_truncate(one->sequence, tokens);

	/* Windows have slid too far. */
	if (r == HBM_INVALID && strstr(hbm_pool_error(model->rig->pool), "windows"))
		return false;
	assert_int_equal(r, 0);
	one->tokens = tokens;
	one->draft_count = 0;

	return true;
}

static bool model_slide(struct pool_model *model)
{
	struct model_sequence *one = model_find(model, true);

	if (!one)
		return false;
	one->first += seed_below(model->seed, one->tokens - one->first + 1);
	assert_int_equal(hbm_sequence_slide(one->sequence, one->first), 0);

	return true;
}

static bool model_fork(struct pool_model *model)
{
	struct model_sequence *parent = model_find(model, true);
	struct hbm_sequence *forks[3];
	const size_t most = 1 + seed_below(model->seed, 3);
	size_t count = 0;

	for (size_t i = 0; i < MODEL_SEQUENCES; i++)
		count += !model->all[i].sequence;
	count = count < most ? count : most;
	if (!parent ||
	    pool_model_is_short(model, hbm_sequence_fork(parent->sequence, count, forks)))
		return false;

	for (size_t i = 0; i < count; i++) {
		struct model_sequence *one = model_find(model, false);

		*one = *parent;
		one->sequence = forks[i];
		one->draft_count = 0;
	}

	return count > 0;
}

static bool model_reorder(struct pool_model *model)
{
	static struct model_sequence before[MODEL_SEQUENCES];
	struct hbm_sequence *sequences[MODEL_SEQUENCES];
	struct model_sequence *named[MODEL_SEQUENCES];
	uint32_t from[MODEL_SEQUENCES];
	size_t count = 0;

	for (size_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[i];

		if (!one->sequence || one->suspended || seed_below(model->seed, 2) == 0)
			continue;
		before[count] = *one;
		named[count] = one;
		sequences[count++] = one->sequence;
	}
	for (size_t i = 0; i < count; i++) {
		const bool stays = seed_below(model->seed, 3) || named[i]->draft_count > 0;

		from[i] = (uint32_t)(stays ? i : seed_below(model->seed, count));
	}

	if (pool_model_is_short(model,
				hbm_sequences_reorder(model->rig->pool, sequences, from, count)))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (from[i] == i)
			continue;
		*named[i] = before[from[i]];
		named[i]->sequence = sequences[i];
		named[i]->draft_count = 0;
	}

	return count > 1;
}

static bool model_draft(struct pool_model *model)
{
	return pool_model_draft(model, model_find(model, true));
}

/* One with drafts. */
static struct model_sequence *model_find_tree(struct pool_model *model)
{
	const uint64_t start = seed_below(model->seed, MODEL_SEQUENCES);

	for (uint64_t i = 0; i < MODEL_SEQUENCES; i++) {
		struct model_sequence *one = &model->all[(start + i) % MODEL_SEQUENCES];

		if (one->sequence && !one->suspended && one->draft_count > 0)
			return one;
	}

	return NULL;
}

static bool model_accept(struct pool_model *model)
{
	return pool_model_accept(model, model_find_tree(model));
}

static bool model_prune(struct pool_model *model)
{
	return pool_model_prune(model, model_find_tree(model));
}

static bool model_map_ahead(struct pool_model *model)
{
	return !pool_model_is_short(model, hbm_pool_map_ahead(model->rig->pool));
}

static bool model_keep(struct pool_model *model)
{
	return pool_model_keep(model, model_find(model, true));
}

static bool model_save(struct pool_model *model)
{
	return pool_model_save(model, model_find(model, true));
}

static bool model_restore(struct pool_model *model)
{
	return pool_model_restore(model, model_find(model, false));
}

static bool model_put(struct pool_model *model)
{
	return pool_model_put(model, model_find(model, true));
}

static bool model_append(struct pool_model *model)
{
	return pool_model_append(model, model_find(model, true));
}

static bool model_store(struct pool_model *model)
{
	return pool_model_store(model, model_find(model, true));
}

static bool model_open_cached(struct pool_model *model)
{
	return pool_model_open_cached(model, model_find(model, false));
}

/* Rare ones, which need what was done before and is there no more, come last. */
static const struct {
	bool (*operate)(struct pool_model *model);
	unsigned weight;
} model_operations[] = {
	{model_open, 4},    {model_close, 4},     {model_step, 12},       {model_truncate, 2},
	{model_slide, 1},   {model_map_ahead, 4}, {model_fork, 3},        {model_reorder, 2},
	{model_draft, 5},   {model_accept, 3},    {model_prune, 4},       {pool_model_switch, 4},
	{model_keep, 2},    {model_save, 3},      {model_put, 3},         {model_append, 5},
	{model_restore, 5}, {model_store, 3},     {model_open_cached, 3}, {pool_model_balance, 1},
};
#define MODEL_OPERATIONS (sizeof(model_operations) / sizeof(model_operations[0]))
#define MODEL_RARE 4

/* Each slab that the pool has counts once, and is the only client's. */
static void model_check_books(struct pool_model *model)
{
	struct pool_rig *rig = model->rig;
	struct hbm_pool_facts facts;
	uint64_t promised = 0;

	pool_rig_check_books(rig);
	if (hbm_pool_connection(rig->pool) != rig->hbm)
		return;

	for (size_t i = 0; i < MODEL_SEQUENCES; i++)
		if (model->all[i].sequence)
			promised += pool_rig_facts(model->all[i].sequence).promised_bytes;
	hbm_pool_facts(rig->pool, &facts);
	assert_int_equal(facts.promised_bytes, promised);
	assert_int_equal(facts.committed_bytes, pool_rig_session(rig).leased);
}

void pool_model_operate(struct pool_model *model)
{
	uint64_t weights = 0, chosen;
	size_t i = 0;

	for (size_t k = 0; k < MODEL_OPERATIONS; k++)
		weights += model_operations[k].weight;
	for (chosen = seed_below(model->seed, weights); chosen >= model_operations[i].weight; i++)
		chosen -= model_operations[i].weight;
	model->done[i] += model_operations[i].operate(model);
	model_check_books(model);

	struct model_sequence *one = model_find(model, true);

	if (one)
		model_check_one(model, one);
}

/* What the daemon is shown is what the sequence says of itself. Beside a thread that maps it
 * may be of another moment. */
static uint64_t model_check_shown(struct pool_rig *rig, struct hbm_sequence *sequence)
{
	struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	struct hbm_wire_sequence shown = pool_rig_shown(rig, facts.number);

	assert_int_equal(shown.state, facts.state);
	assert_int_equal(shown.suspended, facts.suspended_bytes);
	assert_int_equal(shown.tokens, facts.tokens);
	assert_int_equal(shown.expected, facts.expected);
	assert_int_equal(shown.max, facts.max);
	if (hbm_pool_connection(rig->pool) == rig->hbm) {
		assert_int_equal(shown.own, facts.mapped_bytes - facts.shared_bytes);
		assert_int_equal(shown.shared, facts.shared_bytes);
	}

	return facts.shared_bytes;
}

void pool_model_check(struct pool_model *model)
{
	uint64_t shared = 0;

	/* A check maps a fork, which changes what another shares. */
	for (size_t i = 0; i < MODEL_SEQUENCES; i++)
		if (model->all[i].sequence)
			model_check_one(model, &model->all[i]);
	for (size_t i = 0; i < MODEL_SEQUENCES; i++)
		if (model->all[i].sequence)
			shared += model_check_shown(model->rig, model->all[i].sequence);
	if (hbm_pool_connection(model->rig->pool) != model->rig->hbm)
		return;
	if (model->rig->lends)
		assert_true(pool_rig_shared(model->rig) <= shared);
	else
		assert_int_equal(pool_rig_shared(model->rig), shared);
}

void pool_model_close_all(struct pool_model *model)
{
	while (model_close(model))
		;
}

void pool_model_check_reach(const unsigned done[MODEL_OPERATIONS_MAX])
{
	for (size_t i = 0; i < MODEL_OPERATIONS - MODEL_RARE; i++)
		if (done[i] == 0)
			fail_msg("operation %zu has never changed anything", i);
}
