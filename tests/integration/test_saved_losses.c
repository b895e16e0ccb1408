/* SPDX-License-Identifier: Apache-2.0 */
/* What is saved and evicted, pinned or dropped; and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/sequence/manifest.h"
#include "client/sequence/saved_key.h"
#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#include <string.h>

/* ---- What was evicted ---- */

static const char *const two_tiers[] = {"nvme.path=", "nvme.size=0", NULL};

static void test_what_is_evicted_is_missing_at_the_end(void **state)
{
	(void)state;
	const uint64_t piece = 4ull * 2 * 2 * 3 * 9000 * 4; /* of 4 tokens */
	struct hbm_saved found;

	spawn_start(&daemon_, two_tiers, NULL);
	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_sequence *sequence = saved_stage_sequence(31, 4);

	for (uint64_t pieces = 1; pieces < 8; pieces++) {
		saved_stage_save(sequence, "a", 0);
		hbm_evict(saved_rig.hbm, HBM_TIER_HBM, 0, 64 << 20, NULL);
		kv_await_moves(&saved_rig.kv);
		assert_int_equal(hbm_evict(saved_rig.hbm, HBM_TIER_DDR, 0, pieces * piece, NULL),
				 0);
		assert_int_equal(hbm_saved_find(saved_rig.pool, &saved_space, "a", &found), 0);
		assert_int_equal(found.tokens, 31);
		assert_int_equal(found.present, 32 - 4 * pieces);

		struct hbm_sequence *restored = saved_stage_restore("a");

		saved_stage_expect(restored, 0, found.present, 4);
		assert_int_equal(hbm_sequence_close(restored), 0);
		assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "a"), 0);
	}
	saved_stage_finish();
}

static void test_what_is_pinned_is_not_evicted(void **state)
{
	(void)state;
	const struct hbm_save_options both[] = {{.space = saved_space, .pin = true},
						{.space = saved_space, .keep = true}};
	uint64_t saved;

	spawn_start(&daemon_, two_tiers, NULL);
	saved_stage_start(pool_rig_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(9, 4), "a", 0};

	for (unsigned i = 0; i < 2; i++) {
		saved_stage_expect_done(
			hbm_sequences_save(saved_rig.pool, &one, 1, &both[i], &saved));
		for (unsigned n = 0; n < 4; n++) {
			hbm_evict(saved_rig.hbm, HBM_TIER_HBM, 0, 64 << 20, NULL);
			kv_await_moves(&saved_rig.kv);
			hbm_evict(saved_rig.hbm, HBM_TIER_DDR, 0, 64 << 20, NULL);
		}
		saved_stage_expect(saved_stage_restore("a"), 0, 9, 4);
		assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "a"), 0);
		assert_int_equal(saved_stage_blocks(), 0);
	}
	saved_stage_finish();
}

static void test_a_cache_that_is_too_small_has_the_beginning(void **state)
{
	(void)state;
	static const char *const small[] = {"device.cache=4MiB", "ddr.size=4MiB",
					    "nvme.path=", "nvme.size=0", NULL};
	struct hbm_sequence *sequence;
	struct hbm_saved found;
	uint64_t saved;

	spawn_start(&daemon_, small, NULL);
	saved_stage_start(pool_rig_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(31, 4), "a", 0};
	int r = hbm_sequences_save(saved_rig.pool, &one, 1, &saved_plain, &saved);

	assert_int_equal(r, HBM_NO_SPACE);
	saved_stage_expect_line("a piece of \"a\"");
	assert_in_range(saved, 1, 30);
	assert_int_equal(hbm_saved_find(saved_rig.pool, &saved_space, "a", &found), 0);
	assert_int_equal(found.tokens, saved);
	sequence = saved_stage_restore("a");
	saved_stage_expect(sequence, 0, found.present, 4);
	saved_stage_finish();
}

static void test_what_is_dropped_is_gone(void **state)
{
	(void)state;
	struct hbm_saved found;

	saved_stage_start(pool_rig_layouts[0]);
	saved_stage_save(saved_stage_sequence(9, 1), "a", 0);
	saved_stage_save(saved_stage_sequence(9, 2), "b", 0);
	assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "a"), 0);
	assert_int_equal(hbm_saved_find(saved_rig.pool, &saved_space, "a", &found), HBM_NOT_FOUND);
	saved_stage_expect(saved_stage_restore("b"), 0, 9, 2);
	assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "b"), 0);
	assert_int_equal(saved_stage_blocks(), 0);
	saved_stage_finish();
}

