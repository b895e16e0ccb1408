/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that grow, end and are opened again, end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"
#include "tests/support/system_calls.h"

#include <pthread.h>
#include <string.h>

#define MEMORY (168ull << 20) /* of regions: 192 MiB less cache and reserve */

static struct pool_rig rig;
static unsigned fds;

static void start(const char *layout, const struct hbm_pool_options *options)
{
	if (daemon_.pid == 0) {
		spawn_start(&daemon_, NULL, NULL);
		fds = spawn_fds(&daemon_);
	}
	pool_rig_open(&rig, &daemon_, layout, options);
}

static void finish(void)
{
	pool_rig_close(&rig);
	stage_finish(fds);
}

static const struct hbm_pool_options usual = {.max_sequences = 8, .warm_bytes = 64ull << 20};

static void expect_line(const char *text)
{
	if (!strstr(hbm_pool_error(rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(rig.pool), text);
}

/* ---- Growth ---- */

static void test_a_sequence_grows_at_its_address(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout, &usual);
		struct hbm_sequence *a = pool_rig_sequence(&rig), *b = pool_rig_sequence(&rig);
		const uint64_t address = pool_rig_facts(a).address;

		assert_int_equal(pool_rig_leased(&rig), 0);
		for (uint64_t n = 1; n <= RIG_MAX; n++) {
			struct hbm_sequence *both[] = {a, b};
			const uint64_t lengths[] = {n, n / 2};

			assert_int_equal(hbm_step(rig.pool, both, lengths, 2), 0);
			pool_rig_write(&rig, a, n - 1, n);
			if (n % 2 == 0)
				pool_rig_write(&rig, b, n / 2 - 1, 1000 + n);
			if (n % 3)
				assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		}

		assert_int_equal(pool_rig_facts(a).address, address);
		for (uint64_t n = 1; n <= RIG_MAX; n++)
			pool_rig_expect(&rig, a, n - 1, n);
		for (uint64_t n = 2; n <= RIG_MAX; n += 2)
			pool_rig_expect(&rig, b, n / 2 - 1, 1000 + n);
		assert_int_equal(hbm_sequence_close(a), 0);
		assert_int_equal(hbm_sequence_close(b), 0);
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

static void test_a_step_maps_no_more_than_it_needs(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *a = pool_rig_sequence(&rig);
	struct hbm_layout_use use;

	for (uint64_t n = 1; n <= RIG_MAX; n += 7) {
		assert_int_equal(pool_rig_step(&rig, a, n), 0);
		hbm_layout_use(rig.layout, n, &use);
		assert_int_equal(pool_rig_leased(&rig), use.mapped_bytes);
		assert_int_equal(pool_rig_facts(a).mapped_bytes, use.mapped_bytes);
	}
	finish();
}

static void test_map_ahead_maps_what_comes_next(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *a = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, a, 9), 0);
	const uint64_t before = pool_rig_leased(&rig);

	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	assert_true(pool_rig_leased(&rig) > before);
	assert_true(pool_rig_facts(a).ready >= 9 + RIG_AHEAD);

	/* What is mapped is not mapped again. */
	const uint64_t after = pool_rig_leased(&rig);

	assert_int_equal(pool_rig_step(&rig, a, 9 + RIG_AHEAD), 0);
	assert_int_equal(pool_rig_leased(&rig), after);
	finish();
}

static void test_a_thread_maps_ahead(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = pool_rig_sequence(&rig);

	for (uint64_t n = 1; n <= RIG_MAX; n++) {
		const uint64_t ready = n + RIG_AHEAD < RIG_MAX ? n + RIG_AHEAD : RIG_MAX;

		assert_int_equal(pool_rig_step(&rig, a, n), 0);
		pool_rig_write(&rig, a, n - 1, n);
		while (pool_rig_facts(a).ready < ready)
			;
	}
	for (uint64_t n = 1; n <= RIG_MAX; n++)
		pool_rig_expect(&rig, a, n - 1, n);
	finish();
}

/* Threads with sequences of their own, on one pool and with too little memory for all: what one
 * does not need, another takes. */
