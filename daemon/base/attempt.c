/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/attempt.h"

#include <errno.h>
#include <time.h>

#include "daemon/base/clock.h"

static void attempt_open(struct attempt *attempt, const char *name)
{
	pthread_condattr_t attributes;

	attempt->name = name;
	attempt->has_ended = attempt->is_left = false;
	pthread_mutex_init(&attempt->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&attempt->ended, &attributes);
	pthread_condattr_destroy(&attributes);
}

static void attempt_close(struct attempt *attempt)
{
	pthread_cond_destroy(&attempt->ended);
	pthread_mutex_destroy(&attempt->lock);
}

static void *attempt_work(void *arg)
{
	struct attempt *attempt = arg;

	pthread_setname_np(pthread_self(), attempt->name);
	attempt->run(attempt);

	pthread_mutex_lock(&attempt->lock);
	attempt->has_ended = true;
	bool is_left = attempt->is_left;
	pthread_cond_signal(&attempt->ended);
	pthread_mutex_unlock(&attempt->lock);

	if (is_left) {
		attempt_close(attempt);
		attempt->late(attempt);
	}

	return NULL;
}

/* Whether run() has returned by then. If not, the attempt is the thread's. */
static bool attempt_wait(struct attempt *attempt, uint64_t until_ns)
{
	const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
				       .tv_nsec = (long)(until_ns % 1000000000)};

	pthread_mutex_lock(&attempt->lock);
	int r = 0;
	while (!attempt->has_ended && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&attempt->ended, &attempt->lock, &until);
	bool has_ended = attempt->has_ended;
	attempt->is_left = !has_ended;
	pthread_mutex_unlock(&attempt->lock);

	return has_ended;
}

int attempt_run(struct attempt *attempt, const char *name, uint64_t timeout_ns)
{
	pthread_t thread;

	attempt_open(attempt, name);
	int r = pthread_create(&thread, NULL, attempt_work, attempt);
	if (r != 0) {
		attempt_close(attempt);
		return -r;
	}

	if (!attempt_wait(attempt, clock_now() + timeout_ns)) {
		pthread_detach(thread);
		return -ETIMEDOUT;
	}

	pthread_join(thread, NULL);
	attempt_close(attempt);

	return 0;
}
