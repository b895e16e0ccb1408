/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What else is done with a sequence that has borrowed its prefix, and with the one that has
 * lent it: suspend and resume, switch, keep, save, drafts, and what needs memory. Every byte is
 * looked at, also those of the others that have the same slabs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_rig.h"
#include "tests/support/kept.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>
#include <string.h>

enum { PREFIX = 3 * CACHED_BLOCK, LENT = 3 * CACHED_SLABS };
#define BLOCK CACHED_BLOCK

static const char *const sets[] = {"device.lend=64MiB", "ddr.staging=32MiB", "ddr.size=128MiB",
				   "nvme.size=256MiB", NULL};
static struct cached_rig rig;
static struct kept lender, borrower;
static unsigned fds;

static void grow(struct kept *kept, uint64_t more)
{
	if (pool_rig_step(&rig.pool, kept->sequence, kept->tokens + more) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
	for (uint64_t i = 0; i < more; i++)
		kept_write(&rig.pool, kept, 1000 + 100 * (uint64_t)(kept - &lender) + i);
}

/* Another sequence on the prefix that the lender has stored. */
static struct kept borrow(void)
{
	struct kept kept = lender;

	kept.tokens = PREFIX;
	kept.sequence = cached_rig_reopen(&rig, PREFIX, LENT);

	return kept;
}

/* One that has lent its first tokens, and has more; and one that has borrowed them. */
static void start(const char *layout)
{
	static const struct hbm_pool_options options = {.max_sequences = 8};

	if (daemon_.pid == 0) {
		spawn_start(&daemon_, sets, NULL);
		fds = spawn_fds(&daemon_);
	}
	cached_rig_open(&rig, &daemon_, layout, BLOCK, &options);
	lender = kept_open(&rig.pool);
	grow(&lender, PREFIX);
	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender.sequence, 0);
	grow(&lender, 2);
	borrower = borrow();
	grow(&borrower, 3);
}

static void close_sequence(struct kept *kept)
{
	if (hbm_sequence_close(kept->sequence) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
	kept->sequence = NULL;
}

/* What was lent is there until its blocks go, and gone then. */
static void next_layout(void)
{
	assert_true(spawn_balanced(&daemon_));
	if (lender.sequence)
		close_sequence(&lender);
	if (borrower.sequence)
		close_sequence(&borrower);
	hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 3, NULL);
	cached_rig_wait_for_leased(&rig, 0);
	assert_int_equal(cached_rig_device(&rig).lent, 0);
	assert_int_equal(cached_rig_device(&rig).replicas, 0);
	assert_true(spawn_balanced(&daemon_));
	cached_rig_close(&rig);
}

static void finish(void)
{
	stage_finish(fds);
}

static void check(const struct kept *kept, uint64_t lent)
{
	kept_check(&rig.pool, kept);
	const struct hbm_sequence_facts facts = pool_rig_facts(kept->sequence);
	const struct hbm_wire_sequence shown = pool_rig_shown(&rig.pool, facts.number);

	assert_int_equal(facts.lent_bytes, lent * RIG_SLAB);
	assert_int_equal(shown.own, facts.mapped_bytes - facts.shared_bytes);
	assert_int_equal(shown.shared, facts.shared_bytes);
}

static void on_all_layouts(void (*play)(void))
{
	for (size_t i = 0; cached_rig_layouts[i]; i++) {
		start(cached_rig_layouts[i]);
		play();
		next_layout();
	}
	finish();
}

/* ---- Suspend and resume ---- */

