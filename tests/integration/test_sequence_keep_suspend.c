/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that have kept some of their tokens, layers or heads are suspended and resumed, end
 * to end: alone, in groups with others, and layer by layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kept.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEPT_MAX 5 /* sequences */

static const char *const layouts[] = {
	"layers=3 order=token max=64 layer=0,2 heads=4 dim=7001 bytes=2 layer=1 heads=3 dim=9001 "
	"bytes=2 keys=only",
	"layers=3 order=layer max=64 layer=0,2 heads=4 dim=7001 bytes=2 layer=1 heads=3 dim=9001 "
	"bytes=2",
	"layers=3 heads=4 dim=4096 bytes=2 order=block page=8 page_form=hnd max=64",
	"layers=4 order=token max=64 layer=0 heads=3 dim=9000 bytes=4 layer=1 state=3000 layer=2 "
	"state=2600000 layer=3 state=4000",
	NULL,
};

static uint64_t last_id;

static void grow(struct kept *kept, uint64_t more)
{
	assert_int_equal(pool_rig_step(&suspend_rig, kept->sequence, kept->tokens + more), 0);
	for (uint64_t i = 0; i < more; i++)
		kept_write(&suspend_rig, kept, ++last_id);
}

static struct kept opened(uint64_t tokens)
{
	struct kept kept = kept_open(&suspend_rig);

	grow(&kept, tokens);

	return kept;
}

static void keep(struct kept *kept, enum hbm_axis axis, const uint64_t *set, size_t count)
{
	if (kept_keep(kept, axis, set, count) != 0)
		fail_msg("%s", hbm_pool_error(suspend_rig.pool));
}

static void next_layout(void)
{
	pool_rig_close(&suspend_rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

/* ---- One by one ---- */

/* Bytes of the slabs that what it has kept needs, and nothing else. */
static uint64_t needed(const struct kept *kept)
{
	const struct hbm_layout *layout = hbm_sequence_layout(kept->sequence);
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_use(layout, kept->tokens, &use), 0);

	return use.mapped_bytes;
}

static void go_and_come(struct kept *kept, enum hbm_tier tier)
{
	const uint64_t others =
		pool_rig_leased(&suspend_rig) - pool_rig_facts(kept->sequence).mapped_bytes;
	const uint64_t address = pool_rig_facts(kept->sequence).address;

	suspend_out(kept->sequence, tier);
	assert_int_equal(pool_rig_facts(kept->sequence).suspended_bytes, needed(kept));
	assert_int_equal(suspend_blocks(), needed(kept) / RIG_SLAB);
	assert_int_equal(pool_rig_leased(&suspend_rig), others);
	assert_int_equal(kept_keep(kept, HBM_AXIS_LAYERS, (const uint64_t[]){0}, 1), HBM_INVALID);
	suspend_scribble();
	suspend_in(kept->sequence);
	assert_int_equal(pool_rig_facts(kept->sequence).address, address);
	assert_int_equal(pool_rig_facts(kept->sequence).mapped_bytes, needed(kept));
	assert_int_equal(pool_rig_leased(&suspend_rig), others + needed(kept));
	kept_check(&suspend_rig, kept);
}

/* Each time it has less it costs less, in device memory and in the tier. */
static void test_what_is_kept_goes_and_comes(void **state)
{
	(void)state;
	static const uint64_t tokens[] = {0, 1, 2, 3, 12, 13, 36, 37, 38}, heads[] = {0, 2},
			      layers[] = {0, 2};

	for (const char *const *layout = layouts; *layout; layout++)
		for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
			suspend_start(*layout);
			struct kept kept = opened(40), other = opened(7);
			const uint64_t all = needed(&kept);

			keep(&kept, HBM_AXIS_TOKENS, tokens, COUNT(tokens));
			go_and_come(&kept, tier);
			keep(&kept, HBM_AXIS_HEADS, heads, 2);
			go_and_come(&kept, tier);
			keep(&kept, HBM_AXIS_LAYERS, layers, 2);
			go_and_come(&kept, tier);
			assert_true(needed(&kept) < all);

			grow(&kept, 11);
			kept_check(&suspend_rig, &kept);
			go_and_come(&kept, tier);
			kept_check(&suspend_rig, &other);
			next_layout();
		}
	stage_finish(suspend_fds);
}

