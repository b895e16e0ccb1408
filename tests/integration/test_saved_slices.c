/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences of layouts at random, saved and restored into others: every order into every
 * other, and into slices of layers and heads; of half of them a part of the layers and heads was
 * kept. Every byte is compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/contents.h"
#include "tests/support/layouts.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>

#define ROUNDS 60
#define SEQUENCES 2u
#define ADDRESS_SPACE (UINT64_C(1) << 40) /* limits.address_space: of what a session has */

static struct seed seed;
static struct kv kv;
static struct hbm *hbm;
static const struct hbm_saved_space space = {.model = "random"};

static struct hbm_pool *pool_of(const struct hbm_layout_options *layout)
{
	struct hbm_layout *made = layouts_new(layout);
	const struct hbm_pool_options options = {.layout = made, .max_sequences = SEQUENCES};
	struct hbm_pool *pool = NULL;

	if (hbm_pool_open(hbm, &options, &pool) != 0)
		fail_msg("hbm_pool_open(): %s", hbm_error(hbm));
	hbm_layout_free(made);

	return pool;
}

/* A slot has whole steps and whole pages: of some made-up dimensions that are terabytes. */
static bool fits(const struct hbm_layout_options *options)
{
	struct hbm_layout *layout = layouts_new(options);
	struct hbm_layout_facts facts;

	hbm_layout_facts(layout, &facts);
	hbm_layout_free(layout);

	return facts.slot_bytes <= ADDRESS_SPACE / SEQUENCES;
}

/* Some dimensions so large that a piece has few tokens. */
static void make_up_one(struct made_up_layout *made_up)
{
	layouts_make_up(&seed, made_up);

	struct hbm_layout_options *options = &made_up->options;

	if (options->order != HBM_ORDER_BLOCK)
		options->page_tokens = 0;
	const uint32_t factor = !options->page_tokens && seed_below(&seed, 2)
					? 1 + (uint32_t)seed_below(&seed, 400)
					: 1;

	options->layer.head_dim *= factor;
	for (uint32_t i = 0; i < LAYOUTS_LAYERS; i++)
		made_up->layers[i].head_dim *= factor;
	options->layers = made_up->layers;
}

static void make_up(struct made_up_layout *made_up)
{
	do
		make_up_one(made_up);
	while (!fits(&made_up->options));
}

/* A sequence that has grown in some steps, and was slid. */
static struct hbm_sequence *grown(struct hbm_pool *pool, const struct contents *contents)
{
	const uint64_t max = hbm_layout_options(hbm_pool_layout(pool))->max_tokens;
	const uint64_t end = 1 + seed_below(&seed, max), step = 1 + seed_below(&seed, max);
	struct hbm_sequence *sequence;

	assert_int_equal(hbm_sequence_open(pool, NULL, &sequence), 0);
	for (uint64_t tokens = 0, next; tokens < end; tokens = next) {
		next = tokens + step < end ? tokens + step : end;
		if (hbm_step(pool, &sequence, &next, 1) != 0)
			fail_msg("hbm_step(): %s", hbm_pool_error(pool));
		contents_write(contents, sequence, tokens, next);
	}
	if (seed_below(&seed, 2))
		assert_int_equal(hbm_sequence_slide(sequence, seed_below(&seed, end)), 0);

	return sequence;
}

/* The part of a layout that a slice is, in an order of its own. */
static void part_of_one(const struct made_up_layout *whole, const struct hbm_slice *slice,
			struct made_up_layout *part)
{
	struct hbm_layout_options *options = &part->options;

	*part = *whole;
	options->order = (enum hbm_layout_order)seed_below(&seed, HBM_LAYOUT_ORDERS);
	options->values_first = seed_below(&seed, 2);
	options->heads_first = options->order == HBM_ORDER_BLOCK && seed_below(&seed, 2);
	options->page_tokens =
		options->order == HBM_ORDER_BLOCK ? 1 + (uint32_t)seed_below(&seed, 5) : 0;
	options->max_tokens += seed_below(&seed, 9);
	options->layers = part->layers;
	options->layer_count = slice->layers;
	for (uint32_t i = 0; i < slice->layers; i++) {
		part->layers[i] = whole->layers[slice->first_layer + i];
		if (slice->heads && part->layers[i].heads)
			part->layers[i].heads = slice->heads;
	}
}

static void part_of(const struct made_up_layout *whole, const struct hbm_slice *slice,
		    struct made_up_layout *part)
{
	do
		part_of_one(whole, slice, part);
	while (!fits(&part->options));
}

