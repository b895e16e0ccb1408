/* SPDX-License-Identifier: Apache-2.0 */
/* layout_keep: a layout with fewer layers or heads than another, in the same slot. */
#include "client/layout.h"

#include <stdlib.h>
#include <string.h>

static struct hbm_layout *layout_keep_allocate(const struct hbm_layout *from, size_t layers)
{
	struct hbm_layout *layout = malloc(sizeof(*layout));
	if (!layout)
		return NULL;

	*layout = *from;
	layout->others = 0;
	layout->options.layer_count = (uint32_t)layers;
	layout->shapes = calloc(layers, sizeof(*layout->shapes));
	layout->layers = calloc(layers, sizeof(*layout->layers));
	layout->groups = calloc(from->group_count, sizeof(*layout->groups));
	layout->buffers = calloc(from->buffer_count, sizeof(*layout->buffers));
	if (!layout->shapes || !layout->layers || !layout->groups || !layout->buffers)
		return hbm_layout_free(layout);

	layout->options.layers = layout->shapes;
	memcpy(layout->groups, from->groups, from->group_count * sizeof(*layout->groups));
	memcpy(layout->buffers, from->buffers, from->buffer_count * sizeof(*layout->buffers));

	return layout;
}

/* Rows of the groups, from the layers that are left. They are no longer than before. */
static void layout_keep_rows(struct hbm_layout *layout)
{
	for (uint32_t i = 0; i < layout->group_count; i++)
		layout->groups[i].row_bytes = layout->groups[i].state_bytes = 0;

	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		const struct hbm_layer *shape = &layout->shapes[i];
		struct layout_group *group = &layout->groups[layout->layers[i].group];

		if (shape->state_bytes)
			group->row_bytes = (group->row_bytes + HBM_STATE_ALIGNMENT - 1) /
					   HBM_STATE_ALIGNMENT * HBM_STATE_ALIGNMENT;
		layout->layers[i].offset = group->row_bytes;
		group->row_bytes +=
			shape->state_bytes ? shape->state_bytes : hbm_layout_plane_bytes(shape);
		group->state_bytes += shape->state_bytes;
	}
}

static void layout_keep_buffers(struct hbm_layout *layout)
{
	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		struct hbm_buffer *buffer = &layout->buffers[i];
		const struct hbm_buffer before = *buffer;
		const struct layout_group *group = &layout->groups[before.group];

		if (group->row_bytes == 0)
			*buffer = (struct hbm_buffer){.step_bytes = before.step_bytes};
		else if (group->is_state)
			hbm_layout_size_states(&layout->options, group, buffer);
		else
			hbm_layout_size_tokens(&layout->options, group, buffer);
		buffer->group = before.group;
		buffer->offset = before.offset;
		buffer->address_space = before.address_space;
	}
}

struct hbm_layout *hbm_layout_keep(const struct hbm_layout *from, enum hbm_axis axis,
				   const uint64_t *set, size_t count)
{
	const bool layers = axis == HBM_AXIS_LAYERS;
	struct hbm_layout *layout =
		layout_keep_allocate(from, layers ? count : from->options.layer_count);
	if (!layout)
		return NULL;

	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		const uint64_t nth = layers ? set[i] : i;

		layout->shapes[i] = from->shapes[nth];
		layout->layers[i] = from->layers[nth];
		if (!layers && !layout->shapes[i].state_bytes)
			layout->shapes[i].heads = (uint32_t)count;
	}
	layout_keep_rows(layout);
	layout_keep_buffers(layout);

	return layout;
}

struct hbm_layout *hbm_layout_ref(struct hbm_layout *layout)
{
	if (layout)
		layout->others++;

	return layout;
}

bool hbm_layout_is_same(const struct hbm_layout *a, const struct hbm_layout *b)
{
	if (a == b)
		return true;
	if (a->options.layer_count != b->options.layer_count)
		return false;

	for (uint32_t i = 0; i < a->options.layer_count; i++) {
		const struct hbm_layer *x = &a->shapes[i], *y = &b->shapes[i];

		if (a->layers[i].group != b->layers[i].group ||
		    a->layers[i].offset != b->layers[i].offset || x->heads != y->heads ||
		    x->head_dim != y->head_dim || x->element_bytes != y->element_bytes ||
		    x->state_bytes != y->state_bytes)
			return false;
	}

	return true;
}
