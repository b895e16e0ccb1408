/* SPDX-License-Identifier: Apache-2.0 */
/* thread: what a thread of a process does, by what /proc says. Threads are named by their
 * number there, as text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Whether it waits for something, rather than being in the middle of something and not
 * getting on. */
bool thread_is_asleep(pid_t pid, const char *thread);
/* The number of the thread with that name; false if there is none. */
bool thread_find(pid_t pid, const char *name, char *thread, size_t size);