static bool stop_second(void *arg)
{
	return ++*(unsigned *)arg > 2;
}

/* A save that was cut off by its time, and then by a limit. */
static void test_what_cannot_be_named_is_unpinned_and_removed(void **state)
{
	(void)state;
	static const char *const one_pin[] = {"limits.pins=1", NULL};
	unsigned asked = 0;
	const struct hbm_save_options options = {
		.space = saved_space, .pin = true, .stop = stop_second, .stop_arg = &asked};
	uint64_t saved = 1;

	spawn_start(&daemon_, one_pin, NULL);
	saved_stage_start(pool_rig_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(31, 4), "a", 0};

	assert_int_equal(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved), HBM_LIMIT);
	assert_int_equal(saved, 0);
	assert_int_equal(saved_stage_blocks(), 0);
	saved_stage_finish();
}

/* As to a step, warm slabs are given back to what a save needs. */
static void test_warm_slabs_give_way_to_a_save(void **state)
{
	(void)state;
	static const char *const tight[] = {"device.memory=64MiB", "device.cache=8MiB", NULL};
	const struct hbm_pool_options options = {.max_sequences = 2, .warm_bytes = 64ull << 20};

	spawn_start(&daemon_, tight, NULL);
	pool_rig_open(&saved_rig, &daemon_, pool_rig_layouts[0], &options);
	struct hbm_sequence *sequence = saved_stage_sequence(32, 4);

	assert_int_equal(hbm_sequence_close(saved_stage_sequence(64, 5)), 0);
	saved_stage_save(sequence, "a", 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	saved_stage_expect(saved_stage_restore("a"), 0, 32, 4);
	saved_stage_finish();
}

/* ---- What is refused ---- */

static int save_as(struct hbm_sequence *sequence, const char *name)
{
	const struct hbm_save one = {sequence, name, 0};
	uint64_t saved;

	return hbm_sequences_save(saved_rig.pool, &one, 1, &saved_plain, &saved);
}

static void test_bad_input_is_refused(void **state)
{
	(void)state;
	char longest[HBM_SAVED_NAME_MAX + 2];
	struct hbm_sequence *other, *sequence;

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	saved_stage_start(pool_rig_layouts[0]);
	sequence = saved_stage_sequence(9, 1);

	assert_int_equal(hbm_sequence_restore(saved_rig.pool, &saved_space, "a", NULL, &other),
			 HBM_NOT_FOUND);
	saved_stage_expect_line("nothing is saved by the name \"a\"");
	assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "a"), HBM_NOT_FOUND);
	assert_int_equal(save_as(sequence, NULL), HBM_INVALID);
	assert_int_equal(save_as(sequence, ""), HBM_INVALID);
	assert_int_equal(save_as(sequence, longest), HBM_INVALID);
	assert_int_equal(save_as(sequence, longest + 1), 0);
	assert_int_equal(save_as(NULL, "a"), HBM_INVALID);

	const struct hbm_save twice[] = {
		{sequence, "a", 0}, {sequence, "b", 0}, {sequence, "a", 0}};
	uint64_t saved[3] = {1, 1, 1};

	assert_int_equal(hbm_sequences_save(saved_rig.pool, twice, 3, &saved_plain, saved),
			 HBM_INVALID);
	saved_stage_expect_line("two sequences by the name \"a\"");
	assert_int_equal(saved[0] + saved[1] + saved[2], 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(save_as(sequence, "a"), HBM_INVALID);
	saved_stage_expect_line("closed");

	saved_stage_finish();
}

