/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: see loop.h. What is common to both engines: choosing one, the run loop, timers,
 * posts.
 *
 * One turn of the loop waits, calls back for descriptors and I/O, runs what had been
 * posted by then, and fires the timers that are due. None of the four can starve the
 * others: each handles only what was there when it started. What those posts have posted
 * is run in the same turn, once, unless background work waits for its slice: a copy that a
 * request has begun and that is over is answered without looking for events in between,
 * which is a system call.
 */
#include "daemon/loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/loop/loop_engine.h"

static int loop_open_engine(struct loop *loop, enum loop_engine wanted)
{
	const char *reason = NULL;
	int r = -ENOSYS;

	if (wanted != LOOP_THREADS) {
		loop->engine = &engine_uring;
		r = loop->engine->open(loop, &reason);
	}

	if (r < 0 && wanted != LOOP_URING) {
		loop->fallback_reason = reason;
		loop->engine = &engine_threads;
		r = loop->engine->open(loop, &reason);
	}

	return r;
}

static void loop_run_backgrounds(struct post *post)
{
	struct loop *loop = container_of(post, struct loop, backgrounds.post);

	if (backgrounds_run(&loop->backgrounds))
		loop_post(loop, post);
}

int loop_new(struct loop **out, const struct loop_options *options)
{
	if (options->io_depth == 0)
		return -EINVAL;

	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;

	loop->io_depth = options->io_depth;
	backgrounds_init(&loop->backgrounds, loop_run_backgrounds);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	int r = loop->wake_fd < 0 ? -errno : loop_open_engine(loop, options->engine);
	if (r < 0) {
		if (loop->wake_fd >= 0)
			close(loop->wake_fd);
		free(loop);
		return r;
	}

	*out = loop;

	return 0;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;

	loop->engine->close(loop);
	timers_clear(&loop->timers);
	close(loop->wake_fd);
	free(loop);

	return NULL;
}

const char *loop_engine_name(const struct loop *loop)
{
	return loop->engine->name;
}

const char *loop_fallback_reason(const struct loop *loop)
{
	return loop->fallback_reason;
}

static void loop_wake(struct loop *loop)
{
	if (!atomic_exchange(&loop->asleep, false))
		return;
	ssize_t written = write(loop->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
	assert(written == sizeof(uint64_t));
	(void)written;
}

void loop_post(struct loop *loop, struct post *post)
{
	post->next = atomic_load(&loop->posts);
	while (!atomic_compare_exchange_weak(&loop->posts, &post->next, post))
		;
	loop_wake(loop);
}

/* Takes all posts in the order they were posted. */
static struct post *loop_take_posts(struct loop *loop)
{
	struct post *stack = atomic_exchange(&loop->posts, NULL), *queue = NULL;
	while (stack) {
		struct post *post = stack;
		stack = post->next;
		post->next = queue;
		queue = post;
	}

	return queue;
}

static bool loop_run_posts(struct loop *loop)
{
	struct post *post = loop_take_posts(loop);
	bool any = post != NULL;
	while (post) {
		/* Read first: run() may free the post. */
		struct post *next = post->next;
		post->run(post);
		post = next;
	}

	return any;
}

void loop_flush(struct loop *loop)
{
	while (loop_run_posts(loop))
		;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopping, true);
	loop_wake(loop);
}

/* How long the engine may wait. From here on a post wakes it. */
static int64_t loop_time_to_sleep(struct loop *loop)
{
	atomic_store(&loop->asleep, true);
	if (atomic_load(&loop->posts) || atomic_load(&loop->stopping)) {
		atomic_store(&loop->asleep, false); /* no thread has to wake it */
		return 0;
	}

	uint64_t next = timers_next(&loop->timers);
	if (next == UINT64_MAX)
		return -1;

	uint64_t now = clock_now();
	uint64_t left = next > now ? next - now : 0;

	return left < INT64_MAX ? (int64_t)left : -1;
}

struct loop_turns loop_turns(const struct loop *loop)
{
	return loop->turns;
}

static void loop_count_turn(struct loop_turns *turns, uint64_t ns)
{
	uint64_t bound = 100000;

	for (unsigned i = 0; i < HBM_TURNS_ALL; i++, bound *= 10)
		turns->at_most[i] += ns <= bound;

	turns->at_most[HBM_TURNS_ALL]++;
	if (ns > turns->longest_ns)
		turns->longest_ns = ns;
}

static int loop_turn(struct loop *loop)
{
	int r = loop->engine->wait(loop, loop_time_to_sleep(loop));
	uint64_t start = clock_now();

	atomic_store(&loop->asleep, false);
	if (r < 0)
		return r;

	loop->engine->dispatch(loop);
	if (loop_run_posts(loop) && !loop->backgrounds.posted)
		loop_run_posts(loop);
	if (loop->timers.root)
		timers_fire(&loop->timers, clock_now());

	loop_count_turn(&loop->turns, clock_now() - start);

	return 0;
}

int loop_run(struct loop *loop)
{
	int r = loop->engine->enter(loop);
	while (r == 0 && !atomic_exchange(&loop->stopping, false))
		r = loop_turn(loop);
	return r;
}

int loop_watch(struct loop *loop, struct watch *watch)
{
	if (watch->private)
		return -EEXIST;
	return loop->engine->watch(loop, watch);
}

int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events)
{
	assert(watch->private);
	if (watch->events == events)
		return 0;

	uint32_t before = watch->events;
	watch->events = events;
	int r = loop->engine->rewatch(loop, watch);
	if (r < 0)
		watch->events = before;

	return r;
}

void loop_unwatch(struct loop *loop, struct watch *watch)
{
	if (!watch->private)
		return;
	loop->engine->unwatch(loop, watch);
	watch->private = NULL;
}

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_ns)
{
	timers_set(&loop->timers, timer, at_ns);
}

void loop_timer_stop(struct loop *loop, struct timer *timer)
{
	timers_stop(&loop->timers, timer);
}

void loop_background(struct loop *loop, struct background *background)
{
	if (backgrounds_add(&loop->backgrounds, background))
		loop_post(loop, &loop->backgrounds.post);
}

void loop_background_stop(struct background *background)
{
	backgrounds_remove(background);
}

void loop_io(struct loop *loop, struct loop_io *io)
{
	io->loop = loop;
	io->next = NULL;
	loop->engine->io(loop, io);
}
