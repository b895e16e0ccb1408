/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedulers and decoding methods that decide what runs next, each by what its memory does, in
 * miniature: the systems of the table in hbm(7). What a test asserts is what its system needs,
 * which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/seed.h"
#include "tests/support/system_calls.h"
#include "tests/support/system_stage.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

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

static struct hbm_sequence *open_expecting(struct pool_rig *engine, uint64_t expected)
{
	const struct hbm_sequence_options options = {.expected = expected};
	struct hbm_sequence *sequence;

	assert_int_equal(hbm_sequence_open(engine->pool, &options, &sequence), 0);

	return sequence;
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
	struct hbm_pool_facts facts;
	size_t admitted = 0, naive = 0;

	/* Those that run are long and end soon, those that come are short and end late. */
	hbm_layout_facts(rig.layout, &layout);
	for (size_t i = 0; i < LIGHT_ALL; i++) {
		demands[i] =
			(struct hbm_sequence_demand){.present = i < LIGHT_RUNNING ? 50 : 2,
						     .to_come = i < LIGHT_RUNNING ? 2 + 5 * i : 48,
						     .token_bytes = layout.token_bytes,
						     .slab_bytes = layout.page_group_bytes};
	}

	/* The counter, in tokens: exact, and no call. */
	struct hbm_sequence *one = system_stage_prompt(&rig, 30, 0);
	const bool counted = system_calls_begin();

	hbm_pool_facts(rig.pool, &facts);
	if (counted)
		assert_int_equal(system_calls_end(), 0);
	assert_int_equal(facts.free_slabs * RIG_SLAB,
			 SYSTEM_MEMORY - system_stage_used(rig.hbm, 0));
	assert_int_equal(hbm_sequence_close(one), 0);

	kv_region(&other, layout.page_group_bytes);
	const uint64_t memory = system_stage_memory(rig.hbm, 0).available;

	assert_int_equal(hbm_admit(memory, demands, LIGHT_RUNNING, demands + LIGHT_RUNNING,
				   LIGHT_CANDIDATES, &admitted),
			 0);
	for (uint64_t sum = 0; naive < LIGHT_ALL; naive++) {
		sum += system_stage_bytes(&rig, demands[naive].present + demands[naive].to_come);
		if (sum > memory)
			break;
	}
	assert_true(LIGHT_RUNNING + admitted > naive);
	assert_true(admitted < LIGHT_CANDIDATES);
	assert_true(light_run(demands, LIGHT_RUNNING + admitted));
	assert_false(light_run(demands, LIGHT_RUNNING + admitted + 1));
	finish();
}

/* ---- FastServe ---- */

#define FAST_JOBS 9u
#define FAST_QUANTUM 8u
#define FAST_KEPT (2 * RIG_SLAB) /* stays free, for what arrives */

struct fast_job {
	struct hbm_sequence *sequence;
	uint64_t length, reply; /* tokens */
	unsigned level;         /* of its queue: 0 is served first */
	bool away;
};

/* The job that is served last, of those on the device. */
static struct fast_job *fast_victim(struct fast_job *jobs, const struct fast_job *runs)
{
	struct fast_job *victim = NULL;

	for (size_t i = 0; i < FAST_JOBS; i++)
		if (jobs[i].sequence && !jobs[i].away && &jobs[i] != runs &&
		    (!victim || jobs[i].level >= victim->level))
			victim = &jobs[i];

	return victim;
}

static struct fast_job *fast_next(struct fast_job *jobs)
{
	struct fast_job *next = NULL;

	for (size_t i = 0; i < FAST_JOBS; i++)
		if (jobs[i].length < jobs[i].reply && (!next || jobs[i].level < next->level))
			next = &jobs[i];

	return next;
}

/* What a job will need in its quantum is free before it begins: others leave, one at a time; and
 * if it is away itself, it comes as the last one goes. */
static unsigned fast_make_room(struct fast_job *jobs, struct fast_job *runs)
{
	const uint64_t most = runs->length + FAST_QUANTUM;
	const uint64_t need = system_stage_bytes(&rig, most) + FAST_KEPT;
	unsigned swaps = 0;

	while (system_stage_memory(rig.hbm, 0).available < need) {
		struct fast_job *victim = fast_victim(jobs, runs);

		if (!victim)
			break;
		assert_int_equal(hbm_sequences_switch(rig.pool, &victim->sequence, 1, HBM_TIER_NVME,
						      &runs->sequence, runs->away),
				 0);
		victim->away = true;
		runs->away = false;
		swaps++;
	}
	if (runs->away)
		assert_int_equal(hbm_sequences_resume(rig.pool, &runs->sequence, 1), 0);
	runs->away = false;

	return swaps;
}