/* Another space is another name. */
static void test_a_name_is_of_a_space(void **state)
{
	(void)state;
	const struct hbm_saved_space others[] = {
		{.model = "smaller", .salt = "salt", .weights = 3},
		{.model = "small", .weights = 3},
		{.model = "small", .salt = "salt", .weights = 4},
		{.model = "small", .salt = "salt", .weights = 3, .memory_only = true}};
	struct hbm_sequence *sequence;

	saved_stage_start(pool_rig_layouts[0]);
	saved_stage_save(saved_stage_sequence(9, 1), "a", 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(
			hbm_sequence_restore(saved_rig.pool, &others[i], "a", NULL, &sequence),
			HBM_NOT_FOUND);
	saved_stage_finish();
}

static void test_a_layout_that_does_not_fit_is_refused(void **state)
{
	(void)state;
	static const char *const others[] = {
		"layers=3 heads=3 dim=9000 bytes=4 order=token max=64",
		"layers=2 heads=2 dim=9000 bytes=4 order=token max=64",
		"layers=2 heads=3 dim=8000 bytes=4 order=layer max=64",
		"layers=2 heads=3 dim=9000 bytes=2 order=token max=64",
		"layers=2 heads=3 dim=9000 bytes=4 order=token max=64 keys=only",
		NULL,
	};
	struct hbm_sequence *sequence;

	saved_stage_start(pool_rig_layouts[0]);
	saved_stage_save(saved_stage_sequence(9, 1), "a", 0);
	for (unsigned i = 0; others[i]; i++) {
		saved_stage_again(others[i]);
		assert_int_equal(
			hbm_sequence_restore(saved_rig.pool, &saved_space, "a", NULL, &sequence),
			HBM_INVALID);
		saved_stage_expect_line("layers=2 heads=3 dim=9000 bytes=4");
		saved_stage_expect_line("are not \"layers=");
	}
	saved_stage_again("layers=2 heads=3 dim=9000 bytes=4 order=token max=8");
	assert_int_equal(hbm_sequence_restore(saved_rig.pool, &saved_space, "a", NULL, &sequence),
			 HBM_INVALID);
	saved_stage_expect_line("9 tokens are saved, where sequences have at most 8");
	assert_int_equal(pool_rig_leased(&saved_rig), 0);
	saved_stage_finish();
}

/* Also one that begins behind the most tokens that are asked for. */
static void test_more_tokens_than_a_sequence_may_have_are_refused(void **state)
{
	(void)state;
	const struct hbm_sequence_options options[] = {{.max = 3}, {.max = 12}, {.max = 19}};
	struct hbm_sequence *sequence;

	saved_stage_start(pool_rig_layouts[0]);
	sequence = saved_stage_sequence(20, 1);
	assert_int_equal(hbm_sequence_slide(sequence, 12), 0);
	saved_stage_save(sequence, "a", 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(hbm_sequence_restore(saved_rig.pool, &saved_space, "a",
						      &options[i], &sequence),
				 HBM_INVALID);
		saved_stage_expect_line("20 tokens are saved, where sequences have at most");
	}
	saved_stage_expect(saved_stage_restore("a"), 12, 20, 1);
	saved_stage_finish();
}

/* Another client with the salt may have stored anything in a manifest's place. */
static void test_a_manifest_is_not_believed(void **state)
{
	(void)state;
	static unsigned char page[ARCHIVE_MANIFEST];
	char layout[HBM_WIRE_NAME_BYTES];
	struct hbm_saved found;
	uint32_t ns;

	saved_stage_start(pool_rig_layouts[0]);
	saved_stage_save(saved_stage_sequence(9, 1), "a", 0);
	saved_stage_again(pool_rig_layouts[0]);

	struct hbm *hbm = saved_rig.hbm;
	struct kv *kv = &saved_rig.kv;
	const struct hbm_segment segment = {kv_region(kv, ARCHIVE_MANIFEST), 0, ARCHIVE_MANIFEST};
	const struct hbm_block block = {
		.key = hbm_saved_key_manifest("a", 1), .segments = &segment, .segment_count = 1};
	const uint64_t address = hbm_region_address(segment.region);

	hbm_saved_key_text(layout, "saved:", "", "");
	const struct hbm_namespace_options options = {.model = saved_space.model,
						      .salt = saved_space.salt,
						      .weights = saved_space.weights,
						      .layout = layout,
						      .block_bytes = ARCHIVE_MANIFEST};

	for (size_t byte = 0; byte < sizeof(struct manifest) + 40; byte++) {
		assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
		assert_int_equal(hbm_load(hbm, ns, &block, 1, NULL), 0);
		assert_int_equal(hbm_keys(hbm, HBM_WIRE_REMOVE, ns, 0, &block.key, 1, NULL), 0);
		kv_read(kv, page, address, sizeof(page));
		page[byte] ^= 0xff;
		kv_write(kv, address, page, sizeof(page));
		assert_int_equal(hbm_store(hbm, ns, &block, 1, NULL), 0);

		int r = hbm_saved_find(saved_rig.pool, &saved_space, "a", &found);

		assert_true(r == HBM_NOT_FOUND || r == HBM_UNSUPPORTED);
		page[byte] ^= 0xff;
		kv_write(kv, address, page, sizeof(page));
		assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
		assert_int_equal(hbm_keys(hbm, HBM_WIRE_REMOVE, ns, 0, &block.key, 1, NULL), 0);
		assert_int_equal(hbm_store(hbm, ns, &block, 1, NULL), 0);
	}
	saved_stage_expect(saved_stage_restore("a"), 0, 9, 1);
	saved_stage_finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

/* As the manifest's sum is made. */
static uint64_t sum_of(const unsigned char *page)
{
	const struct manifest *manifest = (const void *)page;
	uint64_t sum = 0xcbf29ce484222325;

	for (size_t i = offsetof(struct manifest, generation);
	     i < sizeof(*manifest) + manifest->text_bytes; i++)
		sum = (sum ^ page[i]) * 0x100000001b3;

	return sum;
}

/* Stores it again with another number in it, at an offset, and the sum of that. */
static void forge_manifest(const char *name, size_t member, uint64_t value)
{
	static _Alignas(8) unsigned char page[ARCHIVE_MANIFEST];
	char layout[HBM_WIRE_NAME_BYTES];
	const struct hbm_namespace_options options = {.model = saved_space.model,
						      .salt = saved_space.salt,
						      .weights = saved_space.weights,
						      .layout = layout,
						      .block_bytes = ARCHIVE_MANIFEST};
	struct hbm *hbm = saved_rig.hbm;
	struct kv *kv = &saved_rig.kv;
	const struct hbm_segment segment = {kv_region(kv, ARCHIVE_MANIFEST), 0, ARCHIVE_MANIFEST};
	const struct hbm_block block = {
		.key = hbm_saved_key_manifest(name, 1), .segments = &segment, .segment_count = 1};
	const uint64_t address = hbm_region_address(segment.region);
	uint32_t ns;

	hbm_saved_key_text(layout, "saved:", "", "");
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	assert_int_equal(hbm_load(hbm, ns, &block, 1, NULL), 0);
	kv_read(kv, page, address, sizeof(page));
	memcpy(page + member, &value, sizeof(value));
	value = sum_of(page);
	memcpy(page + offsetof(struct manifest, sum), &value, sizeof(value));
	kv_write(kv, address, page, sizeof(page));
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_REMOVE, ns, 0, &block.key, 1, NULL), 0);
	assert_int_equal(hbm_store(hbm, ns, &block, 1, NULL), 0);
}

