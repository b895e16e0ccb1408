/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_uring: the engine on one io_uring. Operations are collected in lists and
 * become submission entries just before the loop waits, so that one turn costs one system
 * call, which submits and waits.
 *
 * A watch is a one-shot poll request that is armed again each time it has fired: arming
 * looks at the descriptor first, so that events a callback did not handle are reported again.
 * Its user_data is a `struct poll` of ours, never the caller's watch, and is freed only
 * when its completion is seen; that is what makes loop_unwatch() immediate:
 *
 * 	waiting to be armed -> armed -> (completion) -> waiting to be armed ...
 * 	                         \-> to be cancelled -> cancelling -> (completion) -> waiting, or freed if unwatched
 *
 * An armed poll keeps the file open, so what the owner closes after loop_unwatch() is
 * closed for the other side in the next turn of the loop.
 *
 * The kernel reports POLLRDHUP even to those who did not ask. Such a poll would complete
 * again and again at once, so it is armed after a delay instead.
 *
 * The ring is used by one thread and says so (SINGLE_ISSUER, DEFER_TASKRUN); it is made
 * disabled and belongs to the thread that first runs the loop. Completions cannot be
 * lost: the kernel keeps what does not fit the queue (NODROP).
 *
 * The call that submits must not wait for a disk. Reads are begun within it, as far as they
 * need not wait. Writes are always begun by a thread of the kernel (IOSQE_ASYNC): before Linux
 * 6.12 a write to a file system that is frozen waits where it is submitted, and would stop
 * the loop. With fio that costs nothing for writes of 2 MiB, and a tenth or two of the
 * throughput for those of 64 KiB, which nvme_io joins where it can.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "daemon/base/list.h"
#include "daemon/base/rlimit.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/loop_engine.h"

enum { SUBMISSIONS = 256, COMPLETIONS = 4096, BATCH = 64 };
#define PUT_OFF_NS 10000000u
/* For what has happened, until the loop does other things; looked at every so many events. */
#define DISPATCH_NS 100000u
#define DISPATCH_EVENTS 4

/* What a completion is for, in the low bits of user_data; pointers leave them free. */
enum { FOR_NOBODY, FOR_POLL, FOR_IO, FOR_WAKE, FOR_MASK = 3 };

struct uring {
	struct io_uring ring;
	struct loop *loop;
	bool disabled;        /* not enabled by a thread yet */
	uint8_t cancel_flags; /* for the submission entry of a cancellation */
	bool wake_wanted;     /* the wake-up read is to be submitted */
	unsigned io_in_flight;
	uint64_t polls_armed;
	uint64_t woken;    /* what the wake-up read reads into */
	struct list polls; /* all */
	struct list arm, cancel;
	struct loop_io *io_first, **io_last; /* not submitted yet, in order */
};

struct poll {
	struct list all;     /* in uring->polls */
	struct list queued;  /* in uring->arm, uring->cancel or neither */
	struct watch *watch; /* NULL once unwatched */
	struct uring *uring;
	int fd;
	bool armed, cancelling;
	struct timer put_off;
};

/* Explains ENOMEM. Static, like every reason: the limit at the time the last ring was
 * refused. */
static const char *uring_why_no_memory(void)
{
	static char text[64 + RLIMIT_HINT];
	snprintf(text, sizeof(text), "cannot allocate an io_uring%s",
		 rlimit_hint((char[RLIMIT_HINT]){""}, RLIMIT_MEMLOCK));
	return text;
}

static const char *uring_why_not(int error)
{
	switch (-error) {
	case EPERM:
	case EACCES:
		return "io_uring is forbidden here (kernel.io_uring_disabled or a seccomp filter)";
	case ENOSYS:
		return "this kernel has no io_uring";
	case ENOMEM:
		return uring_why_no_memory();
	default:
		return "cannot set up io_uring";
	}
}

/* Opens the best ring this kernel supports. */
static int uring_open_ring(struct uring *uring)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int r = -EINVAL;
	for (size_t i = 0; r == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = COMPLETIONS,
		};
		r = io_uring_queue_init_params(SUBMISSIONS, &uring->ring, &params);
		uring->disabled = flags[i] & IORING_SETUP_R_DISABLED;
		uring->cancel_flags =
			params.features & IORING_FEAT_CQE_SKIP ? IOSQE_CQE_SKIP_SUCCESS : 0;
	}

	return r;
}

