/* SPDX-License-Identifier: Apache-2.0 */
/* What is saved without the pieces that it needs: not found, and dropped by who finds it so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/sequence/archive.h"
#include "client/sequence/saved_key.h"
#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#include <string.h>

/* Where the pieces of saved_stage's pool are. */
static uint32_t open_pieces(void)
{
	char fingerprint[HBM_WIRE_NAME_BYTES], layout[HBM_WIRE_NAME_BYTES];
	const struct hbm_layout *of_pool = hbm_pool_layout(saved_rig.pool);
	struct hbm_namespace_options options = {.model = saved_space.model,
						.salt = saved_space.salt,
						.weights = saved_space.weights,
						.layout = layout};
	struct chunk chunk;
	uint32_t ns;

	hbm_chunk_init(&chunk, of_pool);
	hbm_layout_fingerprint(of_pool, fingerprint);
	hbm_saved_key_text(layout, "pieces:", "", fingerprint);
	options.block_bytes = chunk.bytes;
	assert_int_equal(hbm_namespace_open(saved_rig.hbm, &options, &ns), 0);

	return ns;
}

struct pieces {
	uint64_t skipped; /* in the order of the cache */
	hbm_key keys[16];
	size_t count;
};

static int take_piece(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_block_info *block = record;
	struct pieces *pieces = arg;

	(void)bytes;
	if (block->bytes > ARCHIVE_MANIFEST && pieces->skipped-- == 0) {
		pieces->skipped = 0;
		memcpy(pieces->keys[pieces->count++].bytes, block->key.bytes, sizeof(hbm_key));
	}

	return pieces->count == 16;
}

/* Removes all pieces from one on. */
static void remove_pieces(uint64_t first)
{
	struct pieces pieces = {.skipped = first};
	const uint32_t ns = open_pieces();

	assert_int_equal(hbm_query(saved_rig.hbm, HBM_QUERY_BLOCKS, take_piece, &pieces), 0);
	assert_in_range(pieces.count, 1, 15);
	assert_int_equal(
		hbm_keys(saved_rig.hbm, HBM_WIRE_REMOVE, ns, 0, pieces.keys, pieces.count, NULL),
		0);
}

/* It is not found, says so, and what was left of it is dropped. */
static void expect_evicted(void)
{
	struct hbm_sequence *sequence;

	assert_int_equal(hbm_sequence_restore(saved_rig.pool, &saved_space, "a", NULL, &sequence),
			 HBM_NOT_FOUND);
	saved_stage_expect_line("what was saved as \"a\" was evicted");
	assert_int_equal(saved_stage_blocks(), 0);
	assert_int_equal(hbm_sequence_restore(saved_rig.pool, &saved_space, "a", NULL, &sequence),
			 HBM_NOT_FOUND);
	saved_stage_expect_line("nothing is saved by the name \"a\"");
}

static void test_a_manifest_without_pieces_is_dropped(void **state)
{
	(void)state;
	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_sequence *sequence = saved_stage_sequence(30, 1);

	saved_stage_save(sequence, "a", 0);
	remove_pieces(0);
	expect_evicted();

	/* The name can be used again, before and after that. */
	saved_stage_save(sequence, "a", 0);
	remove_pieces(0);
	saved_stage_save(sequence, "a", 0);
	saved_stage_expect(saved_stage_restore("a"), 0, 30, 1);
	assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "a"), 0);
	assert_int_equal(saved_stage_blocks(), 0);
	saved_stage_finish();
}

/* Of a layout with states a beginning is of no use. */
static void test_pieces_of_no_use_are_dropped(void **state)
{
	(void)state;
	saved_stage_start(pool_rig_mixed_layouts[0]);
	saved_stage_save(saved_stage_sequence(40, 6), "a", 0);
	remove_pieces(2);
	expect_evicted();
	saved_stage_finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_manifest_without_pieces_is_dropped),
		TEST(test_pieces_of_no_use_are_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