static void *user_of_a_pool(void *arg)
{
	uint64_t *refused = arg;

	for (uint64_t round = 0; round < 40; round++) {
		struct hbm_sequence *sequence;
		const uint64_t most = round % 3 ? 12 : RIG_MAX;

		if (hbm_sequence_open(rig.pool, NULL, &sequence) != 0)
			return NULL;
		for (uint64_t n = 1; n <= most; n += 1 + round % 5) {
			int r = hbm_step(rig.pool, &sequence, &n, 1);

			*refused += r == HBM_NO_SPACE;
			if (r != 0 && r != HBM_NO_SPACE)
				return NULL;
		}
		if (hbm_sequence_truncate(sequence, 0) != 0 || hbm_sequence_close(sequence) != 0)
			return NULL;
	}

	return refused;
}

static void test_threads_share_a_pool(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.memory=90MiB", NULL};
	const struct hbm_pool_options options = {
		.max_sequences = 8, .map_ahead_thread = true, .warm_bytes = MEMORY};
	pthread_t threads[4];
	uint64_t refused[4] = {0};

	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, user_of_a_pool, &refused[i]), 0);
	for (size_t i = 0; i < 4; i++) {
		void *done;

		pthread_join(threads[i], &done);
		assert_ptr_equal(done, &refused[i]);
	}
	finish();
}

/* Every step is within what the call before it has mapped. */
static void test_what_is_mapped_ahead_grows_without_a_system_call(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *both[] = {pool_rig_sequence(&rig), pool_rig_sequence(&rig)};
	uint64_t lengths[] = {1, 1};
	unsigned growths = 0;

	assert_int_equal(hbm_step(rig.pool, both, lengths, 2), 0);
	while (lengths[0] < RIG_MAX) {
		const uint64_t leased = pool_rig_leased(&rig);

		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		growths += pool_rig_leased(&rig) > leased;
		lengths[0] = ++lengths[1];
		if (!system_calls_begin())
			break;
		int r = hbm_step(rig.pool, both, lengths, 2);

		assert_int_equal(system_calls_end(), 0);
		assert_int_equal(r, 0);
	}
	assert_true(growths > 4 || lengths[0] < RIG_MAX);

	/* Nothing is due: map-ahead makes none either. */
	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	if (system_calls_begin()) {
		hbm_pool_map_ahead(rig.pool);
		assert_int_equal(system_calls_end(), 0);
	}
	finish();
}

static void test_a_step_beside_the_thread_makes_no_call_where_nothing_is_due(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = pool_rig_sequence(&rig);

	for (uint64_t n = 1; n <= RIG_MAX; n++) {
		const uint64_t ready = pool_rig_facts(a).ready;
		const bool counted = n + RIG_AHEAD <= ready && system_calls_begin();
		int r = hbm_step(rig.pool, &a, &n, 1);

		if (counted)
			assert_int_equal(system_calls_end(), 0);
		assert_int_equal(r, 0);
	}
	finish();
}

/* ---- Closed sequences ---- */

static void test_slabs_of_a_closed_sequence_serve_the_next(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *a = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, a, 40), 0);
	const uint64_t leased = pool_rig_leased(&rig);
	const uint64_t address = pool_rig_facts(a).address;

	assert_int_equal(hbm_sequence_close(a), 0);
	struct hbm_sequence *b = pool_rig_sequence(&rig);
	assert_int_equal(pool_rig_facts(b).address, address);
	assert_true(pool_rig_facts(b).ready >= 40);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	const uint64_t maps = soft.calls("cuMemMap"), unmaps = soft.calls("cuMemUnmap");
	assert_int_equal(pool_rig_step(&rig, b, 40), 0);
	assert_int_equal(soft.calls("cuMemMap"), maps);
	assert_int_equal(soft.calls("cuMemUnmap"), unmaps);
	assert_int_equal(pool_rig_leased(&rig), leased);
	finish();
}

static void test_warm_slabs_have_a_limit(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8,
						 .warm_bytes = 5 * RIG_SLAB + 1};
	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *sequences[3];
	struct hbm_pool_facts facts;

	for (size_t i = 0; i < 3; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		assert_int_equal(pool_rig_step(&rig, sequences[i], 20), 0);
	}
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
		hbm_pool_facts(rig.pool, &facts);
		assert_true(facts.warm_bytes <= 5 * RIG_SLAB);
	}
	assert_true(facts.warm_bytes >= 4 * RIG_SLAB);
	assert_int_equal(pool_rig_leased(&rig), facts.warm_bytes);

	/* They are those of the begin: the next sequence has them ready. */
	assert_true(pool_rig_facts(pool_rig_sequence(&rig)).ready > 0);
	finish();
}

