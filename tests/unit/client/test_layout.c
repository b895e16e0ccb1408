/* SPDX-License-Identifier: Apache-2.0 */
/* What layouts take: golden values of the running example (Yi-34B), every built-in model
 * against the arithmetic of plans, layouts at random against a count of the slabs that their
 * tokens touch, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "client/plan/cost.h"
#include "tests/support/layouts.h"
#include "tests/support/plan_example.h"

#define MIB ((uint64_t)1 << 20)
#define ROUNDS 300
#define SLABS 256u /* of a made-up buffer at most */

static const struct hbm_layout_options yi = {
	.layer_count = 60,
	.layer = {.heads = 8, .head_dim = 128, .element_bytes = 2},
	.max_tokens = 200000,
};

static struct hbm_layout_facts facts_of(const struct hbm_layout_options *options)
{
	struct hbm_layout *layout = layouts_new(options);
	struct hbm_layout_facts facts;

	hbm_layout_facts(layout, &facts);
	hbm_layout_free(layout);

	return facts;
}

static uint64_t bytes_of(const struct hbm_layout_options *options, uint64_t tokens)
{
	struct hbm_layout *layout = layouts_new(options);
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_use(layout, tokens, &use), 0);
	hbm_layout_free(layout);

	return use.kv_bytes;
}

/* ---- Golden values ---- */

static void test_golden_page_group(void **state)
{
	(void)state;
	struct hbm_layout_options options = yi;
	struct hbm_layout_facts facts = facts_of(&options);

	assert_int_equal(facts.buffers, 2);
	assert_int_equal(facts.groups, 1);
	assert_int_equal(facts.page_group_bytes, 4 * MIB);
	assert_int_equal(facts.token_bytes, 245760);

	options.order = HBM_ORDER_LAYER;
	facts = facts_of(&options);
	assert_int_equal(facts.buffers, 120);
	assert_int_equal(facts.groups, 60);
	assert_int_equal(facts.page_group_bytes, 240 * MIB);
	assert_int_equal(facts.token_bytes, 245760);

	options.order = HBM_ORDER_BLOCK;
	options.page_tokens = 16;
	facts = facts_of(&options);
	assert_int_equal(facts.buffers, 1);
	assert_int_equal(facts.page_group_bytes, 2 * MIB);
	assert_int_equal(facts.token_bytes, 245760);

	options.group_slabs = 3;
	options.slab_bytes = 8 * MIB;
	assert_int_equal(facts_of(&options).page_group_bytes, 24 * MIB);
}

static void test_golden_kv_bytes(void **state)
{
	(void)state;
	static const uint64_t cases[][2] = {
		{0, 0}, {1, 245760}, {4000, 983040000}, {50000, 12288000000}, {100000, 24576000000},
	};
	struct hbm_layout_options options = yi;

	options.page_tokens = 16;
	for (int order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		options.order = (enum hbm_layout_order)order;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			assert_int_equal(bytes_of(&options, cases[i][0]), cases[i][1]);
	}
}

static void test_golden_slabs(void **state)
{
	(void)state;
	struct hbm_layout_options options = yi;
	struct hbm_layout *layout = layouts_new(&options);
	struct hbm_buffer buffer;
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_buffer(layout, 1, &buffer), 0);
	assert_int_equal(buffer.token_bytes, 122880);
	assert_int_equal(buffer.slab_tokens, 17);
	assert_true(buffer.straddles);
	/* 200,000 * 122,880 B = 11,718.75 slabs */
	assert_int_equal(buffer.address_space, 11719 * 2 * MIB);
	assert_int_equal(buffer.offset, buffer.address_space);
	/* 17.07 tokens in a slab: 18 take two. */
	hbm_layout_use(layout, 17, &use);
	assert_int_equal(use.slabs, 2);
	hbm_layout_use(layout, 18, &use);
	assert_int_equal(use.slabs, 4);
	/* The greatest common divisor of a token and a slab is 8 KiB. */
	assert_int_equal(buffer.waste_bytes, 2 * MIB - 8192);
	layout = hbm_layout_free(layout);

	options.order = HBM_ORDER_LAYER;
	layout = layouts_new(&options);
	hbm_layout_buffer(layout, 119, &buffer);
	assert_int_equal(buffer.slab_tokens, 1024);
	assert_false(buffer.straddles);
	hbm_layout_use(layout, 1024, &use);
	assert_int_equal(use.slabs, 120);
	hbm_layout_use(layout, 1025, &use);
	assert_int_equal(use.slabs, 240);
	hbm_layout_free(layout);

	const struct hbm_layout_facts facts = facts_of(&options);
	assert_int_equal(facts.waste_bytes, 120 * (2 * MIB - 2048));
	/* of 251,412,480 B in 49,403,412,480 */
	assert_int_equal(facts.waste_fraction * 1e9, 5088969);
}

