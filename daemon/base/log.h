/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: one line a message on stderr. Under systemd (JOURNAL_STREAM set) lines carry the
 * <N> priority prefix that journald reads; on a terminal they carry a time and a level
 * word. Callable from any thread. Between log_start() and log_stop() no message waits for
 * stderr: log_queue.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h> /* LOG_ERR ... LOG_DEBUG */

void log_open(int max_level);
int log_start(void);        /* 0 or negative errno */
void log_stop(void);        /* the last lines are written, if stderr takes them soon */
uint64_t log_dropped(void); /* lines that stderr did not take, since the program started */
bool log_is_journal(void);  /* whether lines go to journald, with priorities */
bool log_wants(int level);  /* whether messages of that level are logged */
void log_replace_controls(char *text); /* so that it is one line */
void log_message(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Limits log lines of one kind, which may come by the thousand, to LOG_QUOTA a second.
 * Zeroed at first. */
#define LOG_QUOTA 20
struct log_quota {
	uint64_t second_ns, count; /* log.c's: the current second, and its messages */
};
/* Any thread. Whether to log this one. Logs the number suppressed in the second
 * before. */
bool log_quota(struct log_quota *quota);

#define log_error(...) log_message(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_message(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, __VA_ARGS__)