static void test_warm_slabs_go_before_a_step_is_refused(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 16, .warm_bytes = MEMORY};

	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *sequences[16];
	struct hbm_layout_use use;
	hbm_layout_use(rig.layout, RIG_MAX, &use);
	const size_t most = MEMORY / use.mapped_bytes;
	struct hbm_sequence *late = pool_rig_sequence(&rig);

	for (size_t i = 0; i < most; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);
	}
	for (size_t i = 0; i < most; i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	assert_int_equal(pool_rig_leased(&rig), most * use.mapped_bytes);

	for (uint64_t n = 7; n <= RIG_MAX; n += 19) {
		assert_int_equal(pool_rig_step(&rig, late, n), 0);
		pool_rig_write(&rig, late, n - 1, n);
	}
	for (uint64_t n = 7; n <= RIG_MAX; n += 19)
		pool_rig_expect(&rig, late, n - 1, n);
	finish();
}

/* Short sequences that were opened on the slabs of long ones. */
static void test_slabs_that_open_sequences_do_not_need_go_too(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 16, .warm_bytes = MEMORY};

	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *sequences[16];
	uint64_t lengths[16];
	struct hbm_layout_use use;
	hbm_layout_use(rig.layout, RIG_MAX, &use);
	const size_t most = MEMORY / use.mapped_bytes;

	for (size_t i = 0; i < most; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);
	}
	for (size_t i = 0; i < most; i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);

	/* All memory is in the slots of the first; the step needs some that they have beyond its
	 * lengths, and none that they have within. */
	for (size_t i = 0; i < 16; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		lengths[i] = i == 0 ? 50 : 9;
	}
	assert_int_equal(hbm_step(rig.pool, sequences, lengths, 16), 0);
	for (size_t i = 0; i < 16; i++)
		pool_rig_write(&rig, sequences[i], lengths[i] - 1, i);
	for (size_t i = 0; i < 16; i++)
		pool_rig_expect(&rig, sequences[i], lengths[i] - 1, i);
	finish();
}

/* ---- Refusals ---- */

static void test_no_space_changes_nothing_and_says_who(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 16};

	start(pool_rig_layouts[0], &options);
	struct hbm_sequence *sequences[16];
	uint64_t lengths[16];
	for (size_t i = 0; i < 16; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		lengths[i] = i < 4 ? RIG_MAX : 5;
	}

	assert_int_equal(hbm_step(rig.pool, sequences, lengths, 16), 0);
	const uint64_t leased = pool_rig_leased(&rig);

	for (size_t i = 0; i < 16; i++)
		lengths[i] = RIG_MAX;
	assert_int_equal(hbm_step(rig.pool, sequences, lengths, 16), HBM_NO_SPACE);
	expect_line("sequence 4 of the step (slot 4, 5 to 64 tokens) and others");
	assert_int_equal(pool_rig_leased(&rig), leased);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(pool_rig_facts(sequences[i]).tokens, i < 4 ? RIG_MAX : 5);

	/* Each of what fits still does. */
	for (size_t i = 4; i < 16; i++)
		lengths[i] = 6;
	assert_int_equal(hbm_step(rig.pool, sequences, lengths, 16), 0);
	finish();
}