/* Pages of block order: tokens are counted one by one, and cross slabs with their page. */
static void test_golden_pages(void **state)
{
	(void)state;
	struct hbm_layout_options options = yi;
	struct hbm_buffer buffer;

	options.order = HBM_ORDER_BLOCK;
	options.page_tokens = 16;
	struct hbm_layout *layout = layouts_new(&options);
	assert_int_equal(hbm_layout_buffer(layout, 0, &buffer), 0);
	assert_int_equal(buffer.page_tokens, 16);
	assert_int_equal(buffer.token_bytes, 245760);
	assert_int_equal(buffer.slab_tokens, 8);
	assert_true(buffer.straddles);
	/* 15 tokens of a page, and slabs of which a page leaves multiples of 256 KiB. */
	assert_int_equal(buffer.waste_bytes, 15 * 245760 + 2 * MIB - 262144);
	hbm_layout_free(layout);

	/* Tokens of 1 MiB: pages of 16 lie across slabs, pages of 2 do not. */
	options.layer.head_dim = 512;
	options.layer_count = 64;
	layout = layouts_new(&options);
	hbm_layout_buffer(layout, 0, &buffer);
	assert_true(buffer.straddles);
	layout = hbm_layout_free(layout);

	options.page_tokens = 2;
	layout = layouts_new(&options);
	hbm_layout_buffer(layout, 0, &buffer);
	assert_false(buffer.straddles);
	assert_int_equal(buffer.slab_tokens, 2);
	hbm_layout_free(layout);
}

/* A slot is a whole number of pages of every group, also of pages larger than a slab. */
static void test_slot_of_whole_pages(void **state)
{
	(void)state;
	static const struct hbm_layer layers[] = {
		{.heads = 1, .head_dim = 1 << 20, .element_bytes = 2},
		{.heads = 1, .head_dim = 1, .element_bytes = 1},
	};
	struct hbm_layout_options options = {.layer_count = 2,
					     .layers = layers,
					     .order = HBM_ORDER_BLOCK,
					     .page_tokens = 1,
					     .max_tokens = 3};

	/* 12 MiB and 2 MiB; pages of 4 MiB */
	assert_int_equal(facts_of(&options).slot_bytes, 16 * MIB);
	options.page_tokens = 3;
	assert_int_equal(facts_of(&options).slot_bytes, 24 * MIB);
	options.order = HBM_ORDER_TOKEN;
	options.page_tokens = 0;
	assert_int_equal(facts_of(&options).slot_bytes, 16 * MIB);
}

/* DeepSeek-V3: a latent of 512 and 64 rotary elements in 61 layers. */
static void test_latents(void **state)
{
	(void)state;
	const struct hbm_layout_options options = {
		.layer_count = 61,
		.layer = {.heads = 1, .head_dim = 576, .element_bytes = 2, .keys_only = true},
		.max_tokens = 163840,
	};
	const struct hbm_layout_facts facts = facts_of(&options);

	assert_int_equal(facts.buffers, 1);
	assert_int_equal(facts.token_bytes, 70272);
	assert_int_equal(facts.page_group_bytes, 2 * MIB);
	assert_int_equal(bytes_of(&options, 163840), 163840ull * 70272);
}

