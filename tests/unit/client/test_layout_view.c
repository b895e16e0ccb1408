/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and strides of layouts at random, against a walk that lays the heads out one after
 * the other; and what has no strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/layouts.h"

#define ROUNDS 500
#define SLOT 5u /* of a region */

struct comparison {
	const struct made_up_layout *made_up;
	const struct hbm_layout *layout;
	uint64_t slot_bytes;
	uint64_t heads; /* compared so far */
};

static uint64_t part_of(const struct hbm_kv_view *view, enum hbm_kv_part part)
{
	return part == HBM_KEYS ? view->keys : view->values;
}

static void compare_contiguous(const struct comparison *comparison, const struct layouts_head *head)
{
	struct hbm_kv_view view;

	assert_int_equal(hbm_layout_view(comparison->layout, head->layer, 0, &view, NULL, 0), 0);
	assert_int_equal(view.page_stride, 0);
	assert_int_equal(view.page_tokens, 0);
	assert_int_equal(part_of(&view, head->part) +
				 view.element_bytes * (SLOT * view.batch_stride +
						       head->token * view.token_stride +
						       head->head * view.head_stride),
			 SLOT * comparison->slot_bytes + head->offset);
}

static void compare_pages(const struct comparison *comparison, const struct layouts_head *head,
			  uint32_t page_tokens)
{
	struct hbm_kv_view view;

	assert_int_equal(
		hbm_layout_view(comparison->layout, head->layer, page_tokens, &view, NULL, 0), 0);
	assert_int_equal(view.page_tokens, page_tokens);
	assert_int_equal(view.batch_stride * view.element_bytes, comparison->slot_bytes);
	assert_int_equal(view.batch_stride % view.page_stride, 0);

	const uint64_t page =
		SLOT * (view.batch_stride / view.page_stride) + head->token / page_tokens;
	assert_int_equal(part_of(&view, head->part) +
				 view.element_bytes *
					 (page * view.page_stride +
					  head->token % page_tokens * view.token_stride +
					  head->head * view.head_stride),
			 SLOT * comparison->slot_bytes + head->offset);
}

static void compare_head(const struct layouts_head *head, void *arg)
{
	struct comparison *comparison = arg;
	const struct hbm_layout_options *options = &comparison->made_up->options;
	const struct hbm_layer *layer = &comparison->made_up->layers[head->layer];
	struct hbm_buffer buffer;
	uint64_t offset, bytes;

	assert_int_equal(hbm_layout_buffer(comparison->layout, head->buffer, &buffer), 0);
	assert_in_range(head->offset, buffer.offset, buffer.offset + buffer.address_space - 1);
	comparison->heads++;

	if (layer->state_bytes) {
		assert_int_equal(hbm_layout_state(comparison->layout, head->layer, &offset, &bytes),
				 0);
		assert_int_equal(offset, head->offset);
		assert_int_equal(bytes, layer->state_bytes);
		return;
	}

	const bool is_beyond = head->token >= options->max_tokens; /* to the last whole page */
	assert_int_equal(hbm_layout_offset(comparison->layout, head->layer, head->part, head->token,
					   head->head, &offset),
			 is_beyond ? HBM_INVALID : 0);
	if (!is_beyond)
		assert_int_equal(offset, head->offset);
	if (options->order != HBM_ORDER_BLOCK)
		compare_contiguous(comparison, head);
	for (uint32_t p = 1; p <= options->page_tokens; p++)
		if (p == options->page_tokens ||
		    (options->order != HBM_ORDER_BLOCK && options->page_tokens % p == 0))
			compare_pages(comparison, head, p);
}

static void test_addresses_at_random(void **state)
{
	(void)state;
	struct seed seed;
	uint64_t heads = 0;

	seed_open(&seed, "layout_view");
	for (int round = 0; round < ROUNDS; round++) {
		struct made_up_layout made_up;
		struct hbm_layout_facts facts;

		layouts_make_up(&seed, &made_up);
		struct hbm_layout *layout = layouts_new(&made_up.options);
		hbm_layout_facts(layout, &facts);
		struct comparison comparison = {
			.made_up = &made_up, .layout = layout, .slot_bytes = facts.slot_bytes};

		const uint64_t end = layouts_walk(&made_up, compare_head, &comparison);
		assert_true(facts.slot_bytes >= end);
		assert_int_equal(facts.slot_bytes % HBM_LAYOUT_SLAB, 0);
		if (made_up.options.page_tokens == 0)
			assert_int_equal(facts.slot_bytes, end);

		heads += comparison.heads;
		hbm_layout_free(layout);
	}
	assert_true(heads > ROUNDS);
}