/* What was promised for the layers it has, and no more, is asked for again. */
static void test_what_is_promised_again(void **state)
{
	(void)state;
	static const struct hbm_sequence_options options = {.expected = 64};
	static const uint64_t layers[] = {1};
	struct hbm_device_memory before, between, after;
	struct hbm_sequence *sequence;

	suspend_start("layers=4 heads=4 dim=32768 bytes=2 order=token max=64");
	assert_int_equal(hbm_sequence_open(suspend_rig.pool, &options, &sequence), 0);
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, layers, 1), 0);
	assert_int_equal(hbm_device_memory(suspend_rig.hbm, 0, &before), 0);
	suspend_out(sequence, HBM_TIER_DDR);
	assert_int_equal(hbm_device_memory(suspend_rig.hbm, 0, &between), 0);
	assert_int_equal(between.promised, 0);
	suspend_in(sequence);
	assert_int_equal(hbm_device_memory(suspend_rig.hbm, 0, &after), 0);
	assert_true(before.promised > 0);
	assert_int_equal(after.promised, before.promised);
	suspend_finish();
}

/* ---- Groups ---- */

/* Forks that have kept the same share what they did, and those that have kept other things do
 * not get the bytes of others. */
static void test_a_group_of_different_ones(void **state)
{
	(void)state;
	static const uint64_t heads[] = {1, 2}, layers[] = {1};

	for (const char *const *layout = layouts; *layout; layout++) {
		suspend_start(*layout);
		struct kept all[4] = {opened(40)};
		struct hbm_sequence *list[4] = {all[0].sequence};

		assert_int_equal(hbm_sequence_fork(list[0], 2, list + 1), 0);
		for (size_t i = 1; i < 3; i++) {
			all[i] = all[0];
			all[i].sequence = list[i];
		}
		keep(&all[1], HBM_AXIS_HEADS, heads, 2);
		keep(&all[2], HBM_AXIS_LAYERS, layers, 1);
		assert_int_equal(hbm_sequence_fork(list[1], 1, list + 3), 0);
		all[3] = all[1];
		all[3].sequence = list[3];
		grow(&all[3], 3);
		const uint64_t leased = pool_rig_leased(&suspend_rig);

		assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, list, 4, HBM_TIER_NVME),
				 0);
		assert_int_equal(pool_rig_leased(&suspend_rig), 0);
		assert_true(suspend_blocks() <= leased / RIG_SLAB);
		suspend_scribble();

		/* In two groups, the first of them alone. */
		assert_int_equal(hbm_sequences_resume(suspend_rig.pool, list + 2, 1), 0);
		kept_check(&suspend_rig, &all[2]);
		assert_int_equal(hbm_sequences_switch(
					 suspend_rig.pool, list + 2, 1, HBM_TIER_DDR,
					 (struct hbm_sequence *[]){list[0], list[1], list[3]}, 3),
				 0);
		assert_int_equal(hbm_sequences_resume(suspend_rig.pool, list + 2, 1), 0);
		for (size_t i = 0; i < 4; i++) {
			grow(&all[i], 5);
			kept_check(&suspend_rig, &all[i]);
		}
		next_layout();
	}
	stage_finish(suspend_fds);
}

/* ---- Layer by layer ---- */

/* Fence i is that of layer i of the pool's layout. Those of layers that nothing in the group has
 * are set at once. */
static void test_layers_that_were_kept_arrive(void **state)
{
	(void)state;
	static const uint64_t layers[] = {0, 2};

	suspend_start(layouts[1]);
	struct kept kept = opened(40), whole = opened(9);
	struct hbm_sequence *list[] = {kept.sequence, whole.sequence};

	keep(&kept, HBM_AXIS_LAYERS, layers, 2);
	for (uint64_t round = 1; round <= 2; round++) {
		const struct hbm_switch_options options = {.in = list,
							   .in_count = round,
							   .has_fences = true,
							   .fence_slot = 7,
							   .fence_value = round};
		struct hbm_switch *change;

		assert_int_equal(
			hbm_sequences_suspend(suspend_rig.pool, list, round, HBM_TIER_NVME), 0);
		suspend_scribble();
		assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
		for (uint32_t layer = 0; layer < 3; layer++)
			while (*hbm_fence(suspend_rig.hbm, 7 + layer) != round)
				;
		assert_int_equal(hbm_switch_wait(change, -1), 0);
		kept_check(&suspend_rig, &kept);
		kept_check(&suspend_rig, &whole);
	}
	suspend_finish();
}