/* Gemma-3-27B: 5 layers with a window of 1,024 to each without. */
static void test_mixed_windows(void **state)
{
	(void)state;
	struct hbm_layer layers[62];
	const struct hbm_layout_options options = {
		.layer_count = 62, .layers = layers, .max_tokens = 131072};

	for (uint32_t i = 0; i < 62; i++)
		layers[i] = (struct hbm_layer){.heads = 16,
					       .head_dim = 128,
					       .element_bytes = 2,
					       .window = i % 6 == 5 ? 0 : 1024};

	const struct hbm_layout_facts facts = facts_of(&options);
	assert_int_equal(facts.groups, 2);
	assert_int_equal(facts.buffers, 4);
	assert_int_equal(bytes_of(&options, 131072), 8192ull * (10 * 131072 + 52 * 1024));

	/* What is mapped of the windows no longer grows. */
	struct hbm_layout *layout = layouts_new(&options);
	struct hbm_buffer buffer;
	uint64_t offset, bytes;
	hbm_layout_buffer(layout, 0, &buffer);
	assert_int_equal(buffer.window, 1024);
	hbm_layout_range(layout, 0, 100000 - 1024, 100000, &offset, &bytes);
	assert_in_range(bytes, 1024 * buffer.token_bytes,
			1024 * buffer.token_bytes + buffer.waste_bytes);
	assert_in_range(offset, 98000 * buffer.token_bytes, 98976 * buffer.token_bytes);
	hbm_layout_free(layout);
}

static void test_states(void **state)
{
	(void)state;
	struct hbm_layer layers[3] = {
		{.state_bytes = 1000},
		{.heads = 2, .head_dim = 64, .element_bytes = 2},
		{.state_bytes = 3 * MIB},
	};
	struct hbm_layout_options options = {
		.layer_count = 3, .layers = layers, .max_tokens = 1000};
	struct hbm_layout *layout = layouts_new(&options);
	struct hbm_layout_use use;
	uint64_t offset, bytes;

	assert_int_equal(hbm_layout_state(layout, 0, &offset, &bytes), 0);
	assert_int_equal(offset, 0);
	assert_int_equal(bytes, 1000);
	assert_int_equal(hbm_layout_state(layout, 2, &offset, &bytes), 0);
	assert_int_equal(offset, 1024);
	assert_int_equal(bytes, 3 * MIB);
	assert_int_equal(hbm_layout_state(layout, 1, &offset, &bytes), HBM_INVALID);

	hbm_layout_use(layout, 0, &use);
	assert_int_equal(use.slabs, 0);
	hbm_layout_use(layout, 1, &use);
	assert_int_equal(use.slabs, 4);
	assert_int_equal(use.kv_bytes, 1000 + 3 * MIB + 512);
	hbm_layout_free(layout);

	options.layers = NULL;
	options.layer = layers[0];
	const struct hbm_layout_facts facts = facts_of(&options);
	assert_int_equal(facts.page_group_bytes, 0);
	assert_int_equal(facts.token_bytes, 0);
	assert_int_equal(facts.state_bytes, 3000);
	assert_int_equal(facts.waste_bytes, 2 * MIB - 3000);
	assert_int_equal(bytes_of(&options, 1), bytes_of(&options, 1000));
}

/* ---- Against plans ---- */

static struct hbm_layout_options options_of(const struct plan_model *model,
					    struct hbm_layer *layers)
{
	for (uint32_t i = 0; i < model->layers; i++)
		layers[i] = (struct hbm_layer){
			.heads = model->latent_dim ? 1 : model->kv_heads,
			.head_dim = model->latent_dim ? model->latent_dim : model->head_dim,
			.element_bytes = model->element_bits / 8,
			.window = i < model->windowed_layers ? model->window : 0,
			.keys_only = model->latent_dim > 0,
		};

	return (struct hbm_layout_options){
		.layer_count = model->layers, .layers = layers, .max_tokens = model->max_context};
}

