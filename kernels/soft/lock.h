/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock: the soft driver's two locks and their order.
 *
 * 	vmm_lock	held by calls that create, map, unmap, register or free memory, until
 * 			they return, also over system calls; they exclude each other, as in
 * 			the real driver
 * 	table_lock	held briefly: to look things up, to queue work, to count uses
 *
 * vmm_lock is taken before table_lock. The memory tables are changed with both held and
 * read with either. Streams, events and contexts need only table_lock.
 */
#pragma once

#include <pthread.h>

extern pthread_mutex_t vmm_lock, table_lock;

static inline pthread_mutex_t *lock_enter(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	return mutex;
}

static inline void lock_leave(pthread_mutex_t **mutex)
{
	pthread_mutex_unlock(*mutex);
}

/* Holds a lock until the end of the enclosing block. */
#define LOCK_NAME(line) lock_held_since_##line
#define LOCK_LINE(mutex, line)                                                                     \
	pthread_mutex_t *LOCK_NAME(line) __attribute__((cleanup(lock_leave), unused)) =            \
		lock_enter(&(mutex))
#define LOCK_AT(mutex, line) LOCK_LINE(mutex, line)
#define LOCKED(mutex) LOCK_AT(mutex, __LINE__)
