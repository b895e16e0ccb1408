/* SPDX-License-Identifier: Apache-2.0 */
/* chunk: see chunk.h. */
#include "client/sequence/chunk.h"

static uint64_t chunk_round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

/* Whole pages where the layout has them. */
static uint64_t chunk_tokens(const struct hbm_layout *layout, uint64_t token_bytes)
{
	const uint64_t page =
		layout->options.order == HBM_ORDER_BLOCK ? layout->options.page_tokens : 1;
	const uint64_t most = chunk_round_up(layout->options.max_tokens, page);
	uint64_t tokens = CHUNK_BYTES / token_bytes / page * page;

	if (tokens == 0)
		tokens = page;

	return tokens < most ? tokens : most;
}

void hbm_chunk_init(struct chunk *chunk, const struct hbm_layout *layout)
{
	struct hbm_layout_facts facts;

	hbm_layout_facts(layout, &facts);
	*chunk = (struct chunk){.layout = layout, .state_bytes = facts.state_bytes};

	if (facts.token_bytes) {
		chunk->tokens = chunk_tokens(layout, facts.token_bytes);
		chunk->bytes = chunk->tokens * facts.token_bytes;
	} else {
		chunk->bytes = facts.state_bytes < CHUNK_BYTES ? facts.state_bytes : CHUNK_BYTES;
	}
	chunk->bytes = chunk_round_up(chunk->bytes, CHUNK_UNIT);
}

uint64_t hbm_chunk_pieces(const struct chunk *chunk, uint64_t tokens)
{
	return chunk->tokens ? (tokens + chunk->tokens - 1) / chunk->tokens : 0;
}

uint64_t hbm_chunk_state_pieces(const struct chunk *chunk)
{
	return (chunk->state_bytes + chunk->bytes - 1) / chunk->bytes;
}

uint64_t hbm_chunk_buffer(const struct chunk *chunk, uint32_t buffer)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < buffer; i++)
		at += chunk->tokens * chunk->layout->buffers[i].token_bytes;

	return at;
}

uint32_t hbm_chunk_buffer_of(const struct hbm_layout *layout, uint32_t layer, enum hbm_kv_part part)
{
	const struct layout_group *group = &layout->groups[layout->layers[layer].group];
	const bool second =
		group->parts == 2 && (part == HBM_VALUES) != layout->options.values_first;

	return group->first_buffer + (layout->options.order == HBM_ORDER_BLOCK ? 0 : second);
}
