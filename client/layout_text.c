/* SPDX-License-Identifier: Apache-2.0 */
/* layout_text: a layout written as words, in one way for each layout, and a name of them. */
#include "client/layout.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

/* A text that is cut at the end of its room, but hashed and counted whole. */
struct text {
	char *out;
	size_t size, length;
	uint64_t hash; /* FNV-1a */
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format,
							   ...)
{
	char words[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);

	for (const char *c = words; *c; c++) {
		if (text->length + 1 < text->size)
			text->out[text->length] = *c;
		text->length++;
		text->hash = (text->hash ^ (unsigned char)*c) * FNV_PRIME;
	}
	if (text->size > 0)
		text->out[text->length < text->size ? text->length : text->size - 1] = '\0';
}

/* ---- Layers ---- */

static bool layout_text_is_same(const struct hbm_layer *a, const struct hbm_layer *b)
{
	return a->heads == b->heads && a->head_dim == b->head_dim &&
	       a->element_bytes == b->element_bytes && a->window == b->window &&
	       a->keys_only == b->keys_only && a->state_bytes == b->state_bytes;
}

static void layout_text_kind(struct text *text, const struct hbm_layer *layer)
{
	if (layer->state_bytes) {
		text_add(text, " state=%" PRIu64, layer->state_bytes);
		return;
	}

	text_add(text, " heads=%u dim=%u bytes=%u", layer->heads, layer->head_dim,
		 layer->element_bytes);
	if (layer->keys_only)
		text_add(text, " keys=only");
	if (layer->window)
		text_add(text, " window=%u", layer->window);
}

/* The first layer of the same kind. */
static uint32_t layout_text_first(const struct hbm_layout *layout, uint32_t nth)
{
	uint32_t first = 0;

	while (!layout_text_is_same(&layout->shapes[first], &layout->shapes[nth]))
		first++;

	return first;
}

/* All layers of a kind, as numbers and ranges. */
static void layout_text_members(struct text *text, const struct hbm_layout *layout, uint32_t first)
{
	const struct hbm_layer *kind = &layout->shapes[first];
	const uint32_t count = layout->options.layer_count;

	for (uint32_t i = first; i < count; i++) {
		if (!layout_text_is_same(kind, &layout->shapes[i]))
			continue;

		uint32_t last = i;
		while (last + 1 < count && layout_text_is_same(kind, &layout->shapes[last + 1]))
			last++;

		text_add(text, i == first ? " layer=%u" : ",%u", i);
		if (last > i)
			text_add(text, "-%u", last);
		i = last;
	}
}

static bool layout_text_is_uniform(const struct hbm_layout *layout)
{
	uint32_t same = 0;

	while (same < layout->options.layer_count &&
	       layout_text_is_same(&layout->shapes[0], &layout->shapes[same]))
		same++;

	return same == layout->options.layer_count;
}

static void layout_text_kinds(struct text *text, const struct hbm_layout *layout)
{
	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		if (layout_text_first(layout, i) != i)
			continue;
		layout_text_members(text, layout, i);
		layout_text_kind(text, &layout->shapes[i]);
	}
}

/* ---- The whole ---- */

/* What changes addresses, but not the bytes of a block. */
static void layout_text_slots(struct text *text, const struct hbm_layout_options *options)
{
	if (options->page_tokens && options->order != HBM_ORDER_BLOCK)
		text_add(text, " page=%u", options->page_tokens);
	if (options->group_slabs != 1)
		text_add(text, " group=%u", options->group_slabs);
	if (options->slab_bytes != HBM_LAYOUT_SLAB)
		text_add(text, " slab=%" PRIu64 "MiB", options->slab_bytes >> 20);
	text_add(text, " max=%" PRIu64, options->max_tokens);
}

static void layout_text_write(struct text *text, const struct hbm_layout *layout, bool with_slots)
{
	static const char *const orders[HBM_LAYOUT_ORDERS] = {"token", "layer", "block"};
	const struct hbm_layout_options *options = &layout->options;
	const bool is_uniform = layout_text_is_uniform(layout);

	text_add(text, "layers=%u", options->layer_count);
	if (is_uniform)
		layout_text_kind(text, &layout->shapes[0]);

	text_add(text, " order=%s", orders[options->order]);
	if (options->values_first)
		text_add(text, " values=first");
	if (options->order == HBM_ORDER_BLOCK)
		text_add(text, " page=%u%s", options->page_tokens,
			 options->heads_first ? " page_form=hnd" : "");
	if (with_slots)
		layout_text_slots(text, options);
	if (!is_uniform)
		layout_text_kinds(text, layout);
}

size_t hbm_layout_print(const struct hbm_layout *layout, char *out, size_t size)
{
	struct text text = {.out = out, .size = size};

	layout_text_write(&text, layout, true);

	return text.length;
}

void hbm_layout_fingerprint(const struct hbm_layout *layout, char out[HBM_WIRE_NAME_BYTES])
{
	const size_t hash_bytes = sizeof("#0123456789abcdef");
	struct text text = {.out = out, .size = HBM_WIRE_NAME_BYTES, .hash = FNV_OFFSET};

	layout_text_write(&text, layout, false);
	if (text.length >= HBM_WIRE_NAME_BYTES)
		snprintf(out + HBM_WIRE_NAME_BYTES - hash_bytes, hash_bytes, "#%016" PRIx64,
			 text.hash);
}
