/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that keep some of their tokens, layers or heads, end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kept.h"
#include "tests/support/seed.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEPT_MAX 5 /* sequences */

static struct pool_rig rig;
static unsigned fds;
static struct seed seed;
static uint64_t last_id;

static const char *const headed_layouts[] = {
	"layers=3 order=token max=64 layer=0,2 heads=4 dim=7001 bytes=2 layer=1 heads=3 dim=9001 "
	"bytes=2 keys=only",
	"layers=3 order=layer max=64 layer=0,2 heads=4 dim=7001 bytes=2 layer=1 heads=3 dim=9001 "
	"bytes=2",
	"layers=3 heads=4 dim=4096 bytes=2 order=block page=8 page_form=hnd max=64",
	"layers=4 order=token max=64 layer=0 heads=3 dim=9000 bytes=4 layer=1 state=3000 layer=2 "
	"state=2600000 layer=3 state=4000",
	NULL,
};
static const char *const *const layout_lists[] = {pool_rig_layouts, pool_rig_mixed_layouts,
						  headed_layouts};

static void start(const char *layout)
{
	const struct hbm_pool_options options = {.max_sequences = KEPT_MAX};

	if (daemon_.pid == 0) {
		spawn_start(&daemon_, (const char *[]){"device.memory=256MiB", NULL}, NULL);
		fds = spawn_fds(&daemon_);
	}
	pool_rig_open(&rig, &daemon_, layout, &options);
}

static void next_layout(void)
{
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void grow(struct kept *kept, uint64_t more)
{
	assert_int_equal(pool_rig_step(&rig, kept->sequence, kept->tokens + more), 0);
	for (uint64_t i = 0; i < more; i++)
		kept_write(&rig, kept, ++last_id);
}

static void keep(struct kept *kept, enum hbm_axis axis, const uint64_t *set, size_t count)
{
	if (kept_keep(kept, axis, set, count) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool));
	kept_check(&rig, kept);
}

/* ---- One by one ---- */

static void test_memory_of_what_is_dropped_comes_back_at_once(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"layers=4 heads=4 dim=32768 bytes=2 order=token max=64",
		"layers=4 heads=4 dim=32768 bytes=2 order=layer max=64",
		"layers=4 heads=4 dim=32768 bytes=2 order=block page=4 max=64"};
	static const uint64_t layers[] = {1, 3}, heads[] = {0, 3},
			      tokens[] = {0, 1, 2, 3, 12, 13, 57, 58, 59};

	for (size_t i = 0; i < COUNT(texts); i++) {
		start(texts[i]);
		struct kept kept = kept_open(&rig);

		grow(&kept, 60);
		const uint64_t all = pool_rig_leased(&rig);
		keep(&kept, HBM_AXIS_LAYERS, layers, 2);
		const uint64_t half = pool_rig_leased(&rig);
		assert_true(half <= all / 2 + 4 * RIG_SLAB);
		keep(&kept, HBM_AXIS_HEADS, heads, 2);
		const uint64_t quarter = pool_rig_leased(&rig);
		assert_true(quarter <= all / 4 + 4 * RIG_SLAB);
		keep(&kept, HBM_AXIS_TOKENS, tokens, COUNT(tokens));
		assert_true(pool_rig_leased(&rig) < quarter);
		assert_int_equal(pool_rig_leased(&rig), pool_rig_facts(kept.sequence).mapped_bytes);

		/* As many as ever, and in less. */
		grow(&kept, RIG_MAX - kept.tokens);
		kept_check(&rig, &kept);
		assert_true(pool_rig_leased(&rig) <= all / 4 + 4 * RIG_SLAB);
		next_layout();
	}
	stage_finish(fds);
}

static void test_layers_of_layer_order_stay_where_they_are(void **state)
{
	(void)state;
	static const uint64_t layers[] = {0, 2};

	spawn_needs_soft();
	start(headed_layouts[1]);
	struct kept kept = kept_open(&rig);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	struct hbm_sequence *fork;

	grow(&kept, 40);
	assert_int_equal(hbm_sequence_fork(kept.sequence, 1, &fork), 0);
	const uint64_t copies = soft.calls("cuMemcpyDtoDAsync");
	const uint64_t launches = soft.calls("cuLaunchKernel");
	keep(&kept, HBM_AXIS_LAYERS, layers, 2);
	assert_int_equal(soft.calls("cuMemcpyDtoDAsync"), copies);
	assert_int_equal(soft.calls("cuLaunchKernel"), launches);
	next_layout();
	stage_finish(fds);
}

