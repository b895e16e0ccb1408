/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reshape: see reshape.h. Between layouts of one shape and order, buffers are copied in one
 * piece. Otherwise a part of a layer after the other: its tokens up to the next page have
 * constant strides on both sides, and are copied in the longest pieces that these allow.
 */
#include "client/sequence/reshape.h"

#include "client/sequence/copy_list.h"

#include <string.h>

/* ---- Where a part of a layer is ---- */

/* Tokens of a part from some token on, up to the next page. All in bytes. */
struct run {
	uint64_t address, token_stride, head_stride;
	uint64_t tokens;
};

static uint64_t reshape_page(const struct hbm_layout *layout)
{
	return layout->options.order == HBM_ORDER_BLOCK ? layout->options.page_tokens : 0;
}

static struct run reshape_run(const struct place *place, uint32_t layer, enum hbm_kv_part part,
			      uint32_t head, uint64_t nth, uint64_t most)
{
	const struct hbm_layout *layout = place->layout;
	const uint64_t page = reshape_page(layout), token = place->first + nth;
	struct hbm_kv_view view;
	uint64_t offset;

	hbm_layout_view(layout, layer, (uint32_t)page, &view, NULL, 0);
	hbm_layout_offset(layout, layer, part, token, head, &offset);
	if (place->chunk) {
		const uint32_t buffer = hbm_chunk_buffer_of(layout, layer, part);

		offset += hbm_chunk_buffer(place->chunk, buffer) - layout->buffers[buffer].offset;
	}

	return (struct run){
		.address = place->address + offset,
		.token_stride = view.token_stride * view.element_bytes,
		.head_stride = view.head_stride * view.element_bytes,
		.tokens = page && page - token % page < most ? page - token % page : most,
	};
}

/* Tokens that a layer with that window lacks, of `tokens`. */
static uint64_t reshape_lacking(const struct slice *slice, uint32_t window, uint64_t tokens)
{
	const uint64_t front = window && slice->slid > window ? slice->slid - window : 0;
	const uint64_t lacking = front > slice->token ? front - slice->token : 0;

	return lacking < tokens ? lacking : tokens;
}

/* ---- Rows ---- */

static void reshape_rows(struct copy_list *list, const struct run *target, const struct run *source,
			 uint64_t tokens, uint64_t heads, uint64_t head_bytes)
{
	uint64_t row = head_bytes, rows = tokens, columns = heads;

	if (source->head_stride == row && target->head_stride == row) {
		row *= heads;
		columns = 1;
	}
	if (source->token_stride == row && target->token_stride == row) {
		row *= tokens;
		rows = 1;
	}

	for (uint64_t column = 0; column < columns; column++)
		for (uint64_t i = 0; i < rows; i++)
			hbm_copy_list_add(list,
					  target->address + column * target->head_stride +
						  i * target->token_stride,
					  source->address + column * source->head_stride +
						  i * source->token_stride,
					  row);
}

static void reshape_part(struct copy_list *list, const struct place *target,
			 const struct place *source, const struct slice *slice, uint32_t layer,
			 enum hbm_kv_part part, uint64_t tokens)
{
	const struct hbm_layer *shape = &target->layout->shapes[layer];
	const uint64_t head_bytes = (uint64_t)shape->head_dim * shape->element_bytes;

	for (uint64_t at = reshape_lacking(slice, shape->window, tokens); at < tokens;) {
		struct run from = reshape_run(source, slice->first_layer + layer, part,
					      slice->first_head, at, tokens - at);
		struct run to = reshape_run(target, layer, part, 0, at, tokens - at);
		const uint64_t count = from.tokens < to.tokens ? from.tokens : to.tokens;

		reshape_rows(list, &to, &from, count, shape->heads, head_bytes);
		at += count;
	}
}

/* ---- Buffers ---- */

static bool reshape_is_same(const struct place *target, const struct place *source)
{
	char a[HBM_WIRE_NAME_BYTES], b[HBM_WIRE_NAME_BYTES];
	const uint64_t page = reshape_page(target->layout);

	/* What a sequence has kept of a layout can have buffers without a layer. */
	if (target->layout->buffer_count != source->layout->buffer_count ||
	    !hbm_layout_is_same(target->layout, source->layout))
		return false;

	hbm_layout_fingerprint(target->layout, a);
	hbm_layout_fingerprint(source->layout, b);

	return strcmp(a, b) == 0 &&
	       (page == 0 || (target->first % page == 0 && source->first % page == 0));
}

