/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_queue: see log_queue.h. Two buffers: lines are added to one while the thread writes
 * the other; then they change places. After a line was dropped no other is added until
 * the thread has written all and has put the line about the dropped ones in their place.
 *
 * stderr stays as it was given to us. O_NONBLOCK would be set for all who share it, the
 * shell that started us for one.
 */
#include "daemon/base/log_queue.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = LOG_QUEUE_BYTES / 2, STEP_NS = 1000000 };

enum log_queue_state { OFF, RUNNING, ENDING };

struct buffer {
	size_t used;
	char bytes[BUFFER_BYTES];
};

static struct {
	pthread_mutex_t lock; /* guards what follows, but not the buffer that is being written */
	pthread_cond_t filled, ended;
	pthread_t thread;
	enum log_queue_state state;
	struct buffer buffers[2], *filling;
	uint64_t unreported; /* lines dropped since the last line about them */
	log_queue_print *print_dropped;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
	   .filled = PTHREAD_COND_INITIALIZER,
	   .ended = PTHREAD_COND_INITIALIZER,
	   .filling = &queue.buffers[0]};

static atomic_uint_fast64_t dropped;
static atomic_size_t waiting; /* bytes, those being written included */

/* One write. False: stderr takes nothing any more, as after its reader has gone. */
static bool log_queue_write(const char *bytes, size_t length, size_t *written)
{
	ssize_t n = write(STDERR_FILENO, bytes, length);

	if (n < 0 && errno == EAGAIN) /* somebody made it non-blocking */
		poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
	*written = n > 0 ? (size_t)n : 0;

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The whole lines that a pipe takes in one piece, so that lines of others who write to it
 * do not come in between. */
static size_t log_queue_piece(const char *bytes, size_t length)
{
	if (length <= PIPE_BUF)
		return length;

	const char *end = memrchr(bytes, '\n', PIPE_BUF);

	return end ? (size_t)(end + 1 - bytes) : PIPE_BUF;
}

static void log_queue_write_all(const char *bytes, size_t length)
{
	bool is_open = true;

	while (is_open && length > 0) {
		size_t written;
		is_open = log_queue_write(bytes, log_queue_piece(bytes, length), &written);
		bytes += written;
		length -= written;
	}
}

static void log_queue_add(const char *line, size_t length)
{
	struct buffer *buffer = queue.filling;

	if (queue.unreported > 0 || length > BUFFER_BYTES - buffer->used) {
		queue.unreported++;
		atomic_fetch_add(&dropped, 1);
		return;
	}

	memcpy(buffer->bytes + buffer->used, line, length);
	buffer->used += length;
	atomic_fetch_add(&waiting, length);
}

static void log_queue_report_dropped(void)
{
	struct buffer *buffer = queue.filling;

	buffer->used = queue.print_dropped(buffer->bytes, BUFFER_BYTES, queue.unreported);
	queue.unreported = 0;
	atomic_fetch_add(&waiting, buffer->used);
}

/* Waits for lines and takes them all: NULL when the thread is to end. */
static struct buffer *log_queue_take(void)
{
	pthread_mutex_lock(&queue.lock);
	while (queue.filling->used == 0 && queue.unreported == 0 && queue.state == RUNNING)
		pthread_cond_wait(&queue.filled, &queue.lock);

	if (queue.filling->used == 0 && queue.unreported > 0)
		log_queue_report_dropped();

	struct buffer *taken = queue.filling->used > 0 ? queue.filling : NULL;
	if (taken) {
		queue.filling = &queue.buffers[taken == &queue.buffers[0]];
	} else {
		queue.state = OFF;
		pthread_cond_signal(&queue.ended);
	}

	pthread_mutex_unlock(&queue.lock);

	return taken;
}

static void *log_queue_run(void *arg)
{
	pthread_setname_np(pthread_self(), "hbmd-log");
	for (struct buffer *taken; (taken = log_queue_take());) {
		log_queue_write_all(taken->bytes, taken->used);
		atomic_fetch_sub(&waiting, taken->used);
		taken->used = 0;
	}

	return arg;
}

/* The thread goes on writing while the one that failed waits here. */
static void log_queue_crashed(int number)
{
	for (int i = 0; atomic_load(&waiting) > 0 && i < LOG_LAST_MS; i++)
		nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);

	raise(number); /* once this returns, by the default that SA_RESETHAND has restored */
}

static void log_queue_watch_crashes(void)
{
	static const int numbers[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
	const struct sigaction action = {.sa_handler = log_queue_crashed,
					 .sa_flags = (int)SA_RESETHAND};
	struct sigaction current;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &current) == 0 && current.sa_handler == SIG_DFL)
			sigaction(numbers[i], &action, NULL);
}

int log_queue_start(log_queue_print *print_dropped)
{
	sigset_t all, before;

	pthread_mutex_lock(&queue.lock);
	int r = queue.state == OFF ? 0 : EBUSY;
	if (r == 0) {
		queue.print_dropped = print_dropped;
		queue.state = RUNNING;
		sigfillset(&all); /* signals are for the loop */
		pthread_sigmask(SIG_SETMASK, &all, &before);
		r = pthread_create(&queue.thread, NULL, log_queue_run, NULL);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		queue.state = r == 0 ? RUNNING : OFF;
	}

	pthread_mutex_unlock(&queue.lock);
	if (r == 0)
		log_queue_watch_crashes();

	return -r;
}

void log_queue_stop(void)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += LOG_LAST_MS * 1000000l;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	pthread_mutex_lock(&queue.lock);
	bool was_running = queue.state == RUNNING;
	if (was_running)
		queue.state = ENDING;
	pthread_cond_signal(&queue.filled);
	for (int r = 0; was_running && queue.state == ENDING && r == 0;)
		r = pthread_cond_clockwait(&queue.ended, &queue.lock, CLOCK_MONOTONIC, &end);
	bool has_ended = queue.state == OFF;
	pthread_mutex_unlock(&queue.lock);

	if (was_running && has_ended)
		pthread_join(queue.thread, NULL);
	else if (was_running)
		pthread_detach(queue.thread);
}

static void log_queue_write_now(const char *line, size_t length)
{
	struct pollfd poller = {.fd = STDERR_FILENO, .events = POLLOUT};
	size_t written;

	if (poll(&poller, 1, LOG_LAST_MS) > 0)
		log_queue_write(line, length, &written);
}

void log_queue_put(const char *line, size_t length)
{
	pthread_mutex_lock(&queue.lock);
	bool is_on = queue.state != OFF;
	if (is_on)
		log_queue_add(line, length);
	pthread_mutex_unlock(&queue.lock);

	if (is_on)
		pthread_cond_signal(&queue.filled);
	else
		log_queue_write_now(line, length);
}

uint64_t log_queue_dropped(void)
{
	return atomic_load(&dropped);
}