static int uring_open(struct loop *loop, const char **reason)
{
	struct uring *uring = calloc(1, sizeof(*uring));
	if (!uring) {
		*reason = uring_why_not(-ENOMEM);
		return -ENOMEM;
	}

	int r = uring_open_ring(uring);
	if (r < 0) {
		*reason = uring_why_not(r);
		free(uring);
		return r;
	}

	unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
	if ((uring->ring.features & needed) != needed) {
		*reason = "this kernel's io_uring is too old (Linux 5.11 or later is needed)";
		io_uring_queue_exit(&uring->ring);
		free(uring);
		return -ENOSYS;
	}

	uring->loop = loop;
	uring->wake_wanted = true;
	uring->io_last = &uring->io_first;
	list_init(&uring->polls);
	list_init(&uring->arm);
	list_init(&uring->cancel);
	loop->state = uring;

	return 0;
}

static int uring_enter(struct loop *loop)
{
	struct uring *uring = loop->state;
	if (!uring->disabled)
		return 0;

	/* Not io_uring_enable_rings(): liburing 2.3 declares but does not export it. */
	int r = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
				  0);
	if (r < 0)
		return r;

	uring->disabled = false;

	/* Saves a descriptor lookup in each call; optional. */
	io_uring_register_ring_fd(&uring->ring);

	return 0;
}

static void uring_tag(struct io_uring_sqe *sqe, void *pointer, unsigned what)
{
	assert(((uintptr_t)pointer & FOR_MASK) == 0);
	sqe->user_data = (uintptr_t)pointer | what;
}

/* Returns a free submission entry, submitting queued ones if necessary; NULL if the
 * kernel accepts no more now. */
static struct io_uring_sqe *uring_next_entry(struct uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
	if (sqe || io_uring_submit(&uring->ring) < 0)
		return sqe;
	return io_uring_get_sqe(&uring->ring);
}

static bool uring_submit_cancel(struct uring *uring, uint64_t user_data)
{
	struct io_uring_sqe *sqe = uring_next_entry(uring);
	if (!sqe)
		return false;

	io_uring_prep_cancel64(sqe, user_data, 0);
	sqe->flags |= uring->cancel_flags;
	uring_tag(sqe, NULL, FOR_NOBODY);

	return true;
}

static bool uring_submit_cancels(struct uring *uring)
{
	list_for_each_safe (node, after, &uring->cancel) {
		struct poll *poll = container_of(node, struct poll, queued);
		if (!uring_submit_cancel(uring, (uintptr_t)poll | FOR_POLL))
			return false;
		poll->cancelling = true;
		list_remove(node);
	}
	return true;
}

static bool uring_submit_polls(struct uring *uring)
{
	list_for_each_safe (node, after, &uring->arm) {
		struct poll *poll = container_of(node, struct poll, queued);
		struct io_uring_sqe *sqe = uring_next_entry(uring);
		if (!sqe)
			return false;

		io_uring_prep_poll_add(sqe, poll->fd, poll->watch->events);
		uring_tag(sqe, poll, FOR_POLL);
		poll->armed = true;
		uring->polls_armed++;
		list_remove(node);
	}
	return true;
}

static bool uring_submit_wake(struct uring *uring)
{
	struct io_uring_sqe *sqe = uring->wake_wanted ? uring_next_entry(uring) : NULL;
	if (!sqe)
		return !uring->wake_wanted;

	io_uring_prep_read(sqe, uring->loop->wake_fd, &uring->woken, sizeof(uring->woken), 0);
	uring_tag(sqe, NULL, FOR_WAKE);
	uring->wake_wanted = false;

	return true;
}