static void test_windows_behind_the_tokens_are_not_believed(void **state)
{
	(void)state;
	static const size_t members[] = {offsetof(struct manifest, slid),
					 offsetof(struct manifest, least),
					 offsetof(struct manifest, first)};
	struct hbm_sequence *sequence;

	saved_stage_start(pool_rig_layouts[3]);
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		const char name[] = {(char)('a' + i), '\0'};

		sequence = saved_stage_sequence(20, 1);
		saved_stage_save(sequence, name, 0);
		assert_int_equal(hbm_sequence_close(sequence), 0);
		forge_manifest(name, members[i], 1ull << 40);
		assert_int_equal(
			hbm_sequence_restore(saved_rig.pool, &saved_space, name, NULL, &sequence),
			HBM_NOT_FOUND);
	}
	saved_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_evicted_is_missing_at_the_end),
		TEST(test_what_is_pinned_is_not_evicted),
		TEST(test_a_cache_that_is_too_small_has_the_beginning),
		TEST(test_what_is_dropped_is_gone),
		TEST(test_warm_slabs_give_way_to_a_save),
		TEST(test_what_cannot_be_named_is_unpinned_and_removed),
		TEST(test_bad_input_is_refused),
		TEST(test_a_manifest_is_not_believed),
		TEST(test_windows_behind_the_tokens_are_not_believed),
		TEST(test_a_name_is_of_a_space),
		TEST(test_a_layout_that_does_not_fit_is_refused),
		TEST(test_more_tokens_than_a_sequence_may_have_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
