/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: descriptors that are kept while no daemon runs, by the one who started it: a service
 * manager with a descriptor store (FileDescriptorStoreMax=), or hbmd --keeper. It gives them to
 * the next daemon at its start, each with its name. What a descriptor is it does not know; many
 * of a kind go behind few: parking.h.
 *
 * A daemon that is kept by no one gets -ENOTCONN here, and what it has ends with it.
 *
 * It is about the process, as the environment is that it reads (NOTIFY_SOCKET, FDSTORE), so
 * there is one. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define KEEP_NAME_BYTES 64 /* of a name, its end counted: letters, digits, '-' */

/* Whether what is kept comes back to the next daemon. */
bool keep_is_there(void);
/*
 * Has a descriptor kept, which stays the caller's. When it returns 0 it is kept, whatever
 * happens to this process. -ENOTCONN: by no one; -ENOSPC: as many are kept as may be; -ENOMEM;
 * -ETIMEDOUT: no answer for five seconds; or what sd_pid_notify_with_fds(3) says.
 */
int keep_put(const char *name, int fd);
/* Both or none, under one name. */
int keep_put_pair(const char *name, const int fds[2]);
/* The same without waiting, under a name that has none (-EEXIST): *answer, a descriptor, is for
 * keep_end_pair(), or to be closed, and until then the pair counts as kept. */
int keep_begin_pair(const char *name, const int fds[2], int *answer);
/* 0: they are kept. -EAGAIN: it is not known yet, without `wait`; else as keep_put(), and they are
 * not kept. The answer is closed, but after -EAGAIN. */
int keep_end_pair(const char *name, int answer, bool wait);
/* What is kept under that name is not kept any more. Nothing, where there is none. */
void keep_drop(const char *name);
/* How many are kept. */
size_t keep_count(void);

/* ---- what came back at the start ---- */

/* By inherited.h: one that was kept for an earlier daemon; its full name, with the prefix that
 * tells it from others. It is taken over. -EINVAL: no name that keep_put() gives; -ENOMEM. */
int keep_came_back(const char *full_name, int fd);
/* One that came back under that name: the caller's from now on, and still kept. -1: no more. */
int keep_take(const char *name);
/* The next name of those not taken that begins so: in name. False: no more. */
bool keep_find(const char *beginning, char name[KEEP_NAME_BYTES]);
/* What was not taken is closed and not kept any more; a line of the log says what it was. */
void keep_let_go(void);
/* For tests: as at the start of a process. */
void keep_forget(void);
