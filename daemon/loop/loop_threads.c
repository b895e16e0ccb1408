/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_threads: the engine for systems without io_uring: epoll for descriptors, and a
 * few threads that take file I/O from a queue in order and run it with preadv and
 * pwritev. The number of threads bounds the I/O in flight.
 *
 * Finished I/O goes onto a list; the thread that makes the list non-empty posts to the
 * loop, which empties it. The current batch of events may still refer to an unwatched
 * descriptor's node, so it is freed after the batch.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/loop_engine.h"

enum { THREADS_MAX = 4, BATCH = 64 };

struct io_queue {
	struct loop_io *first, **last;
};

struct threads {
	struct loop *loop;
	int epoll_fd;
	int ready; /* events of the current batch */
	struct epoll_event events[BATCH];
	struct list polls, dead;

	pthread_t thread[THREADS_MAX];
	unsigned count;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct io_queue wanted, finished; /* under the lock */
	unsigned in_flight;               /* wanted, running or finished; the loop thread's */
	bool ending;                      /* under the lock */
	struct post post;                 /* posted while finished is not empty */
};

struct poll {
	struct list link; /* in threads->polls or ->dead */
	struct watch *watch;
};

static void threads_queue_init(struct io_queue *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
}

static void threads_queue_push(struct io_queue *queue, struct loop_io *io)
{
	io->next = NULL;
	*queue->last = io;
	queue->last = &io->next;
}

static struct loop_io *threads_queue_pop(struct io_queue *queue)
{
	struct loop_io *io = queue->first;
	queue->first = io->next;
	if (!queue->first)
		queue->last = &queue->first;
	return io;
}

static struct loop_io *threads_take_wanted(struct threads *threads)
{
	pthread_mutex_lock(&threads->lock);
	while (!threads->wanted.first && !threads->ending)
		pthread_cond_wait(&threads->changed, &threads->lock);
	struct loop_io *io = threads->wanted.first ? threads_queue_pop(&threads->wanted) : NULL;
	pthread_mutex_unlock(&threads->lock);

	return io;
}

static void threads_put_finished(struct threads *threads, struct loop_io *io)
{
	pthread_mutex_lock(&threads->lock);
	bool was_empty = !threads->finished.first;
	threads_queue_push(&threads->finished, io);
	pthread_mutex_unlock(&threads->lock);
	if (was_empty)
		loop_post(threads->loop, &threads->post);
}

static void *threads_run_io(void *arg)
{
	struct threads *threads = arg;
	pthread_setname_np(pthread_self(), "hbmd-io");

	for (struct loop_io *io; (io = threads_take_wanted(threads));) {
		int count = (int)io->iov_count;
		off_t offset = (off_t)io->offset;
		ssize_t n = io->write ? pwritev(io->fd, io->iov, count, offset)
				      : preadv(io->fd, io->iov, count, offset);

		io->result = n < 0 ? -errno : n;
		threads_put_finished(threads, io);
	}

	return NULL;
}

static void threads_call_done(struct post *post)
{
	struct threads *threads = container_of(post, struct threads, post);

	pthread_mutex_lock(&threads->lock);
	struct loop_io *io = threads->finished.first;
	threads_queue_init(&threads->finished);
	pthread_mutex_unlock(&threads->lock);

	while (io) {
		/* Read first: done() may free it or submit it again. */
		struct loop_io *next = io->next;
		threads->in_flight--;
		io->done(io);
		io = next;
	}
}

static void threads_end_io(struct threads *threads)
{
	pthread_mutex_lock(&threads->lock);
	threads->ending = true;
	pthread_cond_broadcast(&threads->changed);
	pthread_mutex_unlock(&threads->lock);
	while (threads->count > 0)
		pthread_join(threads->thread[--threads->count], NULL);
}

static int threads_start_io(struct threads *threads)
{
	unsigned wanted =
		threads->loop->io_depth < THREADS_MAX ? threads->loop->io_depth : THREADS_MAX;
	while (threads->count < wanted) {
		int r = pthread_create(&threads->thread[threads->count], NULL, threads_run_io,
				       threads);
		if (r != 0)
			return -r;
		threads->count++;
	}

	return 0;
}

static struct threads *threads_free(struct threads *threads)
{
	threads_end_io(threads);
	if (threads->epoll_fd >= 0)
		close(threads->epoll_fd);