static void test_as_in_plans(void **state)
{
	(void)state;
	static struct hbm_layer layers[HBM_LAYERS_MAX];
	const struct plan_load load = plan_load_default();

	for (size_t i = 0; i < plan_model_count; i++) {
		const struct plan_model *model = &plan_models[i];
		const struct hbm_layout_options options = options_of(model, layers);
		const uint64_t cases[] = {1, 100, 4000, model->max_context};

		for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
			uint64_t planned;

			assert_int_equal(plan_kv_bytes(model, &load, cases[k], &planned), 0);
			assert_int_equal(bytes_of(&options, cases[k]), planned);
		}
	}
}

/* ---- At random ---- */

/* Layers of a token as large as some slabs, so that slabs of a few tokens can be counted. */
static void enlarge(struct seed *seed, struct made_up_layout *made_up)
{
	struct hbm_layout_options *options = &made_up->options;

	for (uint32_t i = 0; i < options->layer_count; i++) {
		struct hbm_layer *layer = &made_up->layers[i];

		if (layer->state_bytes)
			layer->state_bytes *= 1 + seed_below(seed, 2000);
		else
			layer->head_dim = (128u << 10) * (1 + (uint32_t)seed_below(seed, 9)) /
					  layer->element_bytes;
		layer->heads = layer->state_bytes ? 0 : 1;
	}
	options->layers = made_up->layers;
	if (options->page_tokens > 3)
		options->page_tokens = 3;
}

struct touched {
	const struct made_up_layout *made_up;
	uint64_t tokens, step_bytes;
	uint64_t kv_bytes;
	bool steps[2 * LAYOUTS_LAYERS][SLABS];
	const struct hbm_layout *layout;
};

static void touch(struct touched *touched, uint32_t buffer, uint64_t begin, uint64_t bytes)
{
	struct hbm_buffer of;

	hbm_layout_buffer(touched->layout, buffer, &of);
	for (uint64_t step = (begin - of.offset) / touched->step_bytes;
	     step <= (begin - of.offset + bytes - 1) / touched->step_bytes; step++) {
		assert_in_range(step, 0, SLABS - 1);
		touched->steps[buffer][step] = true;
	}
}

static void touch_head(const struct layouts_head *head, void *arg)
{
	struct touched *touched = arg;
	const struct hbm_layer *layer = &touched->made_up->layers[head->layer];
	const uint64_t bytes = layer->state_bytes +
			       (uint64_t)layer->head_dim * layer->element_bytes,
		       pages = touched->made_up->options.page_tokens,
		       page_tokens = pages ? pages : 1, tokens = touched->tokens;
	uint64_t begin = 0, first = head->token / page_tokens * page_tokens;

	if (tokens == 0)
		return;
	if (layer->window && tokens > layer->window)
		begin = tokens - layer->window;

	if (layer->state_bytes || (head->token >= begin && head->token < tokens))
		touched->kv_bytes += bytes;
	/* A page is needed if any token of it is. */
	if (layer->state_bytes || (first < tokens && first + page_tokens > begin))
		touch(touched, head->buffer, head->offset, bytes);
}

static void count_touched(struct touched *touched, uint64_t tokens, struct hbm_layout_use *use)
{
	struct hbm_layout_facts facts;

	hbm_layout_facts(touched->layout, &facts);
	memset(touched->steps, 0, sizeof(touched->steps));
	touched->tokens = tokens;
	touched->kv_bytes = 0;
	layouts_walk(touched->made_up, touch_head, touched);

	*use = (struct hbm_layout_use){.kv_bytes = touched->kv_bytes};
	for (uint32_t i = 0; i < facts.buffers; i++)
		for (uint32_t k = 0; k < SLABS; k++)
			use->mapped_bytes += touched->steps[i][k] ? touched->step_bytes : 0;
	use->slabs = use->mapped_bytes / HBM_LAYOUT_SLAB;
}

/* Each step that a token touches is mapped, and no other; the worst waste is never exceeded.
 * Returns the largest waste that was seen. */