static void test_others_that_share_see_nothing_of_it(void **state)
{
	(void)state;
	static const uint64_t layers[] = {1}, heads[] = {0, 2}, tokens[] = {3, 4, 8, 30, 31, 39};

	for (const char *const *layout = headed_layouts; *layout; layout++) {
		start(*layout);
		struct kept parent = kept_open(&rig), forks[3];
		struct hbm_sequence *opened[3];

		grow(&parent, 40);
		assert_int_equal(hbm_sequence_fork(parent.sequence, 3, opened), 0);
		for (size_t i = 0; i < 3; i++) {
			forks[i] = parent;
			forks[i].sequence = opened[i];
		}
		keep(&forks[0], HBM_AXIS_LAYERS, layers, 1);
		keep(&forks[1], HBM_AXIS_HEADS, heads, 2);
		keep(&parent, HBM_AXIS_TOKENS, tokens, COUNT(tokens));
		for (size_t i = 0; i < 3; i++)
			kept_check(&rig, &forks[i]);

		/* Forks of one that has kept less are as it is. */
		struct kept child = forks[1];

		assert_int_equal(hbm_sequence_fork(forks[1].sequence, 1, &child.sequence), 0);
		grow(&forks[1], 3);
		grow(&child, 7);
		kept_check(&rig, &forks[1]);
		kept_check(&rig, &child);
		assert_int_equal(hbm_sequences_reorder(rig.pool,
						       (struct hbm_sequence *[]){child.sequence,
										 forks[1].sequence},
						       (const uint32_t[]){1, 1}, 2),
				 0);
		forks[1].sequence = child.sequence;
		kept_check(&rig, &forks[1]);
		assert_int_equal(hbm_sequences_reorder(rig.pool,
						       (struct hbm_sequence *[]){child.sequence,
										 forks[0].sequence},
						       (const uint32_t[]){1, 1}, 2),
				 HBM_INVALID);
		assert_non_null(strstr(hbm_pool_error(rig.pool), "kept other layers or heads"));
		next_layout();
	}
	stage_finish(fds);
}

static void test_what_was_promised_shrinks_with_it(void **state)
{
	(void)state;
	static const struct hbm_sequence_options options = {.expected = 64};
	static const uint64_t layers[] = {0};
	struct hbm_device_memory before, after;

	start("layers=4 heads=4 dim=32768 bytes=2 order=token max=64");
	struct hbm_sequence *sequence;

	assert_int_equal(hbm_sequence_open(rig.pool, &options, &sequence), 0);
	assert_int_equal(hbm_device_memory(rig.hbm, 0, &before), 0);
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, layers, 1), 0);
	assert_int_equal(hbm_device_memory(rig.hbm, 0, &after), 0);
	assert_true(after.available >= before.available + 20 * RIG_SLAB);
	next_layout();
	stage_finish(fds);
}

/* ---- What is wrong ---- */

static void refused(struct kept *kept, enum hbm_axis axis, const uint64_t *set, size_t count,
		    const char *line)
{
	assert_int_equal(kept_keep(kept, axis, set, count), HBM_INVALID);
	if (!strstr(hbm_pool_error(rig.pool), line))
		fail_msg("%s", hbm_pool_error(rig.pool));
	kept_check(&rig, kept);
}

