/* SPDX-License-Identifier: Apache-2.0 */
/* layout_view: addresses of a layout, as strides for kernels and one by one. */
#include "client/layout.h"

/* ---- Planes ---- */

/* Bytes from a slot's base to token 0, head 0 of a part. */
static uint64_t layout_view_plane(const struct hbm_layout *layout, uint32_t nth,
				  enum hbm_kv_part part)
{
	const struct hbm_layout_options *options = &layout->options;
	const struct layout_layer *layer = &layout->layers[nth];
	const struct layout_group *group = &layout->groups[layer->group];
	const struct hbm_buffer *buffer = &layout->buffers[group->first_buffer];
	const uint32_t second = group->parts == 2 && (part == HBM_VALUES) != options->values_first;

	if (options->order != HBM_ORDER_BLOCK)
		return buffer[second].offset + layer->offset;

	return buffer->offset +
	       options->page_tokens * (group->parts * layer->offset +
				       second * hbm_layout_plane_bytes(&layout->shapes[nth]));
}

/* Strides in elements, of tokens within a page in block order. */
static void layout_view_strides(const struct hbm_layout *layout, uint32_t nth,
				struct hbm_kv_view *view)
{
	const struct hbm_layout_options *options = &layout->options;
	const struct hbm_layer *shape = &layout->shapes[nth];
	const struct layout_group *group = &layout->groups[layout->layers[nth].group];

	view->head_stride = shape->head_dim;
	view->token_stride = group->row_bytes / shape->element_bytes;
	if (options->order != HBM_ORDER_BLOCK)
		return;

	view->token_stride = (uint64_t)shape->heads * shape->head_dim;
	if (options->heads_first) {
		view->token_stride = shape->head_dim;
		view->head_stride = (uint64_t)options->page_tokens * shape->head_dim;
	}
}

/* ---- Views ---- */

static int layout_view_check_layer(const struct hbm_layout *layout, uint32_t nth, char *error,
				   size_t error_size)
{
	if (nth >= layout->options.layer_count)
		return hbm_layout_fail(error, error_size,
				       "there is no layer %u, but layers 0 to %u", nth,
				       layout->options.layer_count - 1);
	if (layout->shapes[nth].state_bytes)
		return hbm_layout_fail(error, error_size,
				       "layer %u has a state of %llu bytes and no tokens", nth,
				       (unsigned long long)layout->shapes[nth].state_bytes);

	return 0;
}

static int layout_view_check_pages(const struct hbm_layout_options *options, uint32_t page_tokens,
				   char *error, size_t error_size)
{
	if (page_tokens == 0)
		return options->order != HBM_ORDER_BLOCK
			       ? 0
			       : hbm_layout_fail(error, error_size,
						 "tokens of block order are not contiguous, but in "
						 "pages of %u",
						 options->page_tokens);

	if (options->page_tokens == page_tokens ||
	    (options->order != HBM_ORDER_BLOCK && options->page_tokens % page_tokens == 0 &&
	     options->page_tokens > 0))
		return 0;

	return hbm_layout_fail(error, error_size,
			       "pages of %u tokens: the layout needs page=%u, and has %u",
			       page_tokens, page_tokens, options->page_tokens);
}

int hbm_layout_view(const struct hbm_layout *layout, uint32_t nth, uint32_t page_tokens,
		    struct hbm_kv_view *out, char *error, size_t error_size)
{
	int r = layout_view_check_layer(layout, nth, error, error_size);
	if (r == 0)
		r = layout_view_check_pages(&layout->options, page_tokens, error, error_size);
	if (r)
		return r;

	const struct hbm_layer *shape = &layout->shapes[nth];
	const struct layout_group *group = &layout->groups[layout->layers[nth].group];
	struct hbm_kv_view view = {
		.keys = layout_view_plane(layout, nth, HBM_KEYS),
		.values = layout_view_plane(layout, nth, HBM_VALUES),
		.batch_stride = layout->slot_bytes / shape->element_bytes,
		.page_stride =
			hbm_layout_page_bytes(layout, group, page_tokens) / shape->element_bytes,
		.page_tokens = page_tokens,
		.heads = shape->heads,
		.head_dim = shape->head_dim,
		.element_bytes = shape->element_bytes,
	};

	layout_view_strides(layout, nth, &view);
	*out = view;

	return 0;
}

/* ---- One by one ---- */

int hbm_layout_offset(const struct hbm_layout *layout, uint32_t nth, enum hbm_kv_part part,
		      uint64_t token, uint32_t head, uint64_t *offset)
{
	const struct hbm_layout_options *options = &layout->options;

	if (nth >= options->layer_count || token >= options->max_tokens)
		return HBM_INVALID;

	const struct hbm_layer *shape = &layout->shapes[nth];
	const struct layout_group *group = &layout->groups[layout->layers[nth].group];
	if (shape->state_bytes || head >= shape->heads || (uint32_t)part >= group->parts)
		return HBM_INVALID;

	struct hbm_kv_view view = {0};
	uint64_t page_bytes = 0, in_page = token;

	layout_view_strides(layout, nth, &view);
	if (options->order == HBM_ORDER_BLOCK) {
		page_bytes = token / options->page_tokens *
			     hbm_layout_page_bytes(layout, group, options->page_tokens);
		in_page = token % options->page_tokens;
	}
	*offset = layout_view_plane(layout, nth, part) + page_bytes +
		  shape->element_bytes * (in_page * view.token_stride + head * view.head_stride);

	return 0;
}

int hbm_layout_state(const struct hbm_layout *layout, uint32_t nth, uint64_t *offset,
		     uint64_t *bytes)
{
	if (nth >= layout->options.layer_count || layout->shapes[nth].state_bytes == 0)
		return HBM_INVALID;

	const struct layout_layer *layer = &layout->layers[nth];
	const struct layout_group *group = &layout->groups[layer->group];

	*offset = layout->buffers[group->first_buffer].offset + layer->offset;
	*bytes = layout->shapes[nth].state_bytes;

	return 0;
}
