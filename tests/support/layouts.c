/* SPDX-License-Identifier: Apache-2.0 */
/* layouts: see layouts.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/layouts.h"

/* ---- Made up ---- */

static struct hbm_layer layouts_layer(struct seed *seed)
{
	if (seed_below(seed, 6) == 0)
		return (struct hbm_layer){.state_bytes = 1 + seed_below(seed, 5000)};

	return (struct hbm_layer){
		.heads = 1 + (uint32_t)seed_below(seed, 4),
		.head_dim = 1 + (uint32_t)seed_below(seed, 9),
		.element_bytes = 1u << seed_below(seed, 4),
		.window = seed_below(seed, 2) ? 1 + (uint32_t)seed_below(seed, 24) : 0,
		.keys_only = seed_below(seed, 4) == 0,
	};
}

void layouts_make_up(struct seed *seed, struct made_up_layout *made_up)
{
	struct hbm_layout_options *options = &made_up->options;
	const bool alike = seed_below(seed, 3) == 0;

	memset(made_up, 0, sizeof(*made_up));
	*options = (struct hbm_layout_options){
		.layer_count = 1 + (uint32_t)seed_below(seed, LAYOUTS_LAYERS),
		.order = (enum hbm_layout_order)seed_below(seed, HBM_LAYOUT_ORDERS),
		.values_first = seed_below(seed, 2),
		.page_tokens = (uint32_t)seed_below(seed, 8),
		.group_slabs = (uint32_t)seed_below(seed, 3),
		.max_tokens = 1 + seed_below(seed, 40),
	};
	if (options->order == HBM_ORDER_BLOCK) {
		options->page_tokens++;
		options->heads_first = seed_below(seed, 2);
	}

	/* With pages, of at most two kinds: a slot is a multiple of the pages of all of them. */
	const uint32_t kinds = options->page_tokens ? 2 : LAYOUTS_LAYERS;
	struct hbm_layer kind[LAYOUTS_LAYERS];

	for (uint32_t i = 0; i < kinds; i++)
		kind[i] = layouts_layer(seed);

	options->layer = kind[0];
	for (uint32_t i = 0; i < options->layer_count; i++)
		made_up->layers[i] = kind[alike ? 0 : seed_below(seed, kinds)];
	if (!alike)
		options->layers = made_up->layers;
}

struct hbm_layout *layouts_new(const struct hbm_layout_options *options)
{
	struct hbm_layout *layout = NULL;
	char error[256] = "";

	if (hbm_layout_new(&layout, options, error, sizeof(error)) != 0)
		fail_msg("%s", error);

	return layout;
}

/* ---- Laid out ---- */

struct walk {
	const struct made_up_layout *made_up;
	layouts_head_fn *each;
	void *arg;
	uint64_t cursor;
	uint32_t buffer;
	uint64_t pages, page_tokens;
	struct layouts_head head;
};

static bool layouts_share(const struct walk *walk, uint32_t a, uint32_t b)
{
	const struct hbm_layer *x = &walk->made_up->layers[a], *y = &walk->made_up->layers[b];

	if (walk->made_up->options.order == HBM_ORDER_LAYER)
		return a == b;
	if (x->state_bytes || y->state_bytes)
		return x->state_bytes && y->state_bytes;

	return x->window == y->window && x->element_bytes == y->element_bytes &&
	       x->keys_only == y->keys_only;
}

static void layouts_visit_head(struct walk *walk, uint64_t token, uint32_t head)
{
	const struct hbm_layer *layer = &walk->made_up->layers[walk->head.layer];

	walk->head.token = token;
	walk->head.head = head;
	walk->head.offset = walk->cursor;
	walk->head.buffer = walk->buffer;
	walk->each(&walk->head, walk->arg);
	walk->cursor += (uint64_t)layer->head_dim * layer->element_bytes;
}