/* One quantum of a job, which then has its next level, or is done. */
static void fast_run(struct fast_job *job, uint64_t value)
{
	const uint64_t end =
		job->length + FAST_QUANTUM < job->reply ? job->length + FAST_QUANTUM : job->reply;

	for (; job->length < end; job->length++) {
		assert_int_equal(pool_rig_step(&rig, job->sequence, job->length + 1), 0);
		pool_rig_write(&rig, job->sequence, job->length, value + job->length);
	}
	job->level++;
	if (job->length < job->reply)
		return;

	system_stage_expect(&rig, job->sequence, 0, job->length, value);
	assert_int_equal(hbm_sequence_close(job->sequence), 0);
	job->sequence = NULL;
}

/*
 * FastServe preempts jobs for others of a higher priority, a multi-level feedback queue: memory
 * is made free before it is needed, down to a mark, by moving out what is served last, which
 * comes back to its addresses when its turn comes. No step ever lacks memory, and no job loses a
 * byte.
 */
static void test_system_fastserve(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.memory=96MiB", "nvme.size=512MiB", NULL};
	struct fast_job jobs[FAST_JOBS], *job;
	unsigned swaps = 0;

	system_stage_start(sets);
	system_stage_pool(&rig, pool_rig_layouts[0], 0, 0);
	other = (struct kv){.hbm = spawn_connect(&daemon_)};
	for (size_t i = 0; i < FAST_JOBS; i++)
		jobs[i] = (struct fast_job){.reply = 20 + 17 * i % 45};
	while ((job = fast_next(jobs))) {
		if (!job->sequence)
			job->sequence = pool_rig_sequence(&rig);
		swaps += fast_make_room(jobs, job);
		fast_run(job, 1000 * (size_t)(job - jobs));
	}
	assert_true(swaps > FAST_JOBS);
	finish();
}

/* ---- SARATHI, DeepSpeed-FastGen ---- */

#define SARATHI_CHUNK 16u
#define SARATHI_PROMPT 60u
#define SARATHI_KEPT 30u

/*
 * SARATHI and DeepSpeed-FastGen prefill in chunks, in one step with decodes: a partial prompt
 * is extended by many tokens while others grow by one. A part of a sequence can leave the
 * device, its memory serve others, and come back behind the part that stayed.
 */
static void test_system_sarathi(void **state)
{
	(void)state;
	start(0);
	const struct hbm_namespace_options options = {
		.model = "sarathi", .block_bytes = RIG_SLAB, .ephemeral = true};
	static struct system_blocks part;
	struct hbm_sequence *batch[] = {pool_rig_sequence(&rig), pool_rig_sequence(&rig)};
	uint64_t lengths[] = {0, 1}, before;
	uint32_t ns;

	while (lengths[0] < SARATHI_PROMPT) {
		const uint64_t end = lengths[0] + SARATHI_CHUNK;

		before = lengths[0];
		lengths[0] = end < SARATHI_PROMPT ? end : SARATHI_PROMPT;
		assert_int_equal(hbm_step(rig.pool, batch, lengths, 2), 0);
		system_stage_write(&rig, batch[0], before, lengths[0], 0);
		pool_rig_write(&rig, batch[1], lengths[1] - 1, 1000 + lengths[1] - 1);
		lengths[1]++;
	}

	/* The part behind SARATHI_KEPT tokens leaves. */
	assert_int_equal(hbm_namespace_open(rig.hbm, &options, &ns), 0);
	system_stage_blocks(&rig, batch[0], SARATHI_KEPT, SARATHI_PROMPT, 1, &part);
	for (size_t i = 0; i < part.count; i++) {
		part.blocks[i].tier = HBM_TIER_DDR;
		part.blocks[i].pin = true;
	}
	assert_int_equal(hbm_store(rig.hbm, ns, part.blocks, part.count, part.results), 0);
	system_stage_expect_results(&part, HBM_OK);
	before = system_stage_used(rig.hbm, 0);
	assert_int_equal(hbm_sequence_truncate(batch[0], SARATHI_KEPT), 0);
	const uint64_t less = before - system_stage_used(rig.hbm, 0);

	assert_true(less >= 4 * RIG_SLAB);
	system_stage_take_all(&other); /* others write to it */
	assert_int_equal(pool_rig_step(&rig, batch[0], SARATHI_PROMPT), HBM_NO_SPACE);
	system_stage_expect(&rig, batch[0], 0, SARATHI_KEPT, 0);

	/* And comes back, to memory that is not the same. */
	other.hbm = hbm_close(other.hbm);
	while (system_stage_memory(rig.hbm, 0).free < less)
		poll(NULL, 0, 1);
	assert_int_equal(pool_rig_step(&rig, batch[0], SARATHI_PROMPT), 0);
	assert_int_equal(hbm_load(rig.hbm, ns, part.blocks, part.count, part.results), 0);
	system_stage_expect_results(&part, HBM_OK);
	system_stage_expect(&rig, batch[0], 0, SARATHI_PROMPT, 0);
	system_stage_expect(&rig, batch[1], 0, lengths[1] - 1, 1000);
	finish();
}

