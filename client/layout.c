/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout: from options to groups, buffers and slots. Validated first, layer by layer; then
 * layers are put into groups, groups get their buffers, and buffers their places in a slot.
 * What they take is in layout_size.c, addresses and block tables in layout_view.c and
 * layout_table.c, the text form in layout_text.c.
 */
#include "client/layout.h"

#include "daemon/base/checked.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SLAB_MAX ((uint64_t)1 << 30)

int hbm_layout_fail(char *error, size_t error_size, const char *format, ...)
{
	va_list arguments;

	if (error_size > 0) {
		va_start(arguments, format);
		vsnprintf(error, error_size, format, arguments);
		va_end(arguments);
	}

	return HBM_INVALID;
}

/* ---- Validation ---- */

static int layout_check_state(const struct hbm_layer *layer, uint32_t nth, char *error,
			      size_t error_size)
{
	if (layer->heads || layer->head_dim || layer->element_bytes || layer->window ||
	    layer->keys_only)
		return hbm_layout_fail(error, error_size,
				       "layer %u has a state and also heads, or a window", nth);
	if (layer->state_bytes > HBM_LAYOUT_SLOT_MAX)
		return hbm_layout_fail(error, error_size, "layer %u has a state of %llu bytes", nth,
				       (unsigned long long)layer->state_bytes);

	return 0;
}

static int layout_check_layer(const struct hbm_layer *layer, uint32_t nth, char *error,
			      size_t error_size)
{
	uint64_t bytes;

	if (layer->state_bytes)
		return layout_check_state(layer, nth, error, error_size);

	if (layer->heads == 0 || layer->head_dim == 0)
		return hbm_layout_fail(error, error_size, "layer %u has %u heads of %u elements",
				       nth, layer->heads, layer->head_dim);
	if (!is_power_of_two(layer->element_bytes) || layer->element_bytes > 8)
		return hbm_layout_fail(error, error_size,
				       "layer %u has elements of %u bytes, not of 1, 2, 4 or 8",
				       nth, layer->element_bytes);
	if (!checked_mul((uint64_t)layer->heads * layer->head_dim, layer->element_bytes, &bytes) ||
	    bytes > HBM_LAYOUT_SLOT_MAX)
		return hbm_layout_fail(
			error, error_size,
			"layer %u has more bytes for a token than a device can address", nth);

	return 0;
}

static int layout_check_order(const struct hbm_layout_options *options, char *error,
			      size_t error_size)
{
	const bool in_blocks = options->order == HBM_ORDER_BLOCK;

	if ((uint32_t)options->order >= HBM_LAYOUT_ORDERS)
		return hbm_layout_fail(error, error_size, "there is no order %u",
				       (uint32_t)options->order);
	if (in_blocks && options->page_tokens == 0)
		return hbm_layout_fail(error, error_size, "block order needs the tokens of a page");
	if (!in_blocks && options->heads_first)
		return hbm_layout_fail(error, error_size,
				       "heads come first only in pages of block order");

	return 0;
}

static int layout_check(const struct hbm_layout_options *options, char *error, size_t error_size)
{
	if (options->layer_count == 0 || options->layer_count > HBM_LAYERS_MAX)
		return hbm_layout_fail(error, error_size, "%u layers, where 1 to %u are possible",
				       options->layer_count, HBM_LAYERS_MAX);
	if (options->max_tokens == 0)
		return hbm_layout_fail(error, error_size, "a sequence of at most 0 tokens");
	if (options->slab_bytes < HBM_LAYOUT_SLAB || options->slab_bytes > SLAB_MAX ||
	    !is_power_of_two(options->slab_bytes))
		return hbm_layout_fail(error, error_size,
				       "slabs of %llu bytes, not of 2 MiB times a power of two up "
				       "to 1 GiB",
				       (unsigned long long)options->slab_bytes);

	for (uint32_t i = 0; i < options->layer_count; i++) {
		int r = layout_check_layer(options->layers ? &options->layers[i] : &options->layer,
					   i, error, error_size);
		if (r)
			return r;
	}

	return layout_check_order(options, error, error_size);
}

/* ---- Groups ---- */

uint64_t hbm_layout_plane_bytes(const struct hbm_layer *layer)
{
	return (uint64_t)layer->heads * layer->head_dim * layer->element_bytes;
}

static bool layout_fits_group(const struct layout_group *group, const struct hbm_layer *layer)
{
	if (group->is_state || layer->state_bytes)
		return group->is_state && layer->state_bytes;

	return group->window == layer->window && group->element_bytes == layer->element_bytes &&
	       group->parts == (layer->keys_only ? 1 : 2);
}