static void test_wrong_sets(void **state)
{
	(void)state;
	static const uint64_t twice[] = {1, 1}, down[] = {2, 1}, four[] = {3, 4}, one[] = {1};
	uint64_t places[1];

	start(headed_layouts[0]);
	struct kept kept = kept_open(&rig);

	refused(&kept, HBM_AXIS_TOKENS, one, 1, "tokens to be kept: there are none");
	grow(&kept, 4);
	refused(&kept, HBM_AXIS_TOKENS, one, 0, "no tokens are to be kept");
	refused(&kept, HBM_AXIS_HEADS, twice, 2, "heads to be kept: 1 behind 1");
	refused(&kept, HBM_AXIS_LAYERS, down, 2, "layers to be kept: 1 behind 2");
	refused(&kept, HBM_AXIS_TOKENS, four, 2, "tokens to be kept: 4, not 0 to 3");
	refused(&kept, HBM_AXIS_LAYERS, four, 1, "layers to be kept: 3, not 0 to 2");
	refused(&kept, HBM_AXIS_HEADS, four, 1, "heads to be kept: 3, not 0 to 2");
	refused(&kept, (enum hbm_axis)7, one, 1, "there is no axis 7");
	assert_int_equal(hbm_sequence_slide(kept.sequence, 2), 0);
	kept.first = 2;
	refused(&kept, HBM_AXIS_TOKENS, one, 1, "tokens to be kept: 1, not 2 to 3");
	assert_int_equal(hbm_sequence_draft(kept.sequence, (const int32_t[]){-1}, 1, places), 0);
	refused(&kept, HBM_AXIS_LAYERS, one, 1, "with drafts");
	assert_int_equal(hbm_sequence_close(kept.sequence), 0);
	assert_int_equal(hbm_sequence_keep(kept.sequence, HBM_AXIS_LAYERS, one, 1), HBM_INVALID);
	assert_int_equal(hbm_sequence_keep(NULL, HBM_AXIS_LAYERS, one, 1), HBM_INVALID);
	next_layout();
	stage_finish(fds);
}

/* ---- Random operations ---- */

static size_t random_set(uint64_t *set, uint64_t first, uint64_t end)
{
	const uint64_t of = 1 + seed_below(&seed, 4);
	size_t count = 0;

	for (uint64_t i = first; i < end; i++)
		if (seed_below(&seed, of + 1) > 0)
			set[count++] = i;
	if (count == 0)
		set[count++] = first;

	return count;
}

static void random_keep(struct kept *kept)
{
	const enum hbm_axis axis = 1 + (enum hbm_axis)seed_below(&seed, 3);
	const struct hbm_layout *layout = hbm_sequence_layout(kept->sequence);
	uint64_t set[RIG_MAX], heads = kept->head_count, first = 0, end;

	for (uint32_t i = 0; i < kept->layer_count; i++) {
		const struct hbm_layer *shape = &hbm_layout_options(layout)->layers[i];

		if (!shape->state_bytes && shape->heads < heads)
			heads = shape->heads;
	}
	end = axis == HBM_AXIS_LAYERS ? kept->layer_count : heads;
	if (axis == HBM_AXIS_TOKENS) {
		first = kept->first;
		end = kept->tokens;
		if (first == end)
			return;
	}

	const size_t count = random_set(set, first, end);
	int r = kept_keep(kept, axis, set, count);

	if (r == HBM_INVALID && (strstr(hbm_pool_error(rig.pool), "window") ||
				 strstr(hbm_pool_error(rig.pool), "there are none")))
		return;
	if (r)
		fail_msg("%d: %s", r, hbm_pool_error(rig.pool));
}

static void random_grow(struct kept *kept)
{
	const uint64_t left = RIG_MAX - kept->tokens, more = seed_below(&seed, 16);

	grow(kept, more < left ? more : left);
}

static void random_cut(struct kept *kept)
{
	const uint64_t tokens = kept->first + seed_below(&seed, kept->tokens - kept->first + 1);

	if (seed_below(&seed, 2)) {
		assert_int_equal(hbm_sequence_slide(kept->sequence, tokens), 0);
		kept->first = tokens;
	} else if (hbm_sequence_truncate(kept->sequence, tokens) == 0) {
		kept->tokens = tokens;
	}
}

static void random_accept(struct kept *kept)
{
	static const int32_t parents[] = {-1, -1, 1, 0, 2}, path[] = {1, 2, 4};
	struct kept drafts = *kept;
	uint64_t places[COUNT(parents)];

	if (kept->tokens + COUNT(parents) > RIG_MAX)
		return;
	assert_int_equal(hbm_sequence_draft(kept->sequence, parents, COUNT(parents), places), 0);
	for (size_t i = 0; i < COUNT(parents); i++)
		kept_write(&rig, &drafts, ++last_id);
	assert_int_equal(hbm_sequence_accept(kept->sequence, path, COUNT(path)), 0);
	kept->state = drafts.state;
	for (size_t i = 0; i < COUNT(path); i++)
		kept->ids[kept->tokens++] = drafts.ids[places[path[i]]];
}

