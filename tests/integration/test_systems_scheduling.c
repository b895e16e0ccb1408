/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedulers, which decide what runs next, and with which memory, each by what its memory does,
 * in miniature: rows of the table in hbm(7). What a test asserts is what its system needs,
 * which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/system_calls.h"
#include "tests/support/system_stage.h"

static struct pool_rig rig;
static struct kv other; /* another engine, which takes what it can have */

static void start(uint64_t warm_bytes)
{
	system_stage_start(NULL);
	system_stage_pool(&rig, pool_rig_layouts[0], 0, warm_bytes);
	other = (struct kv){.hbm = spawn_connect(&daemon_)};
}

static void finish(void)
{
	pool_rig_close(&rig);
	hbm_close(other.hbm);
	system_stage_finish();
}

/* ---- Orca ---- */

#define ORCA_REQUESTS 14u

struct orca {
	struct hbm_sequence *running[ORCA_REQUESTS];
	uint64_t lengths[ORCA_REQUESTS], replies[ORCA_REQUESTS];
	size_t numbers[ORCA_REQUESTS]; /* of the requests that run */
	size_t count, next, most;
};

/* Those that can have all their memory join, in their order. */
static void orca_admit(struct orca *orca)
{
	while (orca->next < ORCA_REQUESTS) {
		const struct hbm_sequence_options options = {.expected = orca->replies[orca->next]};
		int r = hbm_sequence_open(rig.pool, &options, &orca->running[orca->count]);

		if (r == HBM_NO_SPACE)
			break;
		assert_int_equal(r, 0);
		orca->lengths[orca->count] = 0;
		orca->numbers[orca->count++] = orca->next++;
	}
	if (orca->count > orca->most)
		orca->most = orca->count;
}

static void orca_leave(struct orca *orca, size_t i)
{
	const size_t last = --orca->count;

	system_stage_expect(&rig, orca->running[i], 0, orca->lengths[i], 1000 * orca->numbers[i]);
	assert_int_equal(hbm_sequence_close(orca->running[i]), 0);
	orca->running[i] = orca->running[last];
	orca->lengths[i] = orca->lengths[last];
	orca->numbers[i] = orca->numbers[last];
}

/* One iteration of all that run: one call. */
static void orca_iterate(struct orca *orca)
{
	for (size_t i = 0; i < orca->count; i++)
		orca->lengths[i]++;
	assert_int_equal(hbm_step(rig.pool, orca->running, orca->lengths, orca->count), 0);
	for (size_t i = 0; i < orca->count; i++)
		pool_rig_write(&rig, orca->running[i], orca->lengths[i] - 1,
			       1000 * orca->numbers[i] + orca->lengths[i] - 1);
	for (size_t i = orca->count; i-- > 0;)
		if (orca->lengths[i] == orca->replies[orca->numbers[i]])
			orca_leave(orca, i);
}

/*
 * Orca schedules by iteration: requests join and leave between any two, with one step for all
 * that run; and none is admitted that could run out of memory in the middle, whatever others
 * take meanwhile.
 */
static void test_system_orca(void **state)
{
	(void)state;
	struct orca orca = {.count = 0};
	unsigned iterations = 0, mixed = 0;

	start(0);
	for (size_t i = 0; i < ORCA_REQUESTS; i++)
		orca.replies[i] = 9 + i * 23 % 50;
	do {
		const size_t before = orca.next;

		orca_admit(&orca);
		mixed += before > 0 && orca.next > before && orca.lengths[0] > 0;
		orca_iterate(&orca);
		if (iterations++ == 3)
			system_stage_take_all(&other);
	} while (orca.count > 0 || orca.next < ORCA_REQUESTS);

	/* Some had to wait, and joined those that were under way. */
	assert_true(orca.most < ORCA_REQUESTS);
	assert_true(mixed > 1);
	finish();
}

/* ---- BATCH ---- */

/*
 * BATCH fits the size of a batch to the load: it needs memory for all of a batch or for none of
 * it, at once, so that it can try a smaller one; what was granted stays so.
 */