static void uring_prepare_io(struct io_uring_sqe *sqe, const struct loop_io *io)
{
	bool plain = io->iov_count == 1 && io->iov->iov_len <= INT32_MAX;
	if (plain && io->write)
		io_uring_prep_write(sqe, io->fd, io->iov->iov_base, (unsigned)io->iov->iov_len,
				    io->offset);
	else if (plain)
		io_uring_prep_read(sqe, io->fd, io->iov->iov_base, (unsigned)io->iov->iov_len,
				   io->offset);
	else if (io->write)
		io_uring_prep_writev(sqe, io->fd, io->iov, io->iov_count, io->offset);
	else
		io_uring_prep_readv(sqe, io->fd, io->iov, io->iov_count, io->offset);

	if (io->write)
		sqe->flags |= IOSQE_ASYNC;
}

static bool uring_submit_io(struct uring *uring)
{
	while (uring->io_first && uring->io_in_flight < uring->loop->io_depth) {
		struct io_uring_sqe *sqe = uring_next_entry(uring);
		if (!sqe)
			return false;

		struct loop_io *io = uring->io_first;
		uring->io_first = io->next;
		if (!uring->io_first)
			uring->io_last = &uring->io_first;

		uring_prepare_io(sqe, io);
		uring_tag(sqe, io, FOR_IO);
		uring->io_in_flight++;
	}
	return true;
}

/* Cancellations go first: a descriptor's number may have been reused since. */
static bool uring_submit_all(struct uring *uring)
{
	return uring_submit_cancels(uring) && uring_submit_polls(uring) &&
	       uring_submit_wake(uring) && uring_submit_io(uring);
}

static int uring_submit_and_wait(struct uring *uring, int64_t timeout_ns)
{
	struct __kernel_timespec timeout = {.tv_sec = timeout_ns / 1000000000,
					    .tv_nsec = timeout_ns % 1000000000};
	struct io_uring_cqe *first;
	return io_uring_submit_and_wait_timeout(&uring->ring, &first, 1,
						timeout_ns < 0 ? NULL : &timeout, NULL);
}

static int uring_wait(struct loop *loop, int64_t timeout_ns)
{
	struct uring *uring = loop->state;

	/* Check for more even if completions are available: later ones would starve. */
	bool wait =
		uring_submit_all(uring) && timeout_ns != 0 && io_uring_cq_ready(&uring->ring) == 0;
	int r = wait ? uring_submit_and_wait(uring, timeout_ns)
		     : io_uring_submit_and_get_events(&uring->ring);

	/*
	 * EAGAIN and EBUSY: out of memory, or completions must be reaped first; the
	 * entries stay for the next turn.
	 */
	if (r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY)
		return 0;

	return r < 0 ? r : 0;
}

static void poll_free(struct poll *poll)
{
	loop_timer_stop(poll->uring->loop, &poll->put_off);
	list_remove(&poll->all);
	list_remove(&poll->queued);
	free(poll);
}

static void uring_queue_poll(struct poll *poll)
{
	list_remove(&poll->queued);
	list_push_back(&poll->uring->arm, &poll->queued);
}

static void uring_delay_fire(struct timer *timer)
{
	uring_queue_poll(container_of(timer, struct poll, put_off));
}

static void uring_delay(struct poll *poll)
{
	list_remove(&poll->queued);
	loop_timer_set(poll->uring->loop, &poll->put_off, clock_now() + PUT_OFF_NS);
}

static void poll_completed(struct poll *poll, int result)
{
	struct watch *watch = poll->watch;
	bool rewatched = poll->cancelling || !list_empty(&poll->queued);

	poll->armed = poll->cancelling = false;
	poll->uring->polls_armed--;

	if (!watch) {
		poll_free(poll);
		return;
	}

	uint32_t events = POLLERR;
	if (result >= 0)
		events = (uint32_t)result & (watch->events | POLLERR | POLLHUP | POLLNVAL);
	else if (result == -ECANCELED || result == -ENOMEM)
		events = 0;

	if (events == 0 && !rewatched) {
		uring_delay(poll);
		return;
	}

	/* Before the callback, which may unwatch and so free the poll. */
	uring_queue_poll(poll);
	if (events)
		watch->ready(watch, events);
}

static void uring_io_completed(struct uring *uring, struct loop_io *io, int result)
{
	uring->io_in_flight--;
	io->result = result;
	io->done(io);
}

