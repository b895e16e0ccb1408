/* SPDX-License-Identifier: Apache-2.0 */
/* contents: see contents.h. */
#include "tests/support/contents.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

typedef bool contents_access(const struct contents *contents, uint64_t address, unsigned char *own,
			     uint64_t bytes);

static bool contents_put(const struct contents *contents, uint64_t address, unsigned char *own,
			 uint64_t bytes)
{
	kv_write(contents->kv, address, own, bytes);

	return true;
}

static bool contents_compare(const struct contents *contents, uint64_t address, unsigned char *own,
			     uint64_t bytes)
{
	unsigned char *seen = malloc(bytes);

	assert_non_null(seen);
	kv_read(contents->kv, seen, address, bytes);
	const bool same = memcmp(seen, own, bytes) == 0;

	free(seen);

	return same;
}

static bool contents_one(const struct contents *contents, uint64_t address, uint64_t bytes,
			 const uint64_t name[4], contents_access *access)
{
	unsigned char *own = malloc(bytes);
	uint64_t x = contents->tag * 0x9e3779b97f4a7c15 + 1;

	assert_non_null(own);
	for (unsigned i = 0; i < 4; i++)
		x = (x ^ name[i]) * 0xbf58476d1ce4e5b9 + 1;
	for (uint64_t i = 0; i < bytes; i += sizeof(x)) {
		x = x * 6364136223846793005 + 1442695040888963407;
		const uint64_t mixed = x ^ x >> 32; /* the low bits of x repeat soon */
		memcpy(own + i, &mixed, bytes - i < sizeof(x) ? bytes - i : sizeof(x));
	}
	const bool done = access(contents, address, own, bytes);

	free(own);

	return done;
}

static bool contents_layer(const struct contents *contents, const struct hbm_layout *layout,
			   const struct hbm_sequence_facts *facts, uint32_t layer, uint64_t first,
			   uint64_t end, contents_access *access)
{
	const uint64_t base = facts->address, tokens = facts->tokens;
	const struct hbm_layer *shape = &hbm_layout_options(layout)->layers[layer];
	const uint64_t nth = contents->first_layer + layer;
	uint64_t offset, bytes = (uint64_t)shape->head_dim * shape->element_bytes;
	bool done = true;

	if (shape->state_bytes) {
		const uint64_t name[4] = {nth, 99, 0, 0};

		assert_int_equal(hbm_layout_state(layout, layer, &offset, &bytes), 0);
		return contents_one(contents, base + offset, bytes, name, access);
	}

	/* What is in front of the window may have no memory. */
	if (access == contents_compare && shape->window && first + shape->window < tokens)
		first = tokens - shape->window;
	for (uint64_t token = first; done && token < end; token++)
		for (uint32_t n = 0; done && n < shape->heads * (shape->keys_only ? 1 : 2); n++) {
			const uint32_t head = n % shape->heads, part = n / shape->heads;
			const uint64_t name[4] = {nth, part, token + contents->shift,
						  contents->first_head + head};

			assert_int_equal(hbm_layout_offset(layout, layer, (enum hbm_kv_part)part,
							   token, head, &offset),
					 0);
			done = contents_one(contents, base + offset, bytes, name, access);
		}

	return done;
}

static bool contents_all(const struct contents *contents, struct hbm_sequence *sequence,
			 uint64_t first, uint64_t end, contents_access *access)
{
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	struct hbm_sequence_facts facts;
	bool done = true;

	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);
	assert_in_range(end, first, facts.tokens);
	for (uint32_t i = 0; done && i < hbm_layout_options(layout)->layer_count; i++)
		done = contents_layer(contents, layout, &facts, i, first, end, access);

	return done;
}

void contents_write(const struct contents *contents, struct hbm_sequence *sequence, uint64_t first,
		    uint64_t end)
{
	contents_all(contents, sequence, first, end, contents_put);
}

bool contents_are(const struct contents *contents, struct hbm_sequence *sequence, uint64_t first,
		  uint64_t end)
{
	return contents_all(contents, sequence, first, end, contents_compare);
}