static void test_system_batch(void **state)
{
	(void)state;
	struct hbm_sequence_options options[SYSTEM_SEQUENCES];
	struct hbm_sequence *batch[SYSTEM_SEQUENCES];
	uint64_t lengths[SYSTEM_SEQUENCES];
	size_t size = SYSTEM_SEQUENCES;

	start(0);
	for (size_t i = 0; i < size; i++) {
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
		lengths[i] = RIG_MAX;
	}
	const size_t most = SYSTEM_MEMORY / system_stage_bytes(&rig, RIG_MAX);

	while (hbm_sequences_open(rig.pool, options, size, 0, batch) == HBM_NO_SPACE) {
		const struct hbm_device_memory memory = system_stage_memory(rig.hbm, 0);
		struct hbm_pool_facts facts;

		hbm_pool_facts(rig.pool, &facts);
		assert_int_equal(facts.open, 0);
		assert_int_equal(memory.available, memory.capacity);
		size--;
	}
	assert_int_equal(size, most);

	system_stage_take_all(&other);
	assert_int_equal(hbm_step(rig.pool, batch, lengths, size), 0);
	for (size_t i = 0; i < size; i++)
		system_stage_write(&rig, batch[i], 0, RIG_MAX, 1000 * i);
	for (size_t i = 0; i < size; i++)
		system_stage_expect(&rig, batch[i], 0, RIG_MAX, 1000 * i);
	finish();
}

/* ---- LightLLM ---- */

#define LIGHT_RUNNING 3u
#define LIGHT_CANDIDATES 13u
#define LIGHT_ALL (LIGHT_RUNNING + LIGHT_CANDIDATES)

/* Runs the first `count` to their ends, a token each an iteration. False: memory ran out. */
static bool light_run(const struct hbm_sequence_demand *demands, size_t count)
{
	struct hbm_sequence *sequences[LIGHT_ALL];
	bool enough = true;

	for (size_t i = 0; i < count; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		enough = enough && pool_rig_step(&rig, sequences[i], demands[i].present) == 0;
	}
	for (uint64_t t = 1; enough && t <= RIG_MAX; t++) {
		struct hbm_sequence *batch[LIGHT_ALL];
		uint64_t lengths[LIGHT_ALL];
		size_t running = 0;

		for (size_t i = 0; i < count; i++) {
			if (demands[i].to_come >= t) {
				batch[running] = sequences[i];
				lengths[running++] = demands[i].present + t;
			} else if (sequences[i]) {
				assert_int_equal(hbm_sequence_close(sequences[i]), 0);
				sequences[i] = NULL;
			}
		}
		system_stage_memory(rig.hbm, 0);
		enough = hbm_step(rig.pool, batch, lengths, running) == 0;
	}
	for (size_t i = 0; i < count; i++)
		if (sequences[i])
			assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	system_stage_memory(rig.hbm, 0);

	return enough;
}

/* The counter, in tokens: exact, and no call. */
static void light_count(void)
{
	struct hbm_sequence *one = system_stage_prompt(&rig, 30, 0);
	struct hbm_pool_facts facts;
	const bool counted = system_calls_begin();

	hbm_pool_facts(rig.pool, &facts);
	if (counted)
		assert_int_equal(system_calls_end(), 0);
	assert_int_equal(facts.free_slabs * RIG_SLAB,
			 SYSTEM_MEMORY - system_stage_used(rig.hbm, 0));
	assert_true(facts.free_tokens > 0);
	assert_int_equal(hbm_sequence_close(one), 0);
}

/* How many run by the sum of their largest lengths. */
static size_t light_naive(const struct hbm_sequence_demand *demands, uint64_t memory)
{
	uint64_t sum = 0;
	size_t naive = 0;

	for (; naive < LIGHT_ALL; naive++) {
		sum += system_stage_bytes(&rig, demands[naive].present + demands[naive].to_come);
		if (sum > memory)
			break;
	}

	return naive;
}

/*
 * LightLLM accounts in tokens: how many are free is read without a call before each iteration,
 * and its router admits by the peak that all together will reach, not by the sum of their
 * largest lengths, and not one more.
 */
