/* SPDX-License-Identifier: Apache-2.0 */
/* pieces: see pieces.h. */
#include "client/sequence/pieces.h"

#include "client/layout.h"
#include "client/sequence/moves.h"

/* The tokens that go, and where to. */
struct span {
	uint64_t base, to, from, count;
};

static void pieces_move_rows(const struct hbm_layout *layout, const struct span *span,
			     struct moves *moves)
{
	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];
		const uint64_t address = span->base + buffer->offset;

		hbm_moves_add(moves, address + span->to * buffer->token_bytes,
			      address + span->from * buffer->token_bytes,
			      span->count * buffer->token_bytes);
	}
}

static uint64_t pieces_at(const struct hbm_layout *layout, const struct span *span, uint32_t layer,
			  uint32_t part, uint32_t head, uint64_t token)
{
	uint64_t offset = 0;

	hbm_layout_offset(layout, layer, (enum hbm_kv_part)part, token, head, &offset);

	return span->base + offset;
}

/* One part of a layer, in pages. */
static void pieces_move_plane(const struct hbm_layout *layout, const struct span *span,
			      uint32_t layer, uint32_t part, struct moves *moves)
{
	const struct hbm_layer *shape = &layout->shapes[layer];
	const bool apart = layout->options.heads_first;
	const uint64_t bytes = hbm_layout_plane_bytes(shape) / (apart ? shape->heads : 1);

	for (uint32_t head = 0; head < (apart ? shape->heads : 1); head++)
		for (uint64_t k = 0; k < span->count; k++)
			hbm_moves_add(
				moves, pieces_at(layout, span, layer, part, head, span->to + k),
				pieces_at(layout, span, layer, part, head, span->from + k), bytes);
}

void hbm_pieces_move(const struct hbm_layout *layout, uint64_t base, uint64_t to, uint64_t from,
		     uint64_t count, struct moves *moves)
{
	const struct span span = {base, to, from, count};

	if (layout->options.order != HBM_ORDER_BLOCK) {
		pieces_move_rows(layout, &span, moves);
		return;
	}

	for (uint32_t i = 0; i < layout->options.layer_count; i++) {
		const uint32_t parts = layout->groups[layout->layers[i].group].parts;

		for (uint32_t part = 0; part < parts && !layout->shapes[i].state_bytes; part++)
			pieces_move_plane(layout, &span, i, part, moves);
	}
}