static uint64_t check_use(const struct made_up_layout *made_up, const struct hbm_layout *layout)
{
	const struct hbm_layout_options *options = hbm_layout_options(layout);
	struct touched touched = {.made_up = made_up,
				  .layout = layout,
				  .step_bytes = options->slab_bytes * options->group_slabs};
	struct hbm_layout_facts facts;
	uint64_t worst = 0;

	hbm_layout_facts(layout, &facts);
	for (uint64_t tokens = 0; tokens <= options->max_tokens; tokens++) {
		struct hbm_layout_use counted, use;

		count_touched(&touched, tokens, &counted);
		assert_int_equal(hbm_layout_use(layout, tokens, &use), 0);
		assert_int_equal(use.kv_bytes, counted.kv_bytes);
		assert_int_equal(use.mapped_bytes, counted.mapped_bytes);
		assert_int_equal(use.slabs, counted.slabs);

		const uint64_t waste = use.mapped_bytes - use.kv_bytes;
		assert_true(waste <= facts.waste_bytes);
		worst = waste > worst ? waste : worst;
	}

	return worst;
}

static void test_use_at_random(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "layout");
	for (int round = 0; round < ROUNDS; round++) {
		struct made_up_layout made_up;

		layouts_make_up(&seed, &made_up);
		enlarge(&seed, &made_up);
		struct hbm_layout *layout = layouts_new(&made_up.options);
		check_use(&made_up, layout);
		hbm_layout_free(layout);
	}
}

/* With enough tokens the worst waste is met, not only bounded. */
static void test_worst_waste_is_met(void **state)
{
	(void)state;

	for (uint32_t window = 0; window < 12; window++)
		for (uint32_t page_tokens = 0; page_tokens < 4; page_tokens++)
			for (uint32_t part = 1; part < 24; part += 2) {
				struct made_up_layout made_up = {
					.options = {.layer_count = 1,
						    .order = page_tokens ? HBM_ORDER_BLOCK
									 : HBM_ORDER_TOKEN,
						    .page_tokens = page_tokens,
						    .max_tokens = 64}};
				made_up.layers[0] = (struct hbm_layer){.heads = 1,
								       .head_dim = part << 18,
								       .element_bytes = 1,
								       .window = window,
								       .keys_only = true};
				made_up.options.layers = made_up.layers;

				struct hbm_layout *layout = layouts_new(&made_up.options);
				struct hbm_layout_facts facts;
				hbm_layout_facts(layout, &facts);
				assert_int_equal(check_use(&made_up, layout), facts.waste_bytes);
				hbm_layout_free(layout);
			}
}

/* What is mapped for some tokens has room for them, and the next token that has none needs
 * more. */
static void check_room(const struct hbm_layout *layout, uint32_t buffer)
{
	const uint64_t max_tokens = hbm_layout_options(layout)->max_tokens;

	for (uint64_t tokens = 1; tokens <= max_tokens; tokens++) {
		uint64_t offset, bytes, more;

		assert_int_equal(hbm_layout_range(layout, buffer, 0, tokens, &offset, &bytes), 0);
		const uint64_t room = hbm_layout_room(layout, buffer, bytes);
		assert_in_range(room, tokens, max_tokens);
		assert_int_equal(hbm_layout_range(layout, buffer, 0, room, &offset, &more), 0);
		assert_int_equal(more, bytes);
		if (room == max_tokens)
			continue;

		hbm_layout_range(layout, buffer, 0, room + 1, &offset, &more);
		assert_true(more > bytes);
	}
}

static void test_room_at_random(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "layout");
	for (int round = 0; round < ROUNDS; round++) {
		struct made_up_layout made_up;
		struct hbm_layout_facts facts;

		layouts_make_up(&seed, &made_up);
		enlarge(&seed, &made_up);
		struct hbm_layout *layout = layouts_new(&made_up.options);
		hbm_layout_facts(layout, &facts);
		for (uint32_t i = 0; i < facts.buffers; i++) {
			check_room(layout, i);
			assert_int_equal(hbm_layout_room(layout, i, 0), 0);
		}
		assert_int_equal(hbm_layout_room(layout, facts.buffers, UINT64_MAX), 0);
		hbm_layout_free(layout);
	}
}