static void test_system_lightllm(void **state)
{
	(void)state;
	start(0);
	struct hbm_sequence_demand demands[LIGHT_ALL];
	struct hbm_layout_facts layout;
	size_t admitted = 0;

	/* Those that run are long and end soon, those that come are short and end late. */
	hbm_layout_facts(rig.layout, &layout);
	for (size_t i = 0; i < LIGHT_ALL; i++) {
		demands[i] =
			(struct hbm_sequence_demand){.present = i < LIGHT_RUNNING ? 50 : 2,
						     .to_come = i < LIGHT_RUNNING ? 2 + 5 * i : 48,
						     .token_bytes = layout.token_bytes,
						     .slab_bytes = layout.page_group_bytes};
	}

	light_count();
	kv_region(&other, layout.page_group_bytes);
	const uint64_t memory = system_stage_memory(rig.hbm, 0).available;

	assert_int_equal(hbm_admit(memory, demands, LIGHT_RUNNING, demands + LIGHT_RUNNING,
				   LIGHT_CANDIDATES, &admitted),
			 0);
	assert_true(LIGHT_RUNNING + admitted > light_naive(demands, memory));
	assert_true(admitted < LIGHT_CANDIDATES);
	assert_true(light_run(demands, LIGHT_RUNNING + admitted));
	assert_false(light_run(demands, LIGHT_RUNNING + admitted + 1));
	finish();
}

/* ---- S3 ---- */

/* It grows beyond its prediction until that is refused; how many tokens it has then. */
static uint64_t s3_overrun(struct hbm_sequence *sequence, uint64_t expected, uint64_t max)
{
	uint64_t length = expected;
	struct hbm_event event;

	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
	while (pool_rig_step(&rig, sequence, length + 1) == 0) {
		pool_rig_write(&rig, sequence, length, length);
		length++;
		assert_true(length < max);
	}
	assert_int_equal(pool_rig_step(&rig, sequence, length + 1), HBM_NO_SPACE);
	assert_int_equal(pool_rig_facts(sequence).tokens, length);
	assert_int_equal(hbm_pool_event(rig.pool, &event), 0);
	assert_int_equal(event.kind, HBM_EVENT_OVERRUN);
	assert_ptr_equal(event.sequence, sequence);
	assert_int_equal(event.expected, expected);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);

	return length;
}

/*
 * S3 reserves by a predicted length of the reply: a sequence has its memory as long as the
 * prediction holds; one that goes beyond is told of, and grows on credit, which may be refused
 * without harm to it or to others; and predictions are compared with what became of them.
 */
static void test_system_s3(void **state)
{
	(void)state;
	start(0);
	const struct hbm_sequence_options options = {.expected = 30, .max = 50};
	struct hbm_sequence *wrong, *right = system_stage_open(&rig, 40);
	struct hbm_pool_facts facts;

	assert_int_equal(hbm_sequence_open(rig.pool, &options, &wrong), 0);
	system_stage_take_all(&other);
	system_stage_grow(&rig, wrong, options.expected, 0); /* as predicted: there is memory */
	assert_true(s3_overrun(wrong, options.expected, options.max) >= options.expected);

	/* The other's prediction holds, and with it its memory. */
	system_stage_grow(&rig, right, 40, 1000);
	system_stage_expect(&rig, right, 0, 40, 1000);
	assert_int_equal(hbm_sequence_close(right), 0);
	system_stage_grow(&rig, wrong, options.max, 0);
	system_stage_expect(&rig, wrong, 0, options.max, 0);
	assert_int_equal(pool_rig_step(&rig, wrong, options.max + 1), HBM_INVALID);
	assert_int_equal(hbm_sequence_close(wrong), 0);

	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.totals.overruns, 1);
	assert_int_equal(facts.totals.closed, 2);
	assert_int_equal(facts.totals.expected_tokens, 30 + 40);
	assert_int_equal(facts.totals.actual_tokens, 50 + 40);
	finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_orca),
		TEST(test_system_batch),
		TEST(test_system_lightllm),
		TEST(test_system_s3),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