static struct hbm_slice slice_of(const struct made_up_layout *whole)
{
	struct hbm_slice slice = {.layers = whole->options.layer_count};
	uint32_t heads = 4;

	if (seed_below(&seed, 3) == 0)
		return slice;

	slice.first_layer = (uint32_t)seed_below(&seed, slice.layers);
	slice.layers = 1 + (uint32_t)seed_below(&seed, slice.layers - slice.first_layer);
	for (uint32_t i = 0; i < slice.layers; i++) {
		const uint32_t has = whole->layers[slice.first_layer + i].heads;

		heads = has && has < heads ? has : heads;
	}
	if (seed_below(&seed, 2)) {
		slice.first_head = (uint32_t)seed_below(&seed, heads);
		slice.heads = 1 + (uint32_t)seed_below(&seed, heads - slice.first_head);
	}

	return slice;
}

/* What of it is saved: its layers and heads are those that the sequence keeps. */
static void keep_some(struct made_up_layout *whole, struct hbm_sequence *sequence,
		      struct contents *contents)
{
	struct hbm_slice slice = slice_of(whole);
	uint64_t set[LAYOUTS_LAYERS + 8];
	bool has_heads = false;

	for (uint32_t i = 0; i < slice.layers; i++)
		set[i] = slice.first_layer + i;
	for (uint32_t i = 0; i < slice.layers; i++)
		has_heads |= whole->layers[slice.first_layer + i].heads > 0;
	if (!has_heads)
		slice.first_head = slice.heads = 0;
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, set, slice.layers), 0);
	for (uint32_t i = 0; i < slice.heads; i++)
		set[i] = slice.first_head + i;
	if (slice.heads)
		assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_HEADS, set, slice.heads), 0);

	struct made_up_layout part = *whole;

	part_of(whole, &slice, &part);
	part.options.max_tokens = whole->options.max_tokens;
	*whole = part;
	whole->options.layers = whole->layers;
	contents->first_layer = slice.first_layer;
	contents->first_head = slice.first_head;
}

/* Of what was saved with those contents. */
static void check_slice(const struct made_up_layout *whole, const struct contents *saved,
			const struct hbm_sequence_facts *facts)
{
	const struct hbm_slice slice = slice_of(whole);
	struct contents contents = *saved;
	struct made_up_layout part;
	struct hbm_sequence_facts now;
	struct hbm_sequence *sequence;

	contents.first_layer += slice.first_layer;
	contents.first_head += slice.first_head;
	part_of(whole, &slice, &part);
	struct hbm_pool *pool = pool_of(&part.options);
	int r = hbm_sequence_restore_slice(pool, &space, "it", &slice, NULL, &sequence);

	if (r)
		fail_msg("hbm_sequence_restore_slice(): %d, %s", r, hbm_pool_error(pool));
	assert_int_equal(hbm_sequence_facts(sequence, &now), 0);
	assert_int_equal(now.first, facts->first);
	assert_int_equal(now.tokens, facts->tokens);
	if (!contents_are(&contents, sequence, now.first, now.tokens))
		fail_msg("layers from %u, heads from %u: other bytes", slice.first_layer,
			 slice.first_head);
	assert_int_equal(hbm_pool_close(pool), 0);
}

static void save_into_others(uint64_t round)
{
	const struct hbm_save_options options = {.space = space};
	struct contents contents = {.kv = &kv, .tag = round};
	struct made_up_layout whole;
	struct hbm_sequence_facts facts;
	uint64_t saved;

	make_up(&whole);
	struct hbm_pool *pool = pool_of(&whole.options);
	const struct hbm_save save = {grown(pool, &contents), "it", round};

	if (seed_below(&seed, 2))
		keep_some(&whole, save.sequence, &contents);
	if (hbm_sequences_save(pool, &save, 1, &options, &saved) != 0)
		fail_msg("hbm_sequences_save(): %s", hbm_pool_error(pool));
	assert_int_equal(hbm_sequence_facts(save.sequence, &facts), 0);
	assert_int_equal(saved, facts.tokens);
	assert_int_equal(hbm_pool_close(pool), 0);

	for (unsigned i = 0; i < 4; i++)
		check_slice(&whole, &contents, &facts);
}

static void test_every_layout_into_every_other(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	hbm = spawn_connect(&daemon_);
	kv_enter(&kv, hbm, 0);
	seed_open(&seed, "test_saved_slices");

	for (uint64_t round = 1; round <= ROUNDS; round++)
		save_into_others(round);

	kv_leave(&kv);
	hbm_close(hbm);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_layout_into_every_other, stage_setup,
						stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
