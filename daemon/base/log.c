/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: see log.h. A line is put together on the stack and handed to log_queue whole, so
 * that lines of different threads do not mix. A message may contain a client's text (its
 * name, for example); control characters become '?', so that no client can forge a second
 * line. A line that cannot be written is lost: logging never fails.
 */
#include "daemon/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log_queue.h"

enum { LINE_BYTES = 2048 };
#define SECOND_NS 1000000000u

static atomic_int max_logged = LOG_INFO;
static atomic_bool to_journal;

/* Whether stderr is the journal's stream, as sd_journal_stream_fd(3) says to find out. */
static bool log_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat status;
	if (!stream || sscanf(stream, "%ju:%ju", &device, &inode) != 2 ||
	    fstat(STDERR_FILENO, &status) < 0)
		return false;

	return status.st_dev == device && status.st_ino == inode;
}

void log_open(int max_level)
{
	atomic_store(&max_logged, max_level);
	atomic_store(&to_journal, log_stderr_is_journal());
}

bool log_is_journal(void)
{
	return atomic_load(&to_journal);
}

static const char *log_level_word(int level)
{
	static const char *const words[] = {"emergency", "alert",  "critical", "error",
					    "warning",   "notice", "info",     "debug"};
	return level >= 0 && level <= LOG_DEBUG ? words[level] : "?";
}

static size_t log_print_head(char *line, size_t size, int level)
{
	if (atomic_load(&to_journal))
		return (size_t)snprintf(line, size, "<%d>", level);

	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t length = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);

	return length + (size_t)snprintf(line + length, size - length,
					 ".%03ldZ %s: ", now.tv_nsec / 1000000,
					 log_level_word(level));
}

static size_t log_print_dropped(char *line, size_t size, uint64_t count)
{
	size_t head = log_print_head(line, size, LOG_WARNING);
	return head + (size_t)snprintf(line + head, size - head,
				       "%llu lines dropped: stderr was not read\n",
				       (unsigned long long)count);
}

int log_start(void)
{
	return log_queue_start(log_print_dropped);
}

void log_stop(void)
{
	log_queue_stop();
}

uint64_t log_dropped(void)
{
	return log_queue_dropped();
}

void log_replace_controls(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

bool log_wants(int level)
{
	return level <= atomic_load(&max_logged);
}

void log_message(int level, const char *format, ...)
{
	if (!log_wants(level))
		return;

	int error = errno; /* for %m, and restored for the caller */
	char line[LINE_BYTES];
	size_t head = log_print_head(line, sizeof(line), level);
	va_list arguments;
	va_start(arguments, format);
	errno = error;
	vsnprintf(line + head, sizeof(line) - head - 1, format, arguments);
	va_end(arguments);
	log_replace_controls(line + head);
	size_t length = strlen(line);
	if (length == sizeof(line) - 2)
		memcpy(line + length - 3, "...", 3);

	line[length++] = '\n';
	log_queue_put(line, length);
	errno = error;
}

bool log_quota(struct log_quota *quota)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	uint64_t now = (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec, left_out = 0;
	pthread_mutex_lock(&lock);

	if (now >= quota->second_ns + SECOND_NS) {
		left_out = quota->count > LOG_QUOTA ? quota->count - LOG_QUOTA : 0;
		*quota = (struct log_quota){.second_ns = now};
	}

	bool is_within = ++quota->count <= LOG_QUOTA;
	pthread_mutex_unlock(&lock);

	if (left_out > 0)
		log_error("%llu similar messages suppressed", (unsigned long long)left_out);

	return is_within;
}