/* ---- Random operations ---- */

static struct seed seed;

static void random_keep(struct kept *kept)
{
	const enum hbm_axis axis = 1 + (enum hbm_axis)seed_below(&seed, 3);
	const uint64_t end = axis == HBM_AXIS_TOKENS   ? kept->tokens
			     : axis == HBM_AXIS_LAYERS ? kept->layer_count
						       : kept->head_count;
	uint64_t set[RIG_MAX];
	size_t count = 0;

	for (uint64_t i = 0; i < end; i++)
		if (seed_below(&seed, 4) > 0)
			set[count++] = i;

	/* What there is too little of is refused. */
	int r = kept_keep(kept, axis, set, count);

	assert_true(r == 0 || r == HBM_INVALID);
}

/* Some of what is out and some of what is in change places, or only one of both goes. */
static void random_switch(struct kept *all, bool *out, size_t count)
{
	struct hbm_sequence *leave[KEPT_MAX], *enter[KEPT_MAX];
	size_t leaving = 0, entering = 0;
	bool after[KEPT_MAX];

	for (size_t i = 0; i < count; i++) {
		after[i] = out[i];
		if (seed_below(&seed, 2))
			continue;
		after[i] = !out[i];
		if (out[i])
			enter[entering++] = all[i].sequence;
		else
			leave[leaving++] = all[i].sequence;
	}

	const enum hbm_tier tier = seed_below(&seed, 2) ? HBM_TIER_DDR : HBM_TIER_NVME;

	int r = hbm_sequences_switch(suspend_rig.pool, leave, leaving, tier, enter, entering);

	if (r != 0 && r != HBM_LIMIT && r != HBM_NO_SPACE)
		fail_msg("%d: %s", r, hbm_pool_error(suspend_rig.pool));
	if (r == 0)
		memcpy(out, after, count * sizeof(after[0]));
}

static void random_fork(struct kept *all, size_t *count, size_t parent)
{
	if (*count == KEPT_MAX)
		return;
	all[*count] = all[parent];
	assert_int_equal(hbm_sequence_fork(all[parent].sequence, 1, &all[*count].sequence), 0);
	++*count;
}

static void random_run(const char *layout)
{
	struct kept all[KEPT_MAX];
	bool out[KEPT_MAX] = {false};
	size_t count = 2;

	seed_open(&seed, layout);
	suspend_start(layout);
	all[0] = opened(30);
	all[1] = opened(17);
	for (unsigned i = 0; i < 100; i++) {
		const size_t n = seed_below(&seed, count);
		struct kept *one = &all[n];
		const uint64_t more = seed_below(&seed, 9);

		if (seed_below(&seed, 3) == 0) {
			random_switch(all, out, count);
			continue;
		}
		if (out[n])
			continue;
		switch (seed_below(&seed, 4)) {
		case 0:
			random_keep(one);
			break;
		case 1:
			random_fork(all, &count, n);
			break;
		default:
			grow(one, more < RIG_MAX - one->tokens ? more : RIG_MAX - one->tokens);
		}
		kept_check(&suspend_rig, one);
	}
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < count; i++) {
			if (out[i] != (pass == 1))
				continue;
			if (out[i])
				suspend_in(all[i].sequence);
			kept_check(&suspend_rig, &all[i]);
			assert_int_equal(hbm_sequence_close(all[i].sequence), 0);
		}
	next_layout();
}

static void test_random_operations(void **state)
{
	(void)state;
	for (const char *const *layout = layouts; *layout; layout++)
		random_run(*layout);
	stage_finish(suspend_fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_what_is_kept_goes_and_comes), TEST(test_what_is_promised_again),
		TEST(test_a_group_of_different_ones),   TEST(test_layers_that_were_kept_arrive),
		TEST(test_random_operations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
