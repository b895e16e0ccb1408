/* SPDX-License-Identifier: Apache-2.0 */
/* layout_size: what a layout and its sequences take. hbm_layout_new() has made sure that no
 * sum or product of tokens up to max_tokens overflows. */
#include "client/layout.h"

#include "daemon/base/checked.h"

static uint64_t layout_size_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void hbm_layout_facts(const struct hbm_layout *layout, struct hbm_layout_facts *facts)
{
	struct hbm_layout_use longest;

	*facts = (struct hbm_layout_facts){.layers = layout->options.layer_count,
					   .groups = layout->group_count,
					   .buffers = layout->buffer_count,
					   .slot_bytes = layout->slot_bytes};

	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];

		facts->token_bytes += buffer->token_bytes;
		facts->waste_bytes += buffer->waste_bytes;
		if (buffer->token_bytes)
			facts->page_group_bytes += buffer->step_bytes;
		else
			facts->state_bytes += layout->groups[buffer->group].state_bytes;
	}

	hbm_layout_use(layout, layout->options.max_tokens, &longest);
	facts->waste_fraction = (double)facts->waste_bytes /
				((double)facts->waste_bytes + (double)longest.kv_bytes);
}

int hbm_layout_buffer(const struct hbm_layout *layout, uint32_t index, struct hbm_buffer *buffer)
{
	if (index >= layout->buffer_count)
		return HBM_INVALID;
	*buffer = layout->buffers[index];

	return 0;
}

int hbm_layout_range(const struct hbm_layout *layout, uint32_t index, uint64_t first, uint64_t end,
		     uint64_t *offset, uint64_t *bytes)
{
	if (index >= layout->buffer_count || end > layout->options.max_tokens || first > end)
		return HBM_INVALID;

	const struct hbm_buffer *buffer = &layout->buffers[index];
	uint64_t from = 0, to = buffer->state_bytes;

	if (buffer->token_bytes) {
		const uint64_t page = buffer->page_tokens;

		from = first / page * page * buffer->token_bytes;
		to = (end + page - 1) / page * page * buffer->token_bytes;
	}

	const uint64_t step = buffer->step_bytes;
	const bool is_empty = buffer->token_bytes ? first == end : end == 0;

	from = from / step * step;
	to = (to + step - 1) / step * step;
	*offset = buffer->offset + from;
	*bytes = is_empty ? 0 : to - from;

	return 0;
}

/* The fewest that are whole steps of one buffer: 0, if it has no tokens. */
static uint64_t layout_size_step_tokens(const struct hbm_buffer *buffer)
{
	if (buffer->token_bytes == 0)
		return 0;

	/* A page is mapped as a whole, and a slab is 2 MiB times a power of two. */
	const uint64_t page_bytes = buffer->page_tokens * buffer->token_bytes;

	return buffer->step_bytes / hbm_layout_gcd(buffer->step_bytes, page_bytes) *
	       buffer->page_tokens;
}

uint64_t hbm_layout_block_tokens(const struct hbm_layout *layout)
{
	uint64_t tokens = 1;

	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		const uint64_t step = layout_size_step_tokens(&layout->buffers[i]);
		if (step == 0)
			return 0;
		if (!checked_mul(tokens / hbm_layout_gcd(tokens, step), step, &tokens))
			return 0;
	}

	return tokens;
}

uint64_t hbm_layout_room(const struct hbm_layout *layout, uint32_t index, uint64_t bytes)
{
	if (index >= layout->buffer_count)
		return 0;

	const struct hbm_buffer *buffer = &layout->buffers[index];
	const uint64_t max_tokens = layout->options.max_tokens;
	if (buffer->token_bytes == 0)
		return bytes >= buffer->state_bytes ? max_tokens : 0;

	const uint64_t page = buffer->page_tokens;

	return layout_size_min(bytes / (page * buffer->token_bytes) * page, max_tokens);
}

int hbm_layout_use(const struct hbm_layout *layout, uint64_t tokens, struct hbm_layout_use *use)
{
	struct hbm_layout_use sum = {0};

	if (tokens > layout->options.max_tokens)
		return HBM_INVALID;

	for (uint32_t i = 0; i < layout->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];
		const uint64_t kept =
			buffer->window ? layout_size_min(tokens, buffer->window) : tokens;
		uint64_t offset, bytes;

		hbm_layout_range(layout, i, tokens - kept, tokens, &offset, &bytes);
		sum.mapped_bytes += bytes;
		sum.kv_bytes += kept * buffer->token_bytes;
		if (buffer->state_bytes && tokens > 0)
			sum.kv_bytes += layout->groups[buffer->group].state_bytes;
	}
	sum.slabs = sum.mapped_bytes / layout->options.slab_bytes;
	*use = sum;

	return 0;
}
