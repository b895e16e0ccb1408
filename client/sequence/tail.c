/* SPDX-License-Identifier: Apache-2.0 */
/* tail: see tail.h. */
#include "client/sequence/tail.h"

#include "client/sequence/copies.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

/* Of one buffer: the whole slabs, and the bytes in them that are in use. */
struct tail {
	uint64_t begin, end, used;
};

static struct tail tail_of(const struct hbm_sequence *sequence, uint32_t index)
{
	const uint64_t tokens = sequence->tokens;
	struct hbm_buffer buffer;
	uint64_t offset, bytes;

	hbm_layout_buffer(hbm_sequence_layout(sequence), index, &buffer);
	hbm_layout_range(hbm_sequence_layout(sequence), index, 0, tokens, &offset, &bytes);

	struct tail tail = {hbm_sequence_begin(sequence, index, tokens), offset + bytes, bytes};

	/* All its tokens were given up: there may be no memory for the last ones, as after a
	 * restore. */
	if (buffer.token_bytes && sequence->first == tokens)
		tail.end = tail.begin;
	if (buffer.token_bytes) {
		const uint64_t page = buffer.page_tokens;

		tail.used = (tokens + page - 1) / page * page * buffer.token_bytes;
	}
	tail.used += buffer.offset;

	return tail;
}

void hbm_tail_gather(const struct hbm_sequence *sequence, const struct slot *slot)
{
	struct hbm_pool *pool = sequence->pool;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const struct tail tail = tail_of(sequence, i);

		if (tail.end > tail.begin)
			hbm_slot_runs(pool, slot, tail.begin, tail.end - tail.begin, false,
				      &pool->grow);
	}
}

void hbm_tail_each(const struct hbm_sequence *sequence, struct hbm_region *region, uint64_t offset,
		   struct ranges *ranges)
{
	for (uint32_t i = 0; i < sequence->pool->buffer_count; i++) {
		const struct tail tail = tail_of(sequence, i);

		if (tail.end > tail.begin)
			hbm_ranges_add(ranges, region, offset + tail.begin, tail.end - tail.begin);
	}
}

bool hbm_tail_copy(const struct hbm_sequence *sequence, uint64_t address)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t from = pool->region->address + hbm_slot_offset(pool, sequence->slot);

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const struct tail tail = tail_of(sequence, i);

		if (tail.used > tail.begin && tail.end > tail.begin &&
		    !hbm_copies_queue(pool, address + tail.begin, from + tail.begin,
				      tail.used - tail.begin))
			return false;
	}

	return true;
}