static void suspend(struct kept *kept, enum hbm_tier tier)
{
	if (hbm_sequences_suspend(rig.pool.pool, &kept->sequence, 1, tier) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
	assert_int_equal(pool_rig_facts(kept->sequence).mapped_bytes, 0);
}

static void resume(struct kept *kept)
{
	if (hbm_sequences_resume(rig.pool.pool, &kept->sequence, 1) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
}

static void play_suspend(void)
{
	for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
		const uint64_t before = cached_rig_leased(&rig);

		suspend(&borrower, (enum hbm_tier)tier);
		assert_true(spawn_balanced(&daemon_));
		resume(&borrower);
		check(&borrower, LENT);
		cached_rig_wait_for_leased(&rig, before);
		check(&lender, tier == HBM_TIER_DDR ? 0 : LENT);

		/* Whoever has lent comes back as one that borrows. */
		suspend(&lender, (enum hbm_tier)tier);
		check(&borrower, LENT);
		resume(&lender);
		check(&lender, LENT);
		cached_rig_wait_for_leased(&rig, before);
		check(&borrower, LENT);
		grow(&borrower, 4);
		grow(&lender, 4);
	}
}

static void test_suspended_and_resumed(void **state)
{
	(void)state;
	on_all_layouts(play_suspend);
}

/* A group has one slab for all, and as much as before. */
static void play_group(void)
{
	struct kept third = borrow();
	struct hbm_sequence *group[3];

	grow(&third, 1);
	const uint64_t before = cached_rig_leased(&rig);

	group[0] = third.sequence;
	group[1] = borrower.sequence;
	group[2] = lender.sequence;
	assert_int_equal(hbm_sequences_suspend(rig.pool.pool, group, 3, HBM_TIER_DDR), 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(hbm_sequences_resume(rig.pool.pool, group, 3), 0);
	check(&third, LENT);
	check(&borrower, LENT);
	check(&lender, LENT);
	cached_rig_wait_for_leased(&rig, before);
	grow(&lender, 8);
	check(&third, LENT);
	close_sequence(&third);
}

static void test_a_group_comes_back(void **state)
{
	(void)state;
	on_all_layouts(play_group);
}

/* One has the memory of the other, but for what neither has alone. */
static void play_switch(void)
{
	struct kept other = kept_open(&rig.pool);

	grow(&other, 30);
	suspend(&other, HBM_TIER_DDR);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(hbm_sequences_switch(rig.pool.pool, &borrower.sequence, 1,
						      HBM_TIER_DDR, &other.sequence, 1),
				 0);
		check(&other, 0);
		check(&lender, 0);
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(hbm_sequences_switch(rig.pool.pool, &other.sequence, 1,
						      HBM_TIER_DDR, &borrower.sequence, 1),
				 0);
		check(&borrower, LENT);
		check(&lender, 0);
	}
	close_sequence(&other);
}

static void test_switched(void **state)
{
	(void)state;
	on_all_layouts(play_switch);
}

/* ---- What is not lent any more is loaded ---- */

static void drop_blocks(void)
{
	assert_int_equal(hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 3, NULL), 0);
}

static void play_removed(void)
{
	suspend(&borrower, HBM_TIER_NVME);
	drop_blocks();
	resume(&borrower);
	check(&borrower, 0);
	check(&lender, 0);
	grow(&borrower, 4);
	check(&borrower, 0);
}

static void test_what_was_removed_is_loaded(void **state)
{
	(void)state;
	on_all_layouts(play_removed);
}

/* Its number is that of another namespace by then, which has other blocks by these keys. */
static void play_closed(void)
{
	const struct hbm_namespace_options options = {.model = "another"};
	uint32_t ns;

	suspend(&borrower, HBM_TIER_DDR);
	drop_blocks();
	assert_int_equal(hbm_namespace_close(rig.pool.hbm, rig.ns), 0);
	assert_int_equal(hbm_pool_namespace(rig.pool.pool, &options, BLOCK, &ns), 0);
	assert_int_equal(ns, rig.ns);

	struct kept other = kept_open(&rig.pool);

	grow(&other, PREFIX);
	cached_rig_store(&rig, other.sequence, 0);
	resume(&borrower);
	check(&borrower, 0);
	close_sequence(&other);
}

static void test_a_namespace_that_was_closed(void **state)
{
	(void)state;
	on_all_layouts(play_closed);
}