static void test_ranges(void **state)
{
	(void)state;
	struct hbm_layout *layout = layouts_new(&yi);
	uint64_t offset = 7, bytes = 7;

	assert_int_equal(hbm_layout_range(layout, 2, 0, 1, &offset, &bytes), HBM_INVALID);
	assert_int_equal(hbm_layout_range(layout, 0, 2, 1, &offset, &bytes), HBM_INVALID);
	assert_int_equal(hbm_layout_range(layout, 0, 0, 200001, &offset, &bytes), HBM_INVALID);
	assert_int_equal(offset, 7);
	assert_int_equal(bytes, 7);

	assert_int_equal(hbm_layout_range(layout, 1, 0, 200000, &offset, &bytes), 0);
	assert_int_equal(offset, 11719 * 2 * MIB);
	assert_int_equal(bytes, 11719 * 2 * MIB);
	assert_int_equal(hbm_layout_range(layout, 0, 17, 18, &offset, &bytes), 0);
	assert_int_equal(offset, 0);
	assert_int_equal(bytes, 4 * MIB);
	assert_int_equal(hbm_layout_range(layout, 0, 18, 19, &offset, &bytes), 0);
	assert_int_equal(offset, 2 * MIB);
	assert_int_equal(bytes, 2 * MIB);
	assert_int_equal(hbm_layout_range(layout, 0, 18, 18, &offset, &bytes), 0);
	assert_int_equal(bytes, 0);

	struct hbm_layout_use use;
	struct hbm_buffer buffer;
	assert_int_equal(hbm_layout_use(layout, 200001, &use), HBM_INVALID);
	assert_int_equal(hbm_layout_buffer(layout, 2, &buffer), HBM_INVALID);
	hbm_layout_free(layout);
}

/* ---- What is refused ---- */

#define KV                                                                                         \
	{                                                                                          \
		.heads = 8, .head_dim = 128, .element_bytes = 2                                    \
	}