static uint64_t reshape_buffer(const struct place *place, uint32_t buffer)
{
	const struct hbm_buffer *facts = &place->layout->buffers[buffer];

	return place->address + place->first * facts->token_bytes +
	       (place->chunk ? hbm_chunk_buffer(place->chunk, buffer) : facts->offset);
}

/* Whole pages, where there are pages. */
static void reshape_buffers(struct copy_list *list, const struct place *target,
			    const struct place *source, const struct slice *slice, uint64_t tokens)
{
	const struct hbm_layout *layout = target->layout;

	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];

		if (buffer->token_bytes == 0)
			continue;

		const uint64_t lacking = reshape_lacking(slice, buffer->window, tokens) /
					 buffer->page_tokens * buffer->page_tokens;

		hbm_copy_list_add(list, reshape_buffer(target, i) + lacking * buffer->token_bytes,
				  reshape_buffer(source, i) + lacking * buffer->token_bytes,
				  (tokens - lacking) * buffer->token_bytes);
	}
}

void hbm_reshape_tokens(struct copy_list *list, const struct place *target,
			const struct place *source, const struct slice *slice, uint64_t tokens)
{
	const struct hbm_layout *layout = target->layout;
	const uint64_t page = reshape_page(layout);
	struct place to = *target, from = *source;
	struct slice rest = *slice;

	if (reshape_is_same(target, source)) {
		const uint64_t whole = page ? tokens / page * page : tokens;

		reshape_buffers(list, target, source, slice, whole);
		to.first += whole;
		from.first += whole;
		rest.token += whole;
		tokens -= whole;
	}

	for (uint32_t layer = 0; tokens > 0 && layer < layout->options.layer_count; layer++) {
		const struct hbm_layer *shape = &layout->shapes[layer];

		if (shape->state_bytes)
			continue;
		reshape_part(list, &to, &from, &rest, layer, HBM_KEYS, tokens);
		if (!shape->keys_only)
			reshape_part(list, &to, &from, &rest, layer, HBM_VALUES, tokens);
	}
}

/* ---- States ---- */

/* The part of a state that lies in a piece: of states, `at` is where it begins. */
static bool reshape_state_part(const struct chunk *chunk, uint64_t number, uint64_t at,
			       uint64_t bytes, uint64_t *from, uint64_t *count)
{
	const uint64_t begin = number * chunk->bytes, end = begin + chunk->bytes;
	const uint64_t first = at > begin ? at : begin;
	const uint64_t last = at + bytes < end ? at + bytes : end;

	if (first >= last)
		return false;
	*from = first;
	*count = last - first;

	return true;
}

/* Calls for each layer with a state whose part lies in the piece. */
static void reshape_states(struct copy_list *list, const struct chunk *chunk, uint64_t number,
			   uint64_t piece, const struct place *slot, const struct slice *slice,
			   bool out)
{
	const uint32_t end = slice->first_layer + slot->layout->options.layer_count;
	uint64_t at = 0, offset, bytes, from, count;

	for (uint32_t layer = 0; layer < chunk->layout->options.layer_count; layer++) {
		const uint64_t size = chunk->layout->shapes[layer].state_bytes, begin = at;

		at += size;
		if (size == 0 || layer < slice->first_layer || layer >= end ||
		    !reshape_state_part(chunk, number, begin, size, &from, &count))
			continue;

		hbm_layout_state(slot->layout, layer - slice->first_layer, &offset, &bytes);
		const uint64_t in_slot = slot->address + offset + (from - begin),
			       in_piece = piece + from - number * chunk->bytes;

		hbm_copy_list_add(list, out ? in_piece : in_slot, out ? in_slot : in_piece, count);
	}
}

void hbm_reshape_states_out(struct copy_list *list, const struct chunk *chunk, uint64_t number,
			    uint64_t piece, const struct place *source)
{
	const struct slice all = {0};

	reshape_states(list, chunk, number, piece, source, &all, true);
}

void hbm_reshape_states_in(struct copy_list *list, const struct chunk *chunk, uint64_t number,
			   uint64_t piece, const struct place *target, const struct slice *slice)
{
	reshape_states(list, chunk, number, piece, target, slice, false);
}
