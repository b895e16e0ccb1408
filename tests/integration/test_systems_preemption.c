/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedulers that take memory from jobs under way and give it back to them, each by what its
 * memory does, in miniature: rows of the table in hbm(7). What a test asserts is what its system
 * needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/system_stage.h"

static struct pool_rig rig;

/* ---- FastServe ---- */

#define FAST_JOBS 9u
#define FAST_QUANTUM 8u
#define FAST_KEPT (8 * RIG_SLAB) /* stays free, for what arrives */
#define FAST_DEADLINE_US 1000000u
#define FAST_STARVED 6u /* after so many quanta of others a job is in the first queue again */

struct fast_job {
	struct hbm_sequence *sequence;
	uint64_t length, reply; /* tokens */
	uint64_t level;         /* of its queue: 0 is served first */
	uint64_t waited;        /* quanta of others since its last one */
	bool idle;
};

struct fast_queues {
	struct fast_job jobs[FAST_JOBS];
	uint64_t balanced, prefetched, demoted, promoted;
};

static bool fast_is_away(const struct fast_job *job)
{
	return job->sequence && pool_rig_facts(job->sequence).state == HBM_SEQUENCE_SUSPENDED;
}

/* That is served first, of those that are not done; but not `except`. */
static struct fast_job *fast_next(struct fast_queues *queues, const struct fast_job *except)
{
	struct fast_job *next = NULL;

	for (size_t i = 0; i < FAST_JOBS; i++) {
		struct fast_job *job = &queues->jobs[i];

		if (job != except && job->length < job->reply &&
		    (!next || job->level < next->level))
			next = job;
	}

	return next;
}

/* Those that wait and have device memory: how many; whether one of them would rather have left
 * than `gone`. */
static unsigned fast_waiting(const struct fast_queues *queues, const struct fast_job *gone,
			     bool *rather)
{
	unsigned waiting = 0;

	for (const struct fast_job *job = queues->jobs; job < queues->jobs + FAST_JOBS; job++) {
		if (!job->sequence || !job->idle || fast_is_away(job))
			continue;
		waiting++;
		*rather |= gone &&
			   (job->level > gone->level || (job->level == gone->level && job > gone));
	}

	return waiting;
}

/* Of those that left since `before`, none should have stayed. */
static void fast_check_order(const struct fast_queues *queues, const bool *before)
{
	for (size_t i = 0; i < FAST_JOBS; i++) {
		bool rather = false;

		if (before[i] || !fast_is_away(&queues->jobs[i]))
			continue;
		fast_waiting(queues, &queues->jobs[i], &rather);
		assert_false(rather);
	}
}

static void fast_look(const struct fast_queues *queues, bool *away)
{
	for (size_t i = 0; i < FAST_JOBS; i++)
		away[i] = fast_is_away(&queues->jobs[i]);
}

static bool fast_one_leaves(const struct fast_queues *queues)
{
	for (const struct fast_job *job = queues->jobs; job < queues->jobs + FAST_JOBS; job++)
		if (job->sequence && pool_rig_facts(job->sequence).state == HBM_SEQUENCE_SUSPENDING)
			return true;

	return false;
}

/* While the GPU works, the pool sees to its mark: what it maps ahead may bring it below, and
 * then the next look sends one out. */
static void fast_keep_free(struct fast_queues *queues)
{
	bool away[FAST_JOBS], rather = false;
	unsigned looks = 0;

	fast_look(queues, away);
	do {
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		looks = fast_one_leaves(queues) ? 0 : looks + 1;
		assert_true(looks <= 2);
	} while (fast_one_leaves(queues) ||
		 (system_stage_memory(rig.hbm, 0).available < FAST_KEPT &&
		  fast_waiting(queues, NULL, &rather) > 0));
	fast_check_order(queues, away);
}

/* One that was moved out has room before it is its turn, and is back at its addresses. */
static void fast_bring_back(struct fast_queues *queues, struct fast_job *job)
{
	const uint64_t need = system_stage_bytes(&rig, job->length + FAST_QUANTUM);
	const uint64_t address = pool_rig_facts(job->sequence).address;
	bool away[FAST_JOBS];
	size_t count = 0;

	fast_look(queues, away);
	assert_int_equal(hbm_pool_balance(rig.pool, need + FAST_KEPT, HBM_TIER_NVME, &count), 0);
	fast_check_order(queues, away);
	queues->balanced += count;
	assert_true(system_stage_memory(rig.hbm, 0).available >= need + FAST_KEPT);
	assert_int_equal(hbm_sequences_resume(rig.pool, &job->sequence, 1), 0);
	assert_int_equal(pool_rig_facts(job->sequence).address, address);
}