/* While nobody has them, lent slabs make way for who needs memory. */
static void play_pressure(void)
{
	struct hbm_region *region;
	struct hbm_region_options options = {.slab = RIG_SLAB};

	suspend(&borrower, HBM_TIER_DDR);
	suspend(&lender, HBM_TIER_DDR);
	assert_int_equal(cached_rig_device(&rig).lent, LENT * RIG_SLAB);
	options.address_space = cached_rig_device(&rig).regions;
	assert_int_equal(hbm_region_create(rig.pool.hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, options.address_space};

	assert_int_equal(hbm_commit(rig.pool.hbm, &all, 1), 0);
	assert_int_equal(cached_rig_device(&rig).lent, 0);
	assert_int_equal(hbm_region_destroy(rig.pool.hbm, region), 0);
	resume(&borrower);
	check(&borrower, 0);
	resume(&lender);
	check(&lender, 0);
}

static void test_lent_slabs_that_nobody_has_make_way(void **state)
{
	(void)state;
	on_all_layouts(play_pressure);
}

/* And while somebody has them they stay, whoever needs memory. */
static void play_no_way(void)
{
	struct hbm_region *region;
	struct hbm_region_options options = {.slab = RIG_SLAB};

	options.address_space = cached_rig_device(&rig).regions;
	assert_int_equal(hbm_region_create(rig.pool.hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, options.address_space};

	close_sequence(&lender);
	assert_int_equal(hbm_commit(rig.pool.hbm, &all, 1), HBM_NO_SPACE);
	assert_int_equal(cached_rig_device(&rig).lent, LENT * RIG_SLAB);
	check(&borrower, LENT);
	const struct hbm_range rest = {region, 0,
				       options.address_space - cached_rig_leased(&rig) * RIG_SLAB};

	assert_int_equal(hbm_commit(rig.pool.hbm, &rest, 1), 0);
	assert_int_equal(cached_rig_device(&rig).lent, LENT * RIG_SLAB);
	check(&borrower, LENT);
	assert_int_equal(hbm_region_destroy(rig.pool.hbm, region), 0);
}

static void test_lent_slabs_that_somebody_has_stay(void **state)
{
	(void)state;
	on_all_layouts(play_no_way);
}

/* ---- Keep ---- */

static void play_keep(void)
{
	static const uint64_t tokens[] = {1, 2, 5, 6, 11, 12, 13}, heads[] = {1, 3}, layers[] = {0};
	struct kept others[3];

	for (unsigned i = 0; i < 3; i++)
		others[i] = borrow();
	assert_int_equal(kept_keep(&others[0], HBM_AXIS_TOKENS, tokens, 5), 0);
	check(&others[0], 0);
	assert_int_equal(kept_keep(&others[1], HBM_AXIS_HEADS, heads, 2), 0);
	check(&others[1], 0);
	assert_int_equal(kept_keep(&others[2], HBM_AXIS_LAYERS, layers, 1), 0);
	kept_check(&rig.pool, &others[2]);
	check(&borrower, LENT);
	check(&lender, 0);

	/* The lender, too, writes to copies. */
	assert_int_equal(kept_keep(&lender, HBM_AXIS_TOKENS, tokens, 7), 0);
	check(&lender, 0);
	check(&borrower, LENT);
	for (unsigned i = 0; i < 3; i++)
		close_sequence(&others[i]);
}

static void test_kept(void **state)
{
	(void)state;
	on_all_layouts(play_keep);
}

/* The tokens in front stay where they are, and borrowed. */
static void play_keep_behind(void)
{
	static const uint64_t tokens[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 12, 14};

	assert_int_equal(kept_keep(&borrower, HBM_AXIS_TOKENS, tokens, 11), 0);
	check(&borrower, 2 * CACHED_SLABS);
	check(&lender, 0);
}

static void test_kept_behind_what_is_borrowed(void **state)
{
	(void)state;
	on_all_layouts(play_keep_behind);
}

/* ---- Save ---- */

static void play_save(void)
{
	static const struct hbm_saved_space space = {.model = "saved"};
	const struct hbm_save_options options = {.space = space};
	const struct hbm_save saves[] = {{borrower.sequence, "borrower", 0},
					 {lender.sequence, "lender", 0}};
	uint64_t saved[2];

	assert_int_equal(hbm_sequences_save(rig.pool.pool, saves, 2, &options, saved), 0);
	assert_int_equal(saved[0], borrower.tokens);
	close_sequence(&borrower);
	assert_int_equal(
		hbm_sequence_restore(rig.pool.pool, &space, "borrower", NULL, &borrower.sequence),
		0);
	check(&borrower, 0);
	check(&lender, 0);
	hbm_saved_drop(rig.pool.pool, &space, "borrower");
	hbm_saved_drop(rig.pool.pool, &space, "lender");
}

static void test_saved_and_restored(void **state)
{
	(void)state;
	on_all_layouts(play_save);
}

/* ---- Drafts ---- */

/* Behind the prefix, and in the middle of it. */
static void play_drafts(void)
{
	static const uint64_t cuts[] = {PREFIX, 2 * BLOCK, 2 * BLOCK + 1, 1};
	static const int32_t parents[] = {-1, -1, 1, 2}, path[] = {1, 2, 3};
	uint64_t places[4];

	for (size_t i = 0; i < 4; i++) {
		struct kept other = borrow();

		assert_int_equal(hbm_sequence_truncate(other.sequence, cuts[i]), 0);
		assert_int_equal(hbm_sequence_draft(other.sequence, parents, 4, places), 0);
		other.tokens = cuts[i];
		for (uint64_t k = 0; k < 4; k++)
			kept_write(&rig.pool, &other, 7000 + k);
		assert_int_equal(hbm_sequence_accept(other.sequence, path, 3), 0);
		other.tokens = cuts[i] + 3;
		memmove(&other.ids[cuts[i]], &other.ids[cuts[i] + 1], 3 * sizeof(other.ids[0]));
		check(&other, cuts[i] / BLOCK * CACHED_SLABS);
		check(&borrower, LENT);
		check(&lender, 0);
		close_sequence(&other);
	}
}

static void test_drafts(void **state)
{
	(void)state;
	on_all_layouts(play_drafts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STAGED(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)
		STAGED(test_suspended_and_resumed),
		STAGED(test_a_group_comes_back),
		STAGED(test_switched),
		STAGED(test_what_was_removed_is_loaded),
		STAGED(test_a_namespace_that_was_closed),
		STAGED(test_lent_slabs_that_nobody_has_make_way),
		STAGED(test_lent_slabs_that_somebody_has_stay),
		STAGED(test_kept),
		STAGED(test_kept_behind_what_is_borrowed),
		STAGED(test_saved_and_restored),
		STAGED(test_drafts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