/* ---- S3 ---- */

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
	struct pool_rig engine;
	struct hbm_sequence *wrong, *right;
	struct hbm_pool_facts facts;
	struct hbm_event event;
	uint64_t length = 30;

	system_stage_pool(&engine, pool_rig_layouts[0], 0, 0);
	right = open_expecting(&engine, 40);
	assert_int_equal(hbm_sequence_open(rig.pool, &options, &wrong), 0);
	system_stage_take_all(&other);
	system_stage_grow(&rig, wrong, length, 0); /* as predicted: there is memory */
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);

	while (pool_rig_step(&rig, wrong, length + 1) == 0) {
		pool_rig_write(&rig, wrong, length, length);
		length++;
		assert_true(length < options.max);
	}
	assert_int_equal(pool_rig_step(&rig, wrong, length + 1), HBM_NO_SPACE);
	assert_int_equal(pool_rig_facts(wrong).tokens, length);
	assert_int_equal(hbm_pool_event(rig.pool, &event), 0);
	assert_int_equal(event.kind, HBM_EVENT_OVERRUN);
	assert_ptr_equal(event.sequence, wrong);
	assert_int_equal(event.expected, 30);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);

	/* The other engine's prediction holds, and with it its memory. */
	system_stage_grow(&engine, right, 40, 1000);
	system_stage_expect(&engine, right, 0, 40, 1000);
	pool_rig_close(&engine);
	system_stage_memory(rig.hbm, 0);
	system_stage_grow(&rig, wrong, options.max, 0);
	system_stage_expect(&rig, wrong, 0, options.max, 0);
	assert_int_equal(pool_rig_step(&rig, wrong, options.max + 1), HBM_INVALID);
	assert_int_equal(hbm_sequence_close(wrong), 0);

	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.totals.overruns, 1);
	assert_int_equal(facts.totals.closed, 1);
	assert_int_equal(facts.totals.expected_tokens, 30);
	assert_int_equal(facts.totals.actual_tokens, 50);
	finish();
}

/* ---- Petals ---- */

#define PETALS_BEAMS 4u
#define PETALS_LONG_MS 60000u

struct petals_session {
	struct pool_rig rig;
	struct hbm_sequence *beams[PETALS_BEAMS];
	uint32_t timeout_ms;
	int status;
};