/* One of each order, by hand: 2 layers of 3 heads of 4 elements of 2 bytes. */
static void test_by_hand(void **state)
{
	(void)state;
	struct hbm_layout_options options = {
		.layer_count = 2,
		.layer = {.heads = 3, .head_dim = 4, .element_bytes = 2},
		.max_tokens = 100,
	};
	const uint64_t slab = HBM_LAYOUT_SLAB;
	const struct {
		enum hbm_layout_order order;
		bool values_first, heads_first;
		uint64_t key, value; /* of layer 1, token 7, head 2 */
	} cases[] = {
		{HBM_ORDER_TOKEN, false, false, 7 * 48 + 24 + 16, slab + 7 * 48 + 24 + 16},
		{HBM_ORDER_TOKEN, true, false, slab + 7 * 48 + 24 + 16, 7 * 48 + 24 + 16},
		{HBM_ORDER_LAYER, false, false, 2 * slab + 7 * 24 + 16, 3 * slab + 7 * 24 + 16},
		{HBM_ORDER_LAYER, true, false, 3 * slab + 7 * 24 + 16, 2 * slab + 7 * 24 + 16},
		/* token 3 of page 1; a page has 4 planes of 4 tokens */
		{HBM_ORDER_BLOCK, false, false, 6 * 96 + 3 * 24 + 16, 7 * 96 + 3 * 24 + 16},
		{HBM_ORDER_BLOCK, true, false, 7 * 96 + 3 * 24 + 16, 6 * 96 + 3 * 24 + 16},
		{HBM_ORDER_BLOCK, false, true, 6 * 96 + 2 * 32 + 24, 7 * 96 + 2 * 32 + 24},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		options.order = cases[i].order;
		options.values_first = cases[i].values_first;
		options.heads_first = cases[i].heads_first;
		options.page_tokens = cases[i].order == HBM_ORDER_BLOCK ? 4 : 0;

		struct hbm_layout *layout = layouts_new(&options);
		uint64_t key, value;
		assert_int_equal(hbm_layout_offset(layout, 1, HBM_KEYS, 7, 2, &key), 0);
		assert_int_equal(hbm_layout_offset(layout, 1, HBM_VALUES, 7, 2, &value), 0);
		assert_int_equal(key, cases[i].key);
		assert_int_equal(value, cases[i].value);
		hbm_layout_free(layout);
	}
}

static void check_view(const struct hbm_layout_options *options, uint32_t layer,
		       uint32_t page_tokens, const char *why)
{
	struct hbm_layout *layout = layouts_new(options);
	struct hbm_kv_view view = {.heads = 77};
	char error[256] = "";

	assert_int_equal(hbm_layout_view(layout, layer, page_tokens, &view, error, sizeof(error)),
			 why ? HBM_INVALID : 0);
	assert_string_equal(error, why ? why : "");
	if (why)
		assert_int_equal(view.heads, 77);
	hbm_layout_free(layout);
}

static void test_refused(void **state)
{
	(void)state;
	static const struct hbm_layer layers[] = {
		{.heads = 3, .head_dim = 5, .element_bytes = 2},
		{.state_bytes = 100},
	};
	struct hbm_layout_options options = {.layer_count = 2, .layers = layers, .max_tokens = 100};

	check_view(&options, 0, 0, NULL);
	check_view(&options, 2, 0, "there is no layer 2, but layers 0 to 1");
	check_view(&options, 1, 0, "layer 1 has a state of 100 bytes and no tokens");
	check_view(&options, 0, 16, "pages of 16 tokens: the layout needs page=16, and has 0");

	options.page_tokens = 48;
	check_view(&options, 0, 16, NULL);
	check_view(&options, 0, 0, NULL);
	check_view(&options, 0, 32, "pages of 32 tokens: the layout needs page=32, and has 48");

	options.order = HBM_ORDER_BLOCK;
	check_view(&options, 0, 48, NULL);
	check_view(&options, 0, 16, "pages of 16 tokens: the layout needs page=16, and has 48");
	check_view(&options, 0, 0, "tokens of block order are not contiguous, but in pages of 48");
}

static void test_no_such_element(void **state)
{
	(void)state;
	static const struct hbm_layer layers[] = {
		{.heads = 3, .head_dim = 5, .element_bytes = 2},
		{.state_bytes = 100},
		{.heads = 3, .head_dim = 5, .element_bytes = 2, .keys_only = true},
	};
	const struct hbm_layout_options options = {
		.layer_count = 3, .layers = layers, .max_tokens = 100};
	struct hbm_layout *layout = layouts_new(&options);
	struct hbm_kv_view view;
	uint64_t offset = 7, bytes = 7;

	assert_int_equal(hbm_layout_offset(layout, 3, HBM_KEYS, 0, 0, &offset), HBM_INVALID);
	assert_int_equal(hbm_layout_offset(layout, 1, HBM_KEYS, 0, 0, &offset), HBM_INVALID);
	assert_int_equal(hbm_layout_offset(layout, 0, HBM_KEYS, 100, 0, &offset), HBM_INVALID);
	assert_int_equal(hbm_layout_offset(layout, 0, HBM_KEYS, 0, 3, &offset), HBM_INVALID);
	assert_int_equal(hbm_layout_offset(layout, 2, HBM_VALUES, 0, 0, &offset), HBM_INVALID);
	assert_int_equal(hbm_layout_state(layout, 3, &offset, &bytes), HBM_INVALID);
	assert_int_equal(hbm_layout_state(layout, 0, &offset, &bytes), HBM_INVALID);
	assert_int_equal(offset, 7);
	assert_int_equal(bytes, 7);

	/* Latents are keys and values. */
	assert_int_equal(hbm_layout_view(layout, 2, 0, &view, NULL, 0), 0);
	assert_int_equal(view.keys, view.values);
	hbm_layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_at_random),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_such_element),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
