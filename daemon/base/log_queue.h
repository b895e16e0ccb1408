/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_queue: lines on their way to stderr. A thread writes them, so that a thread that
 * logs does not wait where stderr is slow: a pipe that is not read, a journal that hangs,
 * a terminal that is stopped, a file on a frozen disk. What does not fit is dropped and
 * counted, and a line says how many once there is room again.
 *
 * 	OFF --start--> RUNNING --stop--> ENDING --all is written--> OFF
 *
 * While it is OFF, a line is written by the thread that logs it, which waits for stderr a
 * short time at most. Lines keep their order. Those that wait have LOG_QUEUE_BYTES, which
 * is no limit of the configuration: it is memory of the program itself, enough for two
 * thousand lines.
 *
 * A signal that ends the process for a fault of its own, as an assertion that fails does,
 * first waits until all is written, LOG_LAST_MS at most.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOG_QUEUE_BYTES (256u << 10)
#define LOG_LAST_MS 200 /* how long last words wait for a reader */

/* Prints the line about so many dropped ones, with its '\n'; its length, at most `size`. */
typedef size_t log_queue_print(char *line, size_t size, uint64_t dropped);

/* Starts the thread: 0 or negative errno, -EBUSY while one that was stopped still waits
 * for a reader. */
int log_queue_start(log_queue_print *print_dropped);
/* Writes what waits and ends the thread. Where stderr does not take all of it within
 * LOG_LAST_MS, the thread is left behind and ends by itself. No-op when OFF. */
void log_queue_stop(void);
/* Any thread. The line ends with '\n'. Never fails. */
void log_queue_put(const char *line, size_t length);
uint64_t log_queue_dropped(void); /* any thread: lines dropped since the program started */