/* The one whose turn is next is on its way already: it must be there when that comes. */
static void fast_prefetch(struct fast_queues *queues, struct fast_job *job)
{
	if (!job || !fast_is_away(job) || pool_rig_facts(job->sequence).tier == HBM_TIER_DDR)
		return;
	assert_int_equal(
		hbm_sequences_prefetch(rig.pool, &job->sequence, 1, HBM_TIER_DDR, FAST_DEADLINE_US),
		0);
	assert_int_equal(pool_rig_facts(job->sequence).tier, HBM_TIER_DDR);
	queues->prefetched++;
}

/* A job is in another queue. In a queue they are served as they have come. */
static void fast_join(const struct fast_queues *queues, struct fast_job *job, uint64_t level)
{
	job->level = level;
	assert_int_equal(hbm_sequence_set_priority(job->sequence, -(int32_t)level,
						   (uint64_t)(job - queues->jobs)),
			 0);
}

/* Those that have waited for long, in memory or not, are served before others again. */
static void fast_promote(struct fast_queues *queues, const struct fast_job *served)
{
	for (struct fast_job *job = queues->jobs; job < queues->jobs + FAST_JOBS; job++) {
		if (job == served || !job->sequence || ++job->waited < FAST_STARVED)
			continue;
		fast_join(queues, job, 0);
		job->waited = 0;
		queues->promoted++;
	}
}

/* One quantum of a job, which is then in the next queue, or done. */
static void fast_run(struct fast_queues *queues, struct fast_job *job, uint64_t value)
{
	const uint64_t end =
		job->length + FAST_QUANTUM < job->reply ? job->length + FAST_QUANTUM : job->reply;

	for (; job->length < end; job->length++) {
		assert_int_equal(pool_rig_step(&rig, job->sequence, job->length + 1), 0);
		pool_rig_write(&rig, job->sequence, job->length, value + job->length);
		fast_keep_free(queues);
	}
	job->waited = 0;
	if (job->length < job->reply) {
		fast_join(queues, job, job->level + 1);
		assert_int_equal(
			hbm_sequence_idle(job->sequence, true, (uint64_t)(job - queues->jobs)), 0);
		job->idle = true;
		queues->demoted++;
		return;
	}

	system_stage_expect(&rig, job->sequence, 0, job->length, value);
	assert_int_equal(hbm_sequence_close(job->sequence), 0);
	job->sequence = NULL;
}

static void fast_turn(struct fast_queues *queues, struct fast_job *job)
{
	const struct hbm_sequence_options options = {.priority = -(int32_t)job->level};

	if (!job->sequence)
		assert_int_equal(hbm_sequence_open(rig.pool, &options, &job->sequence), 0);
	assert_int_equal(hbm_sequence_idle(job->sequence, false, 0), 0);
	job->idle = false;
	if (fast_is_away(job))
		fast_bring_back(queues, job);
	fast_prefetch(queues, fast_next(queues, job));
	fast_run(queues, job, 1000 * (size_t)(job - queues->jobs));
	fast_promote(queues, job);
}

/*
 * FastServe preempts jobs for others of a higher priority, a multi-level feedback queue: jobs
 * join the queue that fits them, are demoted with each quantum, and promoted when they have
 * starved. Memory is made free before it is needed, down to a mark, by moving out what is served
 * last, as the queues are then; what is served next comes nearer by a deadline, and is back at
 * its addresses when its turn comes. No step ever lacks memory, and no job loses a byte.
 */
static void test_system_fastserve(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.memory=96MiB", "ddr.size=128MiB",
					   "nvme.size=512MiB", NULL};
	const struct hbm_pool_options options = {.max_sequences = SYSTEM_SEQUENCES,
						 .watermark_low = FAST_KEPT,
						 .watermark_tier = HBM_TIER_NVME};
	struct fast_queues queues = {.balanced = 0};
	struct hbm_pool_facts facts;
	struct fast_job *job;

	system_stage_start(sets);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	for (size_t i = 0; i < FAST_JOBS; i++) {
		const uint64_t reply = 20 + 17 * i % 45;

		queues.jobs[i] = (struct fast_job){.reply = reply, .level = reply > 40};
	}
	while ((job = fast_next(&queues, NULL)))
		fast_turn(&queues, job);
	hbm_pool_facts(rig.pool, &facts);
	assert_true(facts.totals.suspended > 0);
	assert_true(queues.balanced > 0);
	assert_true(queues.prefetched > 0);
	assert_true(queues.demoted > 0);
	assert_true(queues.promoted > 0);
	pool_rig_close(&rig);
	system_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {TEST(test_system_fastserve)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
