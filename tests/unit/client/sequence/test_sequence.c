/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool's thread does with a sequence while its user steps it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/layout.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <stdlib.h>

#define MAX_TOKENS 64

static struct hbm_pool pool;
static struct hbm_sequence sequence;
static struct slot slot;
static struct hbm_wire_board_record record;

static int setup(void **state)
{
	(void)state;
	char error[256];

	assert_int_equal(hbm_layout_parse(&pool.layout,
					  "layers=2 heads=1 dim=65536 bytes=4 order=layer max=64",
					  error, sizeof(error)),
			 0);
	struct hbm_layout_facts facts;

	hbm_layout_facts(pool.layout, &facts);
	pool.buffer_count = facts.buffers;
	pool.slab = HBM_LAYOUT_SLAB;
	pool.slot_bytes = facts.slot_bytes;
	pool.slot_slabs = facts.slot_bytes / pool.slab;
	pool.max_tokens = MAX_TOKENS;
	pool.slots = &slot;
	pool.sequences = &sequence;
	pool.board.records = &record;
	pool.region = calloc(1, sizeof(*pool.region) + pool.slot_slabs);
	assert_non_null(pool.region);
	pool.region->slab = pool.slab;
	pool.region->address_space = pool.slot_bytes;
	sequence.pool = &pool;
	sequence.slot = &slot;
	sequence.expected = sequence.max = MAX_TOKENS;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	hbm_ranges_clear(&pool.grow);
	free(pool.region);
	hbm_layout_free(pool.layout);

	return 0;
}

/* It was to reach so far, and a step has taken it further: nothing is to be mapped. */
static void test_a_step_has_gone_further_than_is_gathered(void **state)
{
	(void)state;
	hbm_ranges_begin(&pool.grow);
	sequence.tokens = 0;
	hbm_sequence_gather(&sequence, 8);
	assert_int_equal(pool.grow.bytes, 4 * pool.slab);

	hbm_ranges_begin(&pool.grow);
	sequence.tokens = 20;
	hbm_sequence_gather(&sequence, 10);
	assert_int_equal(pool.grow.bytes, 0);
	assert_int_equal(sequence.target, 20);
}

/* It may have read the tokens before the step wrote them. */
static void test_a_step_shows_its_tokens_itself(void **state)
{
	(void)state;
	sequence.tokens = 20;
	record.tokens = 21;
	hbm_sequence_look(&sequence);
	assert_int_equal(record.tokens, 21);
	hbm_sequence_refresh(&sequence);
	assert_int_equal(record.tokens, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_step_has_gone_further_than_is_gathered),
		cmocka_unit_test(test_a_step_shows_its_tokens_itself),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