	pthread_cond_destroy(&threads->changed);
	pthread_mutex_destroy(&threads->lock);
	free(threads);

	return NULL;
}

static int threads_start(struct threads *threads)
{
	threads->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (threads->epoll_fd < 0)
		return -errno;

	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_ctl(threads->epoll_fd, EPOLL_CTL_ADD, threads->loop->wake_fd, &event) < 0)
		return -errno;

	return threads_start_io(threads);
}

static int threads_open(struct loop *loop, const char **reason)
{
	struct threads *threads = calloc(1, sizeof(*threads));
	if (!threads)
		return -ENOMEM;

	threads->loop = loop;
	threads->epoll_fd = -1;
	threads->post.run = threads_call_done;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->changed, NULL);
	threads_queue_init(&threads->wanted);
	threads_queue_init(&threads->finished);
	list_init(&threads->polls);
	list_init(&threads->dead);
	int r = threads_start(threads);
	if (r < 0) {
		*reason = "cannot create an epoll instance or threads";
		threads_free(threads);
		return r;
	}

	loop->state = threads;

	return 0;
}

static void threads_free_polls(struct list *polls)
{
	for (struct list *node; (node = list_pop_front(polls));)
		free(container_of(node, struct poll, link));
}

static void threads_close(struct loop *loop)
{
	struct threads *threads = loop->state;
	assert(threads->in_flight == 0);
	threads_free_polls(&threads->polls);
	threads_free_polls(&threads->dead);
	threads_free(threads);
}

static int threads_enter(struct loop *loop)
{
	(void)loop;
	return 0;
}

static int threads_wait(struct loop *loop, int64_t timeout_ns)
{
	struct threads *threads = loop->state;

	/* Rounded up: otherwise the loop would spin until a timer is due. */
	int64_t timeout_ms =
		timeout_ns < 0 ? -1 : timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
	if (timeout_ms > INT32_MAX)
		timeout_ms = INT32_MAX;

	threads->ready = epoll_wait(threads->epoll_fd, threads->events, BATCH, (int)timeout_ms);
	if (threads->ready >= 0)
		return 0;

	threads->ready = 0;

	return errno == EINTR ? 0 : -errno;
}

static void threads_dispatch(struct loop *loop)
{
	struct threads *threads = loop->state;
	for (int i = 0; i < threads->ready; i++) {
		struct poll *poll = threads->events[i].data.ptr;
		uint64_t count;
		if (poll && poll->watch)
			poll->watch->ready(poll->watch, threads->events[i].events);
		else if (!poll && read(loop->wake_fd, &count, sizeof(count)) < 0)
			assert(errno == EINTR);
	}

	threads->ready = 0;
	threads_free_polls(&threads->dead);
}

static int threads_watch(struct loop *loop, struct watch *watch)
{
	struct threads *threads = loop->state;
	struct poll *poll = calloc(1, sizeof(*poll));
	if (!poll)
		return -ENOMEM;

	struct epoll_event event = {.events = watch->events, .data.ptr = poll};
	if (epoll_ctl(threads->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0) {
		free(poll);
		return -errno;
	}

	poll->watch = watch;
	list_push_back(&threads->polls, &poll->link);
	watch->private = poll;

	return 0;
}

static int threads_rewatch(struct loop *loop, struct watch *watch)
{
	struct threads *threads = loop->state;
	struct epoll_event event = {.events = watch->events, .data.ptr = watch->private};
	return epoll_ctl(threads->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

static void threads_unwatch(struct loop *loop, struct watch *watch)
{
	struct threads *threads = loop->state;
	struct poll *poll = watch->private;
	int r = epoll_ctl(threads->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);

	assert(r == 0);
	(void)r;
	poll->watch = NULL;
	list_remove(&poll->link);
	list_push_back(&threads->dead, &poll->link);
}

static void threads_io(struct loop *loop, struct loop_io *io)
{
	struct threads *threads = loop->state;

	threads->in_flight++;
	pthread_mutex_lock(&threads->lock);
	threads_queue_push(&threads->wanted, io);
	pthread_cond_signal(&threads->changed);
	pthread_mutex_unlock(&threads->lock);
}

const struct engine engine_threads = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.enter = threads_enter,
	.wait = threads_wait,
	.dispatch = threads_dispatch,
	.watch = threads_watch,
	.rewatch = threads_rewatch,
	.unwatch = threads_unwatch,
	.io = threads_io,
};
