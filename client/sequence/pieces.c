/* SPDX-License-Identifier: Apache-2.0 */
/* pieces: see pieces.h. */
#include "client/sequence/pieces.h"

#include "client/layout.h"
#include "client/sequence/compaction.h"

/* The tokens that go, and where to. */
struct span {
	struct hbm_pool *pool;
	const struct hbm_layout *layout;
	uint64_t base, to, from, count;
	bool *moved;
};

static bool pieces_move_rows(const struct span *span)
{
	const struct hbm_layout *layout = span->layout;
	bool done = true;

	for (uint32_t i = 0; i < layout->buffer_count && done; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];
		const uint64_t address = span->base + buffer->offset;

		done = hbm_compaction_add(span->pool, address + span->to * buffer->token_bytes,
					  address + span->from * buffer->token_bytes,
					  span->count * buffer->token_bytes, span->moved);
	}

	return done;
}

static uint64_t pieces_at(const struct span *span, uint32_t layer, uint32_t part, uint32_t head,
			  uint64_t token)
{
	uint64_t offset = 0;

	hbm_layout_offset(span->layout, layer, (enum hbm_kv_part)part, token, head, &offset);

	return span->base + offset;
}

/* One part of a layer, in pages. */
static bool pieces_move_plane(const struct span *span, uint32_t layer, uint32_t part)
{
	const struct hbm_layer *shape = &span->layout->shapes[layer];
	const uint32_t pieces = span->layout->options.heads_first ? shape->heads : 1;
	const uint64_t bytes = hbm_layout_plane_bytes(shape) / pieces;
	bool done = true;

	for (uint32_t head = 0; head < pieces; head++)
		for (uint64_t k = 0; k < span->count && done; k++)
			done = hbm_compaction_add(
				span->pool, pieces_at(span, layer, part, head, span->to + k),
				pieces_at(span, layer, part, head, span->from + k), bytes,
				span->moved);

	return done;
}

bool hbm_pieces_move(struct hbm_pool *pool, const struct hbm_layout *layout, uint64_t base,
		     uint64_t to, uint64_t from, uint64_t count, bool *moved)
{
	const struct span span = {pool, layout, base, to, from, count, moved};
	bool done = true;

	if (layout->options.order != HBM_ORDER_BLOCK)
		return pieces_move_rows(&span);

	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		const uint32_t parts = layout->groups[layout->layers[i].group].parts;

		for (uint32_t k = 0; k < parts && !layout->shapes[i].state_bytes && done; k++)
			done = pieces_move_plane(&span, i, k);
	}

	return done;
}