/* The group that a layer belongs in, begun if there is none. */
static uint32_t layout_find_group(struct hbm_layout *layout, const struct hbm_layer *layer)
{
	uint32_t i = layout->options.order == HBM_ORDER_LAYER ? layout->group_count : 0;

	while (i < layout->group_count && !layout_fits_group(&layout->groups[i], layer))
		i++;
	if (i < layout->group_count)
		return i;

	layout->groups[layout->group_count++] = (struct layout_group){
		.window = layer->window,
		.element_bytes = layer->element_bytes,
		.is_state = layer->state_bytes > 0,
		.parts = layer->keys_only || layer->state_bytes ? 1 : 2,
	};

	return i;
}

/* False: beyond 64 bits. */
static bool layout_group_layers(struct hbm_layout *layout)
{
	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		const struct hbm_layer *shape = &layout->shapes[i];
		struct layout_layer *layer = &layout->layers[i];

		layer->group = layout_find_group(layout, shape);
		struct layout_group *group = &layout->groups[layer->group];
		uint64_t begin = group->row_bytes, bytes = hbm_layout_plane_bytes(shape);

		if (shape->state_bytes) {
			begin = (begin + HBM_STATE_ALIGNMENT - 1) / HBM_STATE_ALIGNMENT *
				HBM_STATE_ALIGNMENT;
			bytes = shape->state_bytes;
			group->state_bytes += bytes;
		}

		layer->offset = begin;
		if (!checked_add(begin, bytes, &group->row_bytes))
			return false;
	}

	return true;
}

/* ---- Buffers ---- */

uint64_t hbm_layout_gcd(uint64_t a, uint64_t b)
{
	while (b) {
		const uint64_t rest = a % b;

		a = b;
		b = rest;
	}

	return a;
}

static bool layout_round_up(uint64_t bytes, uint64_t unit, uint64_t *out)
{
	uint64_t end;

	if (!checked_add(bytes, unit - 1, &end))
		return false;
	*out = end / unit * unit;

	return true;
}

uint64_t hbm_layout_page_bytes(const struct hbm_layout *layout, const struct layout_group *group,
			       uint32_t page_tokens)
{
	const uint32_t parts = layout->options.order == HBM_ORDER_BLOCK ? group->parts : 1;

	return group->row_bytes * parts * page_tokens;
}

/* What is mapped and not used at most. The used range begins and ends at any token; pages
 * widen it to n whole ones at most, of `page` bytes, and those can begin at any multiple of
 * gcd(page, step) in a step: the last such place needs the most steps. Without a window, or
 * before it is full, the range begins with the buffer. */
static uint64_t layout_buffer_waste(const struct hbm_layout_options *options,
				    const struct hbm_buffer *buffer)
{
	const uint64_t step = buffer->step_bytes, page = buffer->page_tokens * buffer->token_bytes,
		       slack = step - hbm_layout_gcd(page, step);

	if (buffer->window == 0 || options->max_tokens <= buffer->window)
		return page - buffer->token_bytes + slack;

	const uint64_t used = buffer->window * buffer->token_bytes,
		       pages = ((uint64_t)buffer->window + 2 * (buffer->page_tokens - 1ull)) /
			       buffer->page_tokens;

	return (slack + pages * page + step - 1) / step * step - used;
}

/* Bytes in whole steps. False: beyond 64 bits, or what a device can address. */
static bool layout_size_space(const struct hbm_layout_options *options, uint64_t bytes,
			      struct hbm_buffer *buffer)
{
	return checked_mul(options->slab_bytes, options->group_slabs, &buffer->step_bytes) &&
	       layout_round_up(bytes, buffer->step_bytes, &buffer->address_space) &&
	       buffer->address_space <= HBM_LAYOUT_SLOT_MAX;
}

bool hbm_layout_size_states(const struct hbm_layout_options *options,
			    const struct layout_group *group, struct hbm_buffer *buffer)
{
	*buffer = (struct hbm_buffer){.state_bytes = group->row_bytes};
	if (!layout_size_space(options, group->row_bytes, buffer))
		return false;

	buffer->waste_bytes = buffer->address_space - group->state_bytes;

	return true;
}

bool hbm_layout_size_tokens(const struct hbm_layout_options *options,
			    const struct layout_group *group, struct hbm_buffer *buffer)
{
	const bool in_blocks = options->order == HBM_ORDER_BLOCK;
	const uint32_t page_tokens = options->page_tokens ? options->page_tokens : 1;
	uint64_t tokens, token, page, all;

	*buffer = (struct hbm_buffer){.window = group->window, .page_tokens = page_tokens};

	if (!layout_round_up(options->max_tokens, page_tokens, &tokens) ||
	    !checked_mul(group->row_bytes, in_blocks ? group->parts : 1, &token) ||
	    !checked_mul(token, page_tokens, &page) || !checked_mul(token, tokens, &all) ||
	    !layout_size_space(options, all, buffer))
		return false;

	buffer->token_bytes = token;
	buffer->straddles = options->slab_bytes % (in_blocks ? page : token) != 0;
	buffer->slab_tokens = options->slab_bytes / token;
	buffer->waste_bytes = layout_buffer_waste(options, buffer);

	return true;
}