/* A client that asks a server for an inference session. */
static void *petals_open(void *arg)
{
	struct petals_session *session = arg;
	struct hbm_sequence_options options[PETALS_BEAMS];

	for (size_t i = 0; i < PETALS_BEAMS; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	session->status = hbm_sequences_open(session->rig.pool, options, PETALS_BEAMS,
					     session->timeout_ms, session->beams);

	return NULL;
}

/*
 * Petals serves sessions of strangers: one waits for its memory with a timeout, and has it when
 * another has left; beams are reordered by index; a client that retries from an earlier position
 * drops the tokens behind it; and a session that is opened anew costs little.
 */
static void test_system_petals(void **state)
{
	(void)state;
	static const uint32_t from[PETALS_BEAMS] = {2, 0, 0, 3};
	struct petals_session session = {.timeout_ms = 1};
	pthread_t thread;

	start(0);
	struct hbm_sequence *first[] = {open_expecting(&rig, RIG_MAX),
					open_expecting(&rig, RIG_MAX),
					open_expecting(&rig, RIG_MAX)};

	system_stage_pool(&session.rig, pool_rig_layouts[0], 0, SYSTEM_MEMORY);
	petals_open(&session);
	assert_int_equal(session.status, HBM_TIMEOUT);
	session.timeout_ms = PETALS_LONG_MS;
	assert_int_equal(pthread_create(&thread, NULL, petals_open, &session), 0);
	while (system_stage_memory(rig.hbm, 0).waiting == 0)
		poll(NULL, 0, 1);
	assert_int_equal(hbm_sequence_close(first[1]), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(session.status, 0);

	for (size_t i = 0; i < PETALS_BEAMS; i++)
		system_stage_grow(&session.rig, session.beams[i], 20, 1000 * i);
	assert_int_equal(hbm_sequences_reorder(session.rig.pool, session.beams, from, PETALS_BEAMS),
			 0);
	for (size_t i = 0; i < PETALS_BEAMS; i++)
		system_stage_grow(&session.rig, session.beams[i], 40, 5000 * (i + 1));
	for (size_t i = 0; i < PETALS_BEAMS; i++) {
		system_stage_expect(&session.rig, session.beams[i], 0, 20, 1000 * from[i]);
		system_stage_expect(&session.rig, session.beams[i], 20, 40, 5000 * (i + 1));
	}

	/* From position 25 again. */
	for (size_t i = 0; i < PETALS_BEAMS; i++) {
		assert_int_equal(hbm_sequence_truncate(session.beams[i], 25), 0);
		system_stage_grow(&session.rig, session.beams[i], 30, 7000);
		system_stage_expect(&session.rig, session.beams[i], 0, 20, 1000 * from[i]);
		system_stage_expect(&session.rig, session.beams[i], 20, 25, 5000 * (i + 1));
		system_stage_expect(&session.rig, session.beams[i], 25, 30, 7000);
	}

	/* A session that ends, and one that begins where it was: nothing is mapped. */
	assert_int_equal(hbm_sequence_close(session.beams[3]), 0);
	struct hbm_sequence *again = pool_rig_sequence(&session.rig);

	system_stage_silent_step(&session.rig, &again, &(uint64_t){20}, 1);
	pool_rig_close(&session.rig);
	finish();
}

/* ---- Beam search, parallel sampling ---- */

#define BEAMS 4u
#define BEAM_PROMPT 25u

/* What beams of so many tokens have mapped at most, with the prompt's full slabs once. */
static uint64_t beam_most(uint64_t tokens)
{
	const uint64_t ahead = tokens + 2 * RIG_AHEAD;
	const uint64_t one = system_stage_bytes(&rig, ahead < RIG_MAX ? ahead : RIG_MAX);

	return BEAMS * one - (BEAMS - 1) * (system_stage_bytes(&rig, BEAM_PROMPT) - 2 * RIG_SLAB);
}

/*
 * Beam search and parallel sampling fork a prompt k ways, reorder the beams in one call each
 * time some die, and drop all but one: the prompt's memory is there once, and no beam ever sees
 * a token of another.
 */
static void test_system_beam_search(void **state)
{
	(void)state;
	struct hbm_sequence *beams[BEAMS];
	uint64_t tokens[BEAMS][RIG_MAX], next[BEAMS][RIG_MAX], lengths[BEAMS];
	struct seed seed;

	start(0);
	seed_open(&seed, "beam search");
	beams[0] = system_stage_prompt(&rig, BEAM_PROMPT, 0);
	assert_int_equal(hbm_sequence_fork(beams[0], BEAMS - 1, &beams[1]), 0);
	for (size_t i = 0; i < BEAMS; i++)
		for (uint64_t n = 0; n < BEAM_PROMPT; n++)
			tokens[i][n] = n;

	for (uint64_t n = BEAM_PROMPT; n < RIG_MAX; n++) {
		uint32_t from[BEAMS];

		for (size_t i = 0; i < BEAMS; i++)
			lengths[i] = n + 1;
		assert_int_equal(hbm_step(rig.pool, beams, lengths, BEAMS), 0);
		for (size_t i = 0; i < BEAMS; i++) {
			tokens[i][n] = 1000 * n + i;
			pool_rig_write(&rig, beams[i], n, tokens[i][n]);
			from[i] = (uint32_t)seed_below(&seed, BEAMS);
		}
		if (n % 3)
			continue;

		assert_int_equal(hbm_sequences_reorder(rig.pool, beams, from, BEAMS), 0);
		for (size_t i = 0; i < BEAMS; i++)
			memcpy(next[i], tokens[from[i]], sizeof(next[i]));
		memcpy(tokens, next, sizeof(tokens));
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		assert_true(system_stage_used(rig.hbm, 0) <= beam_most(n + 1));
	}
	for (size_t i = 0; i < BEAMS; i++)
		for (uint64_t n = 0; n < RIG_MAX; n++)
			pool_rig_expect(&rig, beams[i], n, tokens[i][n]);
	for (size_t i = 1; i < BEAMS; i++)
		assert_int_equal(hbm_sequence_close(beams[i]), 0);
	for (uint64_t n = 0; n < RIG_MAX; n++)
		pool_rig_expect(&rig, beams[0], n, tokens[0][n]);
	assert_int_equal(system_stage_used(rig.hbm, 0), system_stage_bytes(&rig, RIG_MAX));
	finish();
}

/* ---- SpecInfer, FlexFlow-Serve ---- */

#define SPECULATED 6u
#define SPECULATED_PREFIX 21u

struct speculation {
	int32_t parents[SPECULATED], path[SPECULATED];
	uint64_t values[SPECULATED];
	size_t accepted; /* of the path */
};

/* A tree of drafts, each below the last token or an earlier draft, all written; and a path in
 * it from the last token on. */
static void speculate(struct hbm_sequence *sequence, struct seed *seed, struct speculation *tree)
{
	uint64_t tokens[SPECULATED];
	int32_t at = -1;

	for (uint32_t i = 0; i < SPECULATED; i++)
		tree->parents[i] = (int32_t)seed_below(seed, i + 1) - 1;
	assert_int_equal(hbm_sequence_draft(sequence, tree->parents, SPECULATED, tokens), 0);
	for (size_t i = 0; i < SPECULATED; i++) {
		tree->values[i] = seed_below(seed, 1 << 30);
		pool_rig_write(&rig, sequence, tokens[i], tree->values[i]);
	}

	tree->accepted = 0;
	for (int32_t i = 0; i < (int32_t)SPECULATED; i++)
		if (tree->parents[i] == at && seed_below(seed, 3) > 0)
			tree->path[tree->accepted++] = at = i;
}

/* What the verifier rejects first: all that is not below the first draft of the path. */
static void speculation_prune(struct hbm_sequence *sequence, const struct speculation *tree)
{
	for (int32_t i = 0; i < (int32_t)SPECULATED; i++)
		if (tree->parents[i] == -1 && (tree->accepted == 0 || i != tree->path[0]))
			assert_int_equal(hbm_sequence_prune(sequence, i), 0);
}

/* What a sequence may have mapped when a tree behind so many tokens is gone. */
static uint64_t speculation_most(uint64_t tokens)
{
	const uint64_t most = tokens + SPECULATED + 2 * RIG_AHEAD;

	return system_stage_bytes(&rig, most < RIG_MAX ? most : RIG_MAX);
}

/*
 * SpecInfer and FlexFlow-Serve let small models draft a tree of tokens behind one prefix. The
 * large one verifies all of it at once; the path that it accepts becomes part of the sequence,
 * in order and without gaps, and the rest is pruned and takes no memory.
 */
static void test_system_specinfer(void **state)
{
	(void)state;
	uint64_t tokens[RIG_MAX], count = SPECULATED_PREFIX, longest = 0;
	struct hbm_sequence *beside;
	struct speculation tree;
	struct seed seed;

	start(0);
	seed_open(&seed, "speculation");
	struct hbm_sequence *sequence = system_stage_prompt(&rig, SPECULATED_PREFIX, 0);

	for (uint64_t i = 0; i < SPECULATED_PREFIX; i++)
		tokens[i] = i;
	assert_int_equal(hbm_sequence_fork(sequence, 1, &beside), 0);
	system_stage_grow(&rig, beside, 30, 1000);
	while (count + SPECULATED <= RIG_MAX) {
		speculate(sequence, &seed, &tree);
		if (seed_below(&seed, 2))
			speculation_prune(sequence, &tree);
		assert_int_equal(hbm_sequence_accept(sequence, tree.path, tree.accepted), 0);
		longest = tree.accepted > longest ? tree.accepted : longest;
		for (size_t i = 0; i < tree.accepted; i++)
			tokens[count++] = tree.values[tree.path[i]];

		const struct hbm_sequence_facts facts = pool_rig_facts(sequence);

		assert_int_equal(facts.tokens, count);
		assert_int_equal(facts.drafts, 0);
		assert_true(facts.mapped_bytes <= speculation_most(count));
		for (uint64_t i = 0; i < count; i++)
			pool_rig_expect(&rig, sequence, i, tokens[i]);
	}
	assert_true(longest > 1);
	system_stage_expect(&rig, beside, 0, SPECULATED_PREFIX, 0);
	system_stage_expect(&rig, beside, SPECULATED_PREFIX, 30, 1000);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_system_orca),        TEST(test_system_batch),
		TEST(test_system_lightllm),    TEST(test_system_sarathi),
		TEST(test_system_s3),          TEST(test_system_petals),
		TEST(test_system_beam_search), TEST(test_system_specinfer),
		TEST(test_system_fastserve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
