/* SPDX-License-Identifier: Apache-2.0 */
/* squeeze: see squeeze.h. */
#include "client/sequence/squeeze.h"

#include "client/layout.h"
#include "client/sequence/compaction.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

uint64_t hbm_squeeze_first(const struct hbm_sequence *sequence, const struct hbm_buffer *buffer)
{
	const uint64_t slid = sequence->slid, first = sequence->first;
	const uint64_t front = buffer->window && slid > buffer->window ? slid - buffer->window : 0;

	return front > first ? front : first;
}

static bool squeeze_move(struct squeeze *squeeze, uint64_t to, uint64_t from, uint64_t bytes)
{
	struct hbm_sequence *sequence = squeeze->sequence;
	struct hbm_pool *pool = sequence->pool;
	const uint64_t base = pool->region->address + hbm_slot_offset(pool, sequence->slot);

	return hbm_compaction_add(pool, base + to, base + from, bytes, &squeeze->moved);
}

/* Of one buffer: tokens [first, end) of one part of a layer. */
struct plane {
	uint32_t layer; /* of `to` */
	enum hbm_kv_part part;
	uint64_t first, end;
};

/* Some heads of a token, from the h-th that is kept on. */
static bool squeeze_heads(struct squeeze *squeeze, const struct plane *plane, uint64_t token,
			  uint32_t h, uint32_t heads)
{
	const bool layers = squeeze->axis == HBM_AXIS_LAYERS;
	const struct hbm_layer *shape = &squeeze->to->shapes[plane->layer];
	const uint32_t layer = layers ? (uint32_t)squeeze->set[plane->layer] : plane->layer;
	const uint32_t head = layers ? h : (uint32_t)squeeze->set[h];
	uint64_t to = 0, from = 0;

	hbm_layout_offset(squeeze->to, plane->layer, plane->part, token, h, &to);
	hbm_layout_offset(squeeze->from, layer, plane->part, token, head, &from);

	return squeeze_move(squeeze, to, from,
			    (uint64_t)heads * shape->head_dim * shape->element_bytes);
}

static bool squeeze_plane(struct squeeze *squeeze, const struct plane *plane)
{
	const struct hbm_layout *to = squeeze->to;
	const uint32_t heads = to->shapes[plane->layer].heads;
	const uint32_t whole =
		squeeze->axis == HBM_AXIS_LAYERS && !to->options.heads_first ? heads : 1;
	bool done = true;

	if (to->options.heads_first) {
		for (uint32_t h = 0; h < heads && done; h++)
			for (uint64_t t = plane->first; t < plane->end && done; t++)
				done = squeeze_heads(squeeze, plane, t, h, 1);
		return done;
	}

	for (uint64_t t = plane->first; t < plane->end && done; t++)
		for (uint32_t h = 0; h < heads && done; h += whole)
			done = squeeze_heads(squeeze, plane, t, h, whole);

	return done;
}

/* Tokens of a page, or one token, of all layers of a buffer. */
static bool squeeze_unit(struct squeeze *squeeze, uint32_t index, uint64_t first, uint64_t end)
{
	const struct hbm_layout *to = squeeze->to;
	const uint32_t nth = to->buffers[index].group;
	const struct layout_group *group = &to->groups[nth];
	const bool in_blocks = to->options.order == HBM_ORDER_BLOCK;
	const uint32_t place = in_blocks ? 0 : index - group->first_buffer;
	const uint32_t places = in_blocks ? group->parts : place + 1;
	bool done = true;

	for (uint32_t i = 0; i < to->options.layer_count && done; i++) {
		if (to->layers[i].group != nth)
			continue;
		for (uint32_t k = place; k < places && done; k++) {
			const bool values =
				group->parts == 2 && (k == 1) != to->options.values_first;
			const struct plane plane = {i, values ? HBM_VALUES : HBM_KEYS, first, end};

			done = squeeze_plane(squeeze, &plane);
		}
	}

	return done;
}

static bool squeeze_buffer(struct squeeze *squeeze, uint32_t index)
{
	const struct hbm_layout *to = squeeze->to;
	const struct hbm_buffer *buffer = &to->buffers[index];
	const uint64_t unit = to->options.order == HBM_ORDER_BLOCK ? buffer->page_tokens : 1;
	const uint64_t tokens = squeeze->sequence->tokens;
	uint64_t at = hbm_squeeze_first(squeeze->sequence, buffer);
	bool done = true;

	while (at < tokens && done) {
		const uint64_t end = (at / unit + 1) * unit;

		done = squeeze_unit(squeeze, index, at, end < tokens ? end : tokens);
		at = end;
	}

	return done;
}

static bool squeeze_states(struct squeeze *squeeze)
{
	const struct hbm_layout *to = squeeze->to;
	bool done = true;

	for (uint32_t i = 0; i < to->options.layer_count && done; i++) {
		const bool layers = squeeze->axis == HBM_AXIS_LAYERS;
		uint64_t target, source, bytes;

		if (hbm_layout_state(to, i, &target, &bytes) != 0)
			continue;
		hbm_layout_state(squeeze->from, layers ? (uint32_t)squeeze->set[i] : i, &source,
				 &bytes);
		done = squeeze_move(squeeze, target, source, bytes);
	}

	return done;
}

bool hbm_squeeze(struct squeeze *squeeze)
{
	const struct hbm_layout *to = squeeze->to;
	bool done = true;

	for (uint32_t i = 0; i < to->buffer_count && done; i++)
		if (to->buffers[i].token_bytes > 0)
			done = squeeze_buffer(squeeze, i);

	return done && squeeze_states(squeeze);
}