static bool layout_place_buffers(struct hbm_layout *layout)
{
	for (uint32_t i = 0; i < layout->group_count; i++) {
		struct layout_group *group = &layout->groups[i];
		const uint32_t buffers =
			layout->options.order == HBM_ORDER_BLOCK ? 1 : group->parts;

		group->first_buffer = layout->buffer_count;
		for (uint32_t k = 0; k < buffers; k++) {
			struct hbm_buffer *buffer = &layout->buffers[layout->buffer_count++];

			if (!(group->is_state ? hbm_layout_size_states : hbm_layout_size_tokens)(
				    &layout->options, group, buffer))
				return false;
			buffer->group = i;
			buffer->offset = layout->slot_bytes;
			layout->slot_bytes += buffer->address_space;
			if (layout->slot_bytes > HBM_LAYOUT_SLOT_MAX)
				return false;
		}
	}

	return true;
}

/* A slot is also a whole number of pages of each group: rounded up to a common multiple. */
static bool layout_size_slot(struct hbm_layout *layout)
{
	const uint32_t page_tokens = layout->options.page_tokens;
	uint64_t unit = layout->options.slab_bytes;

	for (uint32_t i = 0; page_tokens && i < layout->group_count; i++) {
		const struct layout_group *group = &layout->groups[i];
		uint64_t row = group->row_bytes, page;

		if (group->is_state)
			continue;
		if (layout->options.order == HBM_ORDER_BLOCK)
			row *= group->parts;
		if (!checked_mul(row, page_tokens, &page) ||
		    !checked_mul(unit, page / hbm_layout_gcd(unit, page), &unit))
			return false;
	}

	return layout_round_up(layout->slot_bytes, unit, &layout->slot_bytes) &&
	       layout->slot_bytes <= HBM_LAYOUT_SLOT_MAX;
}

/* ---- The object ---- */

struct hbm_layout *hbm_layout_free(struct hbm_layout *layout)
{
	if (!layout)
		return NULL;
	if (layout->others > 0) {
		layout->others--;
		return NULL;
	}

	free(layout->shapes);
	free(layout->layers);
	free(layout->groups);
	free(layout->buffers);
	free(layout);

	return NULL;
}

static struct hbm_layout *layout_allocate(const struct hbm_layout_options *options)
{
	const size_t count = options->layer_count;
	struct hbm_layout *layout = calloc(1, sizeof(*layout));
	if (!layout)
		return NULL;

	layout->shapes = calloc(count, sizeof(*layout->shapes));
	layout->layers = calloc(count, sizeof(*layout->layers));
	layout->groups = calloc(count, sizeof(*layout->groups));
	layout->buffers = calloc(2 * count, sizeof(*layout->buffers));
	if (!layout->shapes || !layout->layers || !layout->groups || !layout->buffers)
		return hbm_layout_free(layout);

	for (size_t i = 0; i < count; i++)
		layout->shapes[i] = options->layers ? options->layers[i] : options->layer;

	layout->options = *options;
	layout->options.layers = layout->shapes;

	return layout;
}

static int layout_compute(struct hbm_layout *layout, char *error, size_t error_size)
{
	if (!layout_group_layers(layout) || !layout_place_buffers(layout))
		return hbm_layout_fail(error, error_size,
				       "a sequence of %llu tokens takes more than the %llu bytes "
				       "that a device can address",
				       (unsigned long long)layout->options.max_tokens,
				       (unsigned long long)HBM_LAYOUT_SLOT_MAX);

	if (!layout_size_slot(layout))
		return hbm_layout_fail(error, error_size,
				       "no number of bytes up to %llu holds whole pages of %u "
				       "tokens of all layers",
				       (unsigned long long)HBM_LAYOUT_SLOT_MAX,
				       layout->options.page_tokens);

	return 0;
}

int hbm_layout_new(struct hbm_layout **out, const struct hbm_layout_options *options, char *error,
		   size_t error_size)
{
	struct hbm_layout_options filled = *options;

	if (filled.slab_bytes == 0)
		filled.slab_bytes = HBM_LAYOUT_SLAB;
	if (filled.group_slabs == 0)
		filled.group_slabs = 1;

	int r = layout_check(&filled, error, error_size);
	if (r)
		return r;

	struct hbm_layout *layout = layout_allocate(&filled);
	if (!layout)
		return -ENOMEM;

	r = layout_compute(layout, error, error_size);
	if (r) {
		hbm_layout_free(layout);
		return r;
	}
	*out = layout;

	return 0;
}

const struct hbm_layout_options *hbm_layout_options(const struct hbm_layout *layout)
{
	return &layout->options;
}