static void test_steps_that_are_wrong(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct pool_rig other;
	pool_rig_open(&other, &daemon_, pool_rig_layouts[0], &usual);
	struct hbm_sequence *a = pool_rig_sequence(&rig), *b = pool_rig_sequence(&rig);
	struct hbm_sequence *closed = pool_rig_sequence(&rig);
	struct hbm_sequence *strange = pool_rig_sequence(&other);

	assert_int_equal(hbm_sequence_close(closed), 0);
	assert_int_equal(pool_rig_step(&rig, b, 7), 0);

	const struct {
		struct hbm_sequence *second;
		uint64_t length;
		const char *line;
	} wrong[] = {
		{b, 6, "hbm_sequence_truncate()"},
		{b, RIG_MAX + 1, "of at most 64"},
		{b, UINT64_MAX, "of at most 64"},
		{a, 20, "twice"},
		{closed, 1, "closed"},
		{closed, UINT64_MAX, "closed"},
		{strange, 1, "another pool"},
		{NULL, 1, "NULL"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct hbm_sequence *both[] = {a, wrong[i].second};
		const uint64_t lengths[] = {20, wrong[i].length};

		assert_int_equal(hbm_step(rig.pool, both, lengths, 2), HBM_INVALID);
		expect_line(wrong[i].line);
		assert_int_equal(pool_rig_facts(a).tokens, 0);
		assert_int_equal(pool_rig_facts(b).tokens, 7);
		assert_int_equal(pool_rig_facts(a).mapped_bytes, 0);
	}

	assert_int_equal(hbm_step(rig.pool, NULL, NULL, 0), 0);
	assert_int_equal(hbm_sequence_close(closed), HBM_INVALID);
	assert_int_equal(hbm_sequence_truncate(closed, 0), HBM_INVALID);
	assert_int_equal(hbm_sequence_slide(closed, 0), HBM_INVALID);
	assert_int_equal(hbm_sequence_close(NULL), HBM_INVALID);
	pool_rig_close(&other);
	finish();
}

static void test_sequences_that_cannot_be_opened(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *sequences[9] = {NULL};
	struct hbm_sequence_options options[9] = {{.expected = 10}, {.max = RIG_MAX + 1}};

	assert_int_equal(hbm_sequences_open(rig.pool, options, 2, 0, sequences), HBM_INVALID);
	expect_line("the layout has 64");
	options[1] = (struct hbm_sequence_options){.expected = 11, .max = 10};
	assert_int_equal(hbm_sequences_open(rig.pool, options, 2, 0, sequences), HBM_INVALID);
	options[1] = options[0];
	assert_int_equal(hbm_sequences_open(rig.pool, options, 9, 0, sequences), HBM_LIMIT);
	expect_line("9 sequences");
	assert_null(sequences[0]);
	assert_int_equal(hbm_sequences_open(rig.pool, options, 8, 0, sequences), 0);
	assert_int_equal(hbm_sequence_open(rig.pool, NULL, &sequences[8]), HBM_LIMIT);
	finish();
}

static void test_more_tokens_than_expected_are_told_once(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	const struct hbm_sequence_options options = {.expected = 10};
	struct hbm_sequence *a;
	struct hbm_event event;
	struct hbm_pool_facts facts;

	assert_int_equal(hbm_sequence_open(rig.pool, &options, &a), 0);
	assert_int_equal(pool_rig_step(&rig, a, 10), 0);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
	assert_int_equal(pool_rig_step(&rig, a, 11), 0);
	assert_int_equal(pool_rig_step(&rig, a, 12), 0);
	assert_int_equal(hbm_pool_event(rig.pool, &event), 0);
	assert_int_equal(event.kind, HBM_EVENT_OVERRUN);
	assert_ptr_equal(event.sequence, a);
	assert_int_equal(event.expected, 10);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);

	assert_int_equal(hbm_sequence_close(a), 0);
	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.totals.overruns, 1);
	assert_int_equal(facts.totals.closed, 1);
	assert_int_equal(facts.totals.expected_tokens, 10);
	assert_int_equal(facts.totals.actual_tokens, 12);
	finish();
}

/* ---- Truncate and slide ---- */

static void test_truncate_gives_back_what_is_far_beyond(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], &usual);
	struct hbm_sequence *a = pool_rig_sequence(&rig);
	struct hbm_layout_use use;

	assert_int_equal(pool_rig_step(&rig, a, RIG_MAX), 0);
	for (uint64_t n = 0; n < 10; n++)
		pool_rig_write(&rig, a, n, n);
	assert_int_equal(hbm_sequence_truncate(a, RIG_MAX + 1), HBM_INVALID);
	assert_int_equal(hbm_sequence_truncate(a, 10), 0);
	hbm_layout_use(rig.layout, 10 + 2 * RIG_AHEAD, &use);
	assert_int_equal(pool_rig_leased(&rig), use.mapped_bytes);
	assert_int_equal(pool_rig_step(&rig, a, 9), HBM_INVALID);
	assert_int_equal(pool_rig_step(&rig, a, RIG_MAX), 0);
	for (uint64_t n = 0; n < 10; n++)
		pool_rig_expect(&rig, a, n, n);
	finish();
}

