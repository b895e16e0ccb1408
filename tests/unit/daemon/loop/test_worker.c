/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/list.h"
#include "daemon/loop/worker.h"
#include "tests/support/leaks.h"

enum { JOBS = 1000 };

static struct loop *loop;
static struct leaks leaks;

static int set_up(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	return loop_new(&loop, &(struct loop_options){.engine = LOOP_AUTO, .io_depth = 1});
}

static int tear_down(void **state)
{
	(void)state;
	loop = loop_free(loop);
	return leaks_end(&leaks) == 0 ? 0 : -1;
}

struct task {
	struct job job;
	unsigned number;
	pthread_t ran_on;
};

static unsigned started, finished, stop_after;

static void run_task(struct job *job)
{
	struct task *task = container_of(job, struct task, job);
	assert_int_equal(task->number, started++);
	task->ran_on = pthread_self();
}

static void finish_task(struct job *job)
{
	struct task *task = container_of(job, struct task, job);

	assert_int_equal(task->number, finished++);
	assert_false(pthread_equal(task->ran_on, pthread_self()));
	free(task);
	if (finished == stop_after)
		loop_stop(loop);
}

static void post_tasks(struct worker *worker, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct task *task = calloc(1, sizeof(*task));
		task->job = (struct job){.run = run_task, .done = finish_task};
		task->number = first + i;
		worker_post(worker, &task->job);
	}
}

static void test_jobs_run_in_order(void **state)
{
	(void)state;
	struct worker *worker = NULL;
	started = finished = 0;
	stop_after = JOBS;
	assert_int_equal(worker_new(&worker, loop, "worker", NULL, NULL), 0);
	post_tasks(worker, 0, JOBS);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(started, JOBS);
	assert_int_equal(finished, JOBS);
	assert_null(worker_free(worker));
	assert_null(worker_free(NULL));
}

static void test_free_runs_what_was_posted(void **state)
{
	(void)state;
	struct worker *worker = NULL;
	started = finished = 0;
	stop_after = UINT32_MAX;
	assert_int_equal(worker_new(&worker, loop, "worker", NULL, NULL), 0);
	post_tasks(worker, 0, JOBS);
	worker_free(worker);
	assert_int_equal(started, JOBS);
	assert_int_equal(finished, 0);
	loop_flush(loop);
	assert_int_equal(finished, JOBS);
}

struct relay {
	struct job job;
	struct worker *worker;
	unsigned left;
};

static void run_nothing(struct job *job)
{
	(void)job;
}

static void post_next(struct job *job)
{
	struct relay *relay = container_of(job, struct relay, job);
	if (--relay->left > 0)
		worker_post(relay->worker, job);
	else
		loop_stop(loop);
}

static void test_job_posted_again_from_done(void **state)
{
	(void)state;
	struct relay relay = {.job = {.run = run_nothing, .done = post_next}, .left = JOBS};
	assert_int_equal(worker_new(&relay.worker, loop, "worker", NULL, NULL), 0);
	worker_post(relay.worker, &relay.job);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(relay.left, 0);
	worker_free(relay.worker);
}

static void go_on_by_itself(struct job *job)
{
	struct relay *relay = container_of(job, struct relay, job);
	if (--relay->left > 0)
		worker_post(relay->worker, job);
}

/* One that nobody is told of; also while the worker is told to end. */
static void test_job_posted_again_from_run(void **state)
{
	(void)state;
	struct relay relay = {.job.run = go_on_by_itself, .left = 10 * JOBS};
	assert_int_equal(worker_new(&relay.worker, loop, "worker", NULL, NULL), 0);
	worker_post(relay.worker, &relay.job);
	worker_free(relay.worker);
	assert_int_equal(relay.left, 0);
}

struct entrance {
	char name[16];
	unsigned entered;
};

static void enter(void *arg)
{
	struct entrance *entrance = arg;
	entrance->entered++;
	pthread_getname_np(pthread_self(), entrance->name, sizeof(entrance->name));
}

static void test_enter_and_name(void **state)
{
	(void)state;
	struct worker *worker = NULL;
	struct entrance entrance = {0};
	assert_int_equal(worker_new(&worker, loop, "a-rather-long-name", enter, &entrance), 0);
	worker_free(worker);
	assert_int_equal(entrance.entered, 1);
	assert_string_equal(entrance.name, "a-rather-long-n");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

struct turns {
	struct job long_job, short_job;
	struct worker *worker;
	char order[8]; /* what ran: 'a', 'b' and 'c' for the long job, 's' for the short one */
	unsigned ran, turns, done;
};

static void run_short(struct job *job)
{
	struct turns *turns = container_of(job, struct turns, short_job);

	turns->order[turns->ran++] = 's';
}

static void run_long(struct job *job)
{
	struct turns *turns = container_of(job, struct turns, long_job);

	turns->order[turns->ran++] = (char)('a' + turns->turns++);
	if (turns->turns == 1)
		worker_post(turns->worker, &turns->short_job);
	job->more = turns->turns < 3;
}

static void finish_long(struct job *job)
{
	container_of(job, struct turns, long_job)->done++;
	loop_stop(loop);
}

static void test_a_long_job_takes_turns(void **state)
{
	(void)state;
	struct turns turns = {.long_job = {.run = run_long, .done = finish_long},
			      .short_job = {.run = run_short}};

	assert_int_equal(worker_new(&turns.worker, loop, "worker", NULL, NULL), 0);
	worker_post(turns.worker, &turns.long_job);
	assert_int_equal(loop_run(loop), 0);
	turns.worker = worker_free(turns.worker);
	assert_string_equal(turns.order, "asbc");
	assert_int_equal(turns.done, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_jobs_run_in_order),          TEST(test_free_runs_what_was_posted),
		TEST(test_job_posted_again_from_done), TEST(test_job_posted_again_from_run),
		TEST(test_a_long_job_takes_turns),     TEST(test_enter_and_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