/* Tokens [first, first + count) of one layer and part. */
static void layouts_visit_plane(struct walk *walk, uint32_t layer, enum hbm_kv_part part,
				uint64_t first, uint64_t count)
{
	const uint32_t heads = walk->made_up->layers[layer].heads;

	walk->head.layer = layer;
	walk->head.part = part;

	if (walk->made_up->options.heads_first) {
		for (uint32_t head = 0; head < heads; head++)
			for (uint64_t token = first; token < first + count; token++)
				layouts_visit_head(walk, token, head);
		return;
	}
	for (uint64_t token = first; token < first + count; token++)
		for (uint32_t head = 0; head < heads; head++)
			layouts_visit_head(walk, token, head);
}

static void layouts_end_buffer(struct walk *walk)
{
	const struct hbm_layout_options *options = &walk->made_up->options;
	const uint64_t step = (options->slab_bytes ? options->slab_bytes : HBM_LAYOUT_SLAB) *
			      (options->group_slabs ? options->group_slabs : 1);

	if (walk->cursor % step)
		walk->cursor += step - walk->cursor % step;
	walk->buffer++;
}

static enum hbm_kv_part layouts_part(const struct walk *walk, uint32_t nth, bool keys_only)
{
	if (keys_only)
		return HBM_KEYS;

	return (nth == 0) == walk->made_up->options.values_first ? HBM_VALUES : HBM_KEYS;
}

static void layouts_visit_states(struct walk *walk, uint32_t first)
{
	for (uint32_t i = first; i < walk->made_up->options.layer_count; i++) {
		if (!layouts_share(walk, first, i))
			continue;
		while (walk->cursor % HBM_STATE_ALIGNMENT)
			walk->cursor++;

		walk->head = (struct layouts_head){
			.layer = i, .offset = walk->cursor, .buffer = walk->buffer};
		walk->each(&walk->head, walk->arg);
		walk->cursor += walk->made_up->layers[i].state_bytes;
	}
	layouts_end_buffer(walk);
}

static void layouts_visit_tokens(struct walk *walk, uint32_t first)
{
	const bool keys_only = walk->made_up->layers[first].keys_only;

	for (uint32_t nth = 0; nth < (keys_only ? 1 : 2); nth++) {
		for (uint64_t token = 0; token < walk->pages * walk->page_tokens; token++)
			for (uint32_t i = first; i < walk->made_up->options.layer_count; i++)
				if (layouts_share(walk, first, i))
					layouts_visit_plane(walk, i,
							    layouts_part(walk, nth, keys_only),
							    token, 1);
		layouts_end_buffer(walk);
	}
}

static void layouts_visit_blocks(struct walk *walk, uint32_t first)
{
	const bool keys_only = walk->made_up->layers[first].keys_only;

	for (uint64_t page = 0; page < walk->pages; page++)
		for (uint32_t i = first; i < walk->made_up->options.layer_count; i++)
			for (uint32_t nth = 0;
			     layouts_share(walk, first, i) && nth < (keys_only ? 1 : 2); nth++)
				layouts_visit_plane(walk, i, layouts_part(walk, nth, keys_only),
						    page * walk->page_tokens, walk->page_tokens);
	layouts_end_buffer(walk);
}

uint64_t layouts_walk(const struct made_up_layout *made_up, layouts_head_fn *each, void *arg)
{
	const struct hbm_layout_options *options = &made_up->options;
	struct walk walk = {.made_up = made_up, .each = each, .arg = arg};

	walk.page_tokens = options->page_tokens ? options->page_tokens : 1;
	while (walk.pages * walk.page_tokens < options->max_tokens)
		walk.pages++;

	for (uint32_t i = 0; i < options->layer_count; i++) {
		uint32_t first = 0;

		while (!layouts_share(&walk, first, i))
			first++;
		if (first < i)
			continue;

		if (made_up->layers[i].state_bytes)
			layouts_visit_states(&walk, i);
		else if (options->order == HBM_ORDER_BLOCK)
			layouts_visit_blocks(&walk, i);
		else
			layouts_visit_tokens(&walk, i);
	}

	return walk.cursor;
}
