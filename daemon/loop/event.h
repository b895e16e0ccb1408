/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event: what the loop can be asked to wait for: a descriptor, a time, work of another
 * thread, file I/O; or to go on with in slices. Each is a struct embedded by the caller,
 * which the loop calls back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "daemon/base/list.h"

struct loop;

/* A descriptor of interest: level-triggered, like poll(2). The descriptor is borrowed and
 * must stay open while watched. It must be one that can be polled: regular files cannot.
 * Zero all members that are not set. */
struct watch {
	int fd;
	uint32_t events; /* POLLIN, POLLOUT; POLLERR and POLLHUP always */
	void (*ready)(struct watch *watch, uint32_t events);
	void *private; /* the loop's */
};

/* Fires once at or after its time; may be set again from its own callback. While it is
 * set, the struct must not be moved. */
struct timer {
	void (*fire)(struct timer *timer);
	uint64_t at_ns; /* CLOCK_MONOTONIC; this and the rest are the loop's */
	struct timer *child, *next;
	struct timer **link; /* what points to it; NULL when not set */
};

/* Whether it is set and has not fired since. */
static inline bool timer_is_set(const struct timer *timer)
{
	return timer->link != NULL;
}

/* Work handed to the loop thread from any thread. The object is the caller's and is in
 * use until run() is called. */
struct post {
	void (*run)(struct post *post);
	struct post *next; /* the loop's */
};

/* Work too long for one turn of the loop. While it is on, run() is called to do a slice of
 * it, some tens of microseconds, in turn with all other work of this kind. Zeroed: off. */
struct background {
	/* False: it is off from now on, and may have been freed. */
	bool (*run)(struct background *background);
	struct list link; /* the loop's */
};

/* One read or write at an offset. All members but the last three are the caller's and
 * stay valid until done(), which is never called from within loop_io(). At most IOV_MAX
 * pieces. */
struct loop_io {
	bool write;
	int fd;
	uint64_t offset;
	const struct iovec *iov;
	unsigned iov_count;
	void (*done)(struct loop_io *io);
	int64_t result;       /* bytes moved, maybe fewer than asked, or negative errno */
	struct loop_io *next; /* the loop's */
	struct loop *loop;    /* the loop's */
};
