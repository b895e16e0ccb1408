/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: see worker.h. One mutex guards the queue; the thread sleeps on one condition
 * while the queue is empty. It takes the whole queue at a time, so a burst of jobs costs
 * one lock. When told to end it first runs all queued jobs.
 */
#include "daemon/loop/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/list.h"

struct worker {
	struct loop *loop;
	void (*enter)(void *);
	void *arg;
	struct gate *gate; /* or NULL */
	char name[16];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job *first, **last; /* queued, in order */
	bool ending;
};

static void worker_finish(struct post *post)
{
	struct job *job = container_of(post, struct job, post);
	job->done(job);
}

/* Waits for jobs and takes them all: NULL when the worker is to end. */
static struct job *worker_take_jobs(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	while (!worker->first && !worker->ending)
		pthread_cond_wait(&worker->changed, &worker->lock);
	struct job *jobs = worker->first;
	worker->first = NULL;
	worker->last = &worker->first;
	pthread_mutex_unlock(&worker->lock);

	return jobs;
}

static void worker_run(const struct worker *worker, struct job *job)
{
	if (worker->gate)
		gate_enter(worker->gate);
	job->run(job);
	if (worker->gate)
		gate_leave(worker->gate);
}

/* A job with a done() is still there after its run(). */
static void worker_run_told(struct worker *worker, struct job *job)
{
	job->more = false;
	worker_run(worker, job);

	if (job->more)
		worker_post(worker, job);
	else
		loop_post(worker->loop, &job->post);
}

static void *worker_work(void *arg)
{
	struct worker *worker = arg;

	pthread_setname_np(pthread_self(), worker->name);
	if (worker->enter)
		worker->enter(worker->arg);

	for (struct job *job; (job = worker_take_jobs(worker));) {
		while (job) {
			/* Read before: its owner may free it, or post it again, at once. */
			struct job *next = job->next;
			if (job->done)
				worker_run_told(worker, job);
			else
				worker_run(worker, job);
			job = next;
		}
	}

	return NULL;
}

int worker_new(struct worker **out, struct loop *loop, const char *name, void (*enter)(void *),
	       void *arg)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;

	worker->loop = loop;
	worker->enter = enter;
	worker->arg = arg;
	worker->last = &worker->first;
	snprintf(worker->name, sizeof(worker->name), "%s", name);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->changed, NULL);
	int r = pthread_create(&worker->thread, NULL, worker_work, worker);
	if (r != 0) {
		pthread_cond_destroy(&worker->changed);
		pthread_mutex_destroy(&worker->lock);
		free(worker);
		return -r;
	}

	*out = worker;

	return 0;
}

void worker_gate(struct worker *worker, struct gate *gate)
{
	worker->gate = gate;
}

struct worker *worker_free(struct worker *worker)
{
	if (!worker)
		return NULL;

	pthread_mutex_lock(&worker->lock);
	worker->ending = true;
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->lock);
	free(worker);

	return NULL;
}

void worker_post(struct worker *worker, struct job *job)
{
	job->worker = worker;
	job->next = NULL;
	job->post.run = worker_finish;
	pthread_mutex_lock(&worker->lock);
	assert(!worker->ending || pthread_equal(pthread_self(), worker->thread));
	bool was_empty = worker->first == NULL;
	*worker->last = job;
	worker->last = &job->next;
	if (was_empty)
		pthread_cond_signal(&worker->changed);

	pthread_mutex_unlock(&worker->lock);
}