static void uring_completed(struct uring *uring, uint64_t user_data, int result)
{
	void *pointer = (void *)(uintptr_t)(user_data & ~(uint64_t)FOR_MASK);
	switch (user_data & FOR_MASK) {
	case FOR_POLL:
		poll_completed(pointer, result);
		break;
	case FOR_IO:
		uring_io_completed(uring, pointer, result);
		break;
	case FOR_WAKE:
		uring->wake_wanted = true;
		break;
	default: /* a cancellation that was too late */
		break;
	}
}

static void uring_dispatch(struct loop *loop)
{
	struct uring *uring = loop->state;
	struct io_uring_cqe *batch[BATCH];
	unsigned count = io_uring_peek_batch_cqe(&uring->ring, batch, BATCH);

	uint64_t until = clock_now() + DISPATCH_NS;
	unsigned done = 0;

	while (done < count) {
		uring_completed(uring, batch[done]->user_data, batch[done]->res);
		if (++done % DISPATCH_EVENTS == 0 && clock_now() >= until)
			break;
	}

	io_uring_cq_advance(&uring->ring, done); /* the others: in the next turn */
}

static int uring_watch(struct loop *loop, struct watch *watch)
{
	struct uring *uring = loop->state;

	if (fcntl(watch->fd, F_GETFD) < 0)
		return -errno;

	struct poll *poll = calloc(1, sizeof(*poll));
	if (!poll)
		return -ENOMEM;

	poll->watch = watch;
	poll->uring = uring;
	poll->fd = watch->fd;
	poll->put_off.fire = uring_delay_fire;
	list_push_back(&uring->polls, &poll->all);
	list_push_back(&uring->arm, &poll->queued);
	watch->private = poll;

	return 0;
}

/* Asks the kernel to cancel an armed poll: its completion follows. */
static void uring_cancel_poll(struct poll *poll)
{
	if (poll->cancelling || !list_empty(&poll->queued))
		return;
	list_push_back(&poll->uring->cancel, &poll->queued);
}

static int uring_rewatch(struct loop *loop, struct watch *watch)
{
	struct poll *poll = watch->private;
	if (poll->armed) {
		uring_cancel_poll(poll);
	} else {
		loop_timer_stop(loop, &poll->put_off);
		uring_queue_poll(poll);
	}

	return 0;
}

static void uring_unwatch(struct loop *loop, struct watch *watch)
{
	struct poll *poll = watch->private;
	(void)loop;
	poll->watch = NULL;
	if (poll->armed)
		uring_cancel_poll(poll);
	else
		poll_free(poll);
}

static void uring_io(struct loop *loop, struct loop_io *io)
{
	struct uring *uring = loop->state;
	*uring->io_last = io;
	uring->io_last = &io->next;
}

/* Waits until the kernel has released every poll, so that the files they kept open are
 * closed when loop_free() returns. On a thread that does not own the ring the kernel
 * refuses, and releases them shortly after the ring is closed. */
static void uring_release_polls(struct uring *uring)
{
	list_for_each_safe (node, after, &uring->polls) {
		struct poll *poll = container_of(node, struct poll, all);
		poll->watch = NULL;
		if (poll->armed)
			uring_cancel_poll(poll);
		else
			poll_free(poll);
	}

	if (!uring->wake_wanted && !uring_submit_cancel(uring, FOR_WAKE))
		uring->wake_wanted = true;
	while (uring->polls_armed > 0 || !uring->wake_wanted) {
		uring_submit_cancels(uring);
		int r = io_uring_submit_and_wait(&uring->ring, 1);
		if (r < 0 && r != -EINTR)
			break;
		uring_dispatch(uring->loop);
	}
}

static void uring_close(struct loop *loop)
{
	struct uring *uring = loop->state;

	assert(uring->io_in_flight == 0 && !uring->io_first);
	uring_release_polls(uring);
	io_uring_queue_exit(&uring->ring);
	list_for_each_safe (node, after, &uring->polls)
		poll_free(container_of(node, struct poll, all));
	free(uring);
}

const struct engine engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.enter = uring_enter,
	.wait = uring_wait,
	.dispatch = uring_dispatch,
	.watch = uring_watch,
	.rewatch = uring_rewatch,
	.unwatch = uring_unwatch,
	.io = uring_io,
};