static void random_run(const char *layout, bool without_code)
{
	struct kept all[KEPT_MAX];
	size_t count = 0;

	seed_open(&seed, layout);
	start(layout);
	if (without_code)
		soft_calls_of(rig.kv.driver)
			.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_NO_BINARY_FOR_GPU);
	for (unsigned i = 0; i < 120; i++) {
		struct kept *one = &all[count ? seed_below(&seed, count) : 0];

		switch (count < 2 ? 0 : seed_below(&seed, 9)) {
		case 0:
			if (count < KEPT_MAX)
				all[count++] = kept_open(&rig);
			break;
		case 1:
			if (count < KEPT_MAX) {
				all[count] = *one;
				assert_int_equal(
					hbm_sequence_fork(one->sequence, 1, &all[count++].sequence),
					0);
			}
			break;
		case 2:
			assert_int_equal(hbm_sequence_close(one->sequence), 0);
			*one = all[--count];
			break;
		case 3:
			random_cut(one);
			break;
		case 4:
			random_accept(one);
			break;
		case 5:
			random_keep(one);
			break;
		case 6:
			assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
			break;
		default:
			random_grow(one);
		}
		kept_check(&rig, &all[seed_below(&seed, count)]);
	}
	for (size_t i = 0; i < count; i++)
		kept_check(&rig, &all[i]);
	next_layout();
}

static void random_layouts(bool without_code)
{
	for (size_t i = 0; i < COUNT(layout_lists); i++)
		for (const char *const *layout = layout_lists[i]; *layout; layout++)
			random_run(*layout, without_code);
	stage_finish(fds);
}

static void test_random_operations(void **state)
{
	(void)state;
	random_layouts(false);
}

static void test_random_operations_without_device_code(void **state)
{
	(void)state;
	spawn_needs_soft();
	random_layouts(true);
}

/* ---- Copies that are refused ---- */

/* Calls that begin with the nth are refused, twice: what has changed nothing is as it was, and a
 * sequence that is lost can be closed. */
static void refuse_copies(const char *layout, const char *call, unsigned *unchanged, unsigned *lost)
{
	static const uint64_t heads[] = {1};
	bool is_refused = true;

	start(layout);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);

	for (unsigned nth = 1; is_refused && nth < 100; nth += 1 + nth / 4) {
		struct kept kept = kept_open(&rig);

		grow(&kept, 40);
		soft.fail_nth(call, nth, CUDA_ERROR_OUT_OF_MEMORY);
		soft.fail_nth(call, nth + 1, CUDA_ERROR_OUT_OF_MEMORY);
		int r = kept_keep(&kept, HBM_AXIS_HEADS, heads, 1);
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);

		is_refused = r == HBM_DEVICE;
		struct hbm_sequence_facts facts;

		if (hbm_sequence_facts(kept.sequence, &facts) == HBM_DEVICE) {
			assert_true(is_refused);
			++*lost;
		} else {
			*unchanged += is_refused;
			kept_check(&rig, &kept);
		}
		assert_int_equal(hbm_sequence_close(kept.sequence), 0);
	}
	next_layout();
}

static void test_copies_that_are_refused(void **state)
{
	(void)state;
	unsigned unchanged = 0, lost = 0;

	spawn_needs_soft();
	refuse_copies(pool_rig_layouts[0], "cuLaunchKernel", &unchanged, &lost);
	refuse_copies("layers=1 heads=2 dim=600000 bytes=2 order=layer max=64", "cuMemcpyDtoDAsync",
		      &unchanged, &lost);
	assert_in_range(unchanged, 2, 100);
	assert_in_range(lost, 4, 100);
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_memory_of_what_is_dropped_comes_back_at_once),
		TEST(test_layers_of_layer_order_stay_where_they_are),
		TEST(test_others_that_share_see_nothing_of_it),
		TEST(test_what_was_promised_shrinks_with_it),
		TEST(test_wrong_sets),
		TEST(test_random_operations),
		TEST(test_random_operations_without_device_code),
		TEST(test_copies_that_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