static void test_slide_frees_from_the_front(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout, &usual);
		struct hbm_sequence *a = pool_rig_sequence(&rig);
		uint64_t most = 0;

		for (uint64_t n = 1; n <= RIG_MAX; n++) {
			assert_int_equal(pool_rig_step(&rig, a, n), 0);
			pool_rig_write(&rig, a, n - 1, n);
			if (n > 12)
				assert_int_equal(hbm_sequence_slide(a, n - 12), 0);
			const uint64_t leased = pool_rig_leased(&rig);
			most = leased > most ? leased : most;
			for (uint64_t k = n > 12 ? n - 12 : 0; k < n; k++)
				pool_rig_expect(&rig, a, k, k + 1);
		}

		/* 13 tokens with a slab that begins and one that ends with others. */
		struct hbm_layout_use use;
		hbm_layout_use(rig.layout, 13, &use);
		assert_true(most <= use.mapped_bytes + 4 * 2 * RIG_SLAB);
		assert_int_equal(hbm_sequence_slide(a, RIG_MAX - 13), HBM_INVALID);
		assert_int_equal(hbm_sequence_slide(a, RIG_MAX + 1), HBM_INVALID);
		assert_int_equal(hbm_sequence_truncate(a, 3), HBM_INVALID);

		/* The next sequence gets the front anew. */
		assert_int_equal(hbm_sequence_close(a), 0);
		a = pool_rig_sequence(&rig);
		assert_int_equal(pool_rig_step(&rig, a, RIG_MAX), 0);
		for (uint64_t n = 0; n < RIG_MAX; n++)
			pool_rig_write(&rig, a, n, n);
		for (uint64_t n = 0; n < RIG_MAX; n++)
			pool_rig_expect(&rig, a, n, n);
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

static void read_layer(struct hbm_sequence *sequence, uint32_t layer, uint64_t token)
{
	uint64_t offset, word;

	assert_int_equal(hbm_layout_offset(rig.layout, layer, HBM_KEYS, token, 0, &offset), 0);
	kv_read(&rig.kv, &word, pool_rig_facts(sequence).address + offset, sizeof(word));
}

/* A layer with a window beside one without: the first keeps its window and what two steps may
 * still read, whoever maps. */
static void test_windows_leave_nothing_behind(void **state)
{
	(void)state;
	/* A slab ends between the windows of steps where more is mapped. */
	static const char layout[] =
		"layers=2 order=token max=64 layer=0 heads=3 dim=18000 bytes=4 window=6 "
		"layer=1 heads=3 dim=18000 bytes=4";

	for (unsigned ahead = 0; ahead < 2; ahead++) {
		start(layout, &usual);
		struct hbm_sequence *a = pool_rig_sequence(&rig);
		struct hbm_layout_use use;

		for (uint64_t n = 1; n <= RIG_MAX; n++) {
			assert_int_equal(pool_rig_step(&rig, a, n), 0);
			pool_rig_write(&rig, a, n - 1, n);
			if (ahead)
				assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
			if (n > 2 + 6)
				read_layer(a, 0, n - 2 - 6);
		}
		for (uint64_t n = 1; n <= RIG_MAX; n++)
			pool_rig_expect(&rig, a, n - 1, n);

		/* At most a slab more in each of the window's two buffers. */
		hbm_layout_use(rig.layout, RIG_MAX, &use);
		assert_in_range(pool_rig_leased(&rig), use.mapped_bytes,
				use.mapped_bytes + 2 * RIG_SLAB);
		assert_int_equal(hbm_sequence_truncate(a, 20), HBM_INVALID);
		expect_line("windows have slid");
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_a_sequence_grows_at_its_address),
		TEST(test_a_step_maps_no_more_than_it_needs),
		TEST(test_map_ahead_maps_what_comes_next),
		TEST(test_a_thread_maps_ahead),
		TEST(test_threads_share_a_pool),
		TEST(test_what_is_mapped_ahead_grows_without_a_system_call),
		TEST(test_a_step_beside_the_thread_makes_no_call_where_nothing_is_due),
		TEST(test_slabs_of_a_closed_sequence_serve_the_next),
		TEST(test_warm_slabs_have_a_limit),
		TEST(test_warm_slabs_go_before_a_step_is_refused),
		TEST(test_slabs_that_open_sequences_do_not_need_go_too),
		TEST(test_no_space_changes_nothing_and_says_who),
		TEST(test_steps_that_are_wrong),
		TEST(test_sequences_that_cannot_be_opened),
		TEST(test_more_tokens_than_expected_are_told_once),
		TEST(test_truncate_gives_back_what_is_far_beyond),
		TEST(test_slide_frees_from_the_front),
		TEST(test_windows_leave_nothing_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