static const struct hbm_layer both = {.heads = 1, .state_bytes = 8};
static const struct hbm_layer pages_apart[] = {
	{.heads = 1, .head_dim = 1048573, .element_bytes = 1},
	{.heads = 1, .head_dim = 1048571, .element_bytes = 1, .window = 1},
};
static const struct {
	struct hbm_layout_options options;
	const char *why;
} refusals[] = {
	{{.layer = KV, .max_tokens = 1}, "0 layers, where 1 to 4096 are possible"},
	{{.layer_count = 4097, .layer = KV, .max_tokens = 1},
	 "4097 layers, where 1 to 4096 are possible"},
	{{.layer_count = 1, .layer = KV}, "a sequence of at most 0 tokens"},
	{{.layer_count = 1, .layer = {.head_dim = 128, .element_bytes = 2}, .max_tokens = 1},
	 "layer 0 has 0 heads of 128 elements"},
	{{.layer_count = 1, .layer = {.heads = 8, .element_bytes = 2}, .max_tokens = 1},
	 "layer 0 has 8 heads of 0 elements"},
	{{.layer_count = 1,
	  .layer = {.heads = 8, .head_dim = 128, .element_bytes = 3},
	  .max_tokens = 1},
	 "layer 0 has elements of 3 bytes, not of 1, 2, 4 or 8"},
	{{.layer_count = 1,
	  .layer = {.heads = 8, .head_dim = 128, .element_bytes = 16},
	  .max_tokens = 1},
	 "layer 0 has elements of 16 bytes, not of 1, 2, 4 or 8"},
	{{.layer_count = 1,
	  .layer = {.heads = UINT32_MAX, .head_dim = UINT32_MAX, .element_bytes = 8},
	  .max_tokens = 1},
	 "layer 0 has more bytes for a token than a device can address"},
	{{.layer_count = 1, .layer = {.state_bytes = UINT64_MAX}, .max_tokens = 1},
	 "layer 0 has a state of 18446744073709551615 bytes"},
	{{.layer_count = 1, .layers = &both, .max_tokens = 1},
	 "layer 0 has a state and also heads, or a window"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .slab_bytes = 3 * MIB},
	 "slabs of 3145728 bytes, not of 2 MiB times a power of two up to 1 GiB"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .slab_bytes = 1 * MIB},
	 "slabs of 1048576 bytes, not of 2 MiB times a power of two up to 1 GiB"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .slab_bytes = 2048 * MIB},
	 "slabs of 2147483648 bytes, not of 2 MiB times a power of two up to 1 GiB"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .order = (enum hbm_layout_order)3},
	 "there is no order 3"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .order = HBM_ORDER_BLOCK},
	 "block order needs the tokens of a page"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .heads_first = true},
	 "heads come first only in pages of block order"},
	{{.layer_count = 60, .layer = KV, .max_tokens = UINT64_MAX},
	 "a sequence of 18446744073709551615 tokens takes more than the 140737488355328 "
	 "bytes that a device can address"},
	{{.layer_count = 60, .layer = KV, .max_tokens = 572662307},
	 "a sequence of 572662307 tokens takes more than the 140737488355328 bytes that a "
	 "device can address"},
	{{.layer_count = 1, .layer = KV, .max_tokens = 1, .group_slabs = UINT32_MAX},
	 "a sequence of 1 tokens takes more than the 140737488355328 bytes that a device "
	 "can address"},
	{{.layer_count = 4096, .layer = {.state_bytes = 1ull << 40}, .max_tokens = 1},
	 "a sequence of 1 tokens takes more than the 140737488355328 bytes that a device "
	 "can address"},
	{{.layer_count = 2, .layers = pages_apart, .max_tokens = 1, .page_tokens = 64},
	 "no number of bytes up to 140737488355328 holds whole pages of 64 tokens of all "
	 "layers"},
};

static void test_refused(void **state)
{
	(void)state;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		struct hbm_layout *layout = (void *)state;
		char error[256] = "";

		assert_int_equal(
			hbm_layout_new(&layout, &refusals[i].options, error, sizeof(error)),
			HBM_INVALID);
		assert_string_equal(error, refusals[i].why);
		assert_ptr_equal(layout, state);
		assert_int_equal(hbm_layout_new(&layout, &refusals[i].options, NULL, 0),
				 HBM_INVALID);
		assert_int_equal(hbm_layout_new(&layout, &refusals[i].options, error, 9),
				 HBM_INVALID);
		assert_int_equal(strlen(error), 8);
	}
	assert_null(hbm_layout_free(NULL));
}

/* States have no pages. */
static void test_states_and_large_pages(void **state)
{
	(void)state;
	const struct hbm_layout_options options = {.layer_count = 1,
						   .layer = {.state_bytes = 1ull << 40},
						   .page_tokens = 1u << 31,
						   .max_tokens = 1};

	assert_int_equal(facts_of(&options).slot_bytes, 1ull << 40);
}

/* The largest that fits: one token more was refused above. */
static void test_largest(void **state)
{
	(void)state;
	struct hbm_layout_options options = yi;

	options.max_tokens = 572662306;
	assert_int_equal(facts_of(&options).slot_bytes, HBM_LAYOUT_SLOT_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_page_group),
		cmocka_unit_test(test_golden_kv_bytes),
		cmocka_unit_test(test_golden_slabs),
		cmocka_unit_test(test_golden_pages),
		cmocka_unit_test(test_slot_of_whole_pages),
		cmocka_unit_test(test_latents),
		cmocka_unit_test(test_mixed_windows),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_as_in_plans),
		cmocka_unit_test(test_use_at_random),
		cmocka_unit_test(test_worst_waste_is_met),
		cmocka_unit_test(test_room_at_random),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_states_and_large_pages),
		cmocka_unit_test(test_largest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
