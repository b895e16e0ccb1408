/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/core.h"

#include "client/python/native/allocator.h"
#include "client/python/native/area.h"
#include "client/python/native/job.h"
#include "client/python/native/loan.h"
#include "client/python/native/op.h"
#include "client/python/native/opening.h"
#include "client/python/native/pool.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_MS 10000 /* as hbm_close(): for so long it waits for a daemon that is silent */

static int64_t core_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* ---- Calls ---- */

/* Which of the requests in flight have ended; under the lock. How many. */
static long core_harvest(struct call *call)
{
	struct op **link = &call->core->pending, *op;
	long count = 0;

	while ((op = *link)) {
		int status = op->job ? job_go(call->core, op) : hbm_poll(call->hbm, op->ticket);

		if (status == -EAGAIN) {
			link = &op->next;
			continue;
		}

		*link = op->next;
		op->next = NULL;
		*call->ended_end = op;
		call->ended_end = &op->next;
		op_end(op, status, hbm_error(call->hbm));
		count++;
	}

	return count;
}

static void core_begin(struct call *call, struct core *core)
{
	core->refs++;
	*call = (struct call){.core = core};
	call->ended_end = &call->ended;
	call->thread = PyEval_SaveThread();
	pthread_mutex_lock(&core->lock);
	call->hbm = core->hbm;
}

static void core_end(struct call *call)
{
	pthread_mutex_unlock(&call->core->lock);
	PyEval_RestoreThread(call->thread);
	op_finish_all(call->ended);
	core_unref(call->core);
}

static bool core_is_here(const struct core *core)
{
	if (core->closed)
		native_raise_closed("connection");
	else if (getpid() != core->pid)
		native_raise(-EPERM, "the connection is that of the process before fork()");
	else
		return true;

	return false;
}

bool core_enter(struct call *call, struct core *core)
{
	if (!core_is_here(core))
		return false;

	core_begin(call, core);
	if (call->hbm)
		return true;

	core_end(call);
	native_raise_closed("connection");

	return false;
}

int core_leave(struct call *call, int status)
{
	char line[320] = "";

	if (status != 0 && call->hbm)
		snprintf(line, sizeof(line), "%s", hbm_error(call->hbm));
	if (call->hbm)
		core_harvest(call);
	core_end(call);
	if (status == 0)
		return 0;

	native_raise(status, line);

	return -1;
}

void core_add(struct call *call, struct op *op)
{
	struct op **link = &call->core->pending;

	while (*link)
		link = &(*link)->next;
	op->next = NULL;
	*link = op;
}

/* ---- Waiting ---- */

/* Handles what has arrived. How many requests have ended. */
static long core_hear(struct call *call)
{
	int r = hbm_dispatch(call->hbm, 0); /* if the connection has ended, so have all requests */

	call->lost = r < 0 ? r : 0;

	return core_harvest(call);
}

/* NULL: no memory or no descriptors. */
static struct waiter *core_waiter(struct core *core)
{
	struct waiter *waiter = core->idle;

	if (waiter) {
		core->idle = waiter->next;
		return waiter;
	}

	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return NULL;
	waiter->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (waiter->fd < 0) {
		free(waiter);
		return NULL;
	}

	return waiter;
}

static void core_waiter_done(struct core *core, struct waiter **link, struct waiter *waiter)
{
	eventfd_t ignored;

	while (*link != waiter)
		link = &(*link)->next;
	*link = waiter->next;
	eventfd_read(waiter->fd, &ignored);
	waiter->next = core->idle;
	core->idle = waiter;
}

static int core_ms_until(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - core_now_ns();
	if (left <= 0)
		return 0;

	return left / 1000000 >= INT_MAX ? INT_MAX : (int)((left + 999999) / 1000000);
}

static int64_t core_deadline(double timeout)
{
	return timeout < 0 || timeout > 1e9 ? -1 : core_now_ns() + (int64_t)(timeout * 1e9);
}

/* Sleeps until there is something to hear, without the lock. False: by a signal. */
static bool core_sleep(struct call *call, const struct waiter *waiter, int ms)
{
	struct pollfd fds[2] = {{.fd = hbm_fd(call->hbm), .events = POLLIN},
				{.fd = waiter ? waiter->fd : -1, .events = POLLIN}};
	int n, error;

	pthread_mutex_unlock(&call->core->lock);
	n = poll(fds, 2, ms);
	error = errno;
	pthread_mutex_lock(&call->core->lock);
	call->hbm = call->core->hbm;

	return n >= 0 || error != EINTR;
}

/* Looks again and again for as long as options.poll_us says. True: the op has ended. */
static bool core_spin(struct call *call, const struct op *op)
{
	int64_t until = core_now_ns() + call->core->poll_us * 1000ll;

	while (call->core->poll_us > 0 && core_now_ns() < until) {
		core_hear(call);
		if (op_has_ended(op))
			return true;
	}

	return false;
}

/* False: a signal has come. */
static bool core_wait_here(struct call *call, struct op *op, struct waiter *waiter,
			   int64_t deadline)
{
	core_hear(call);
	if (op_has_ended(op) || core_spin(call, op))
		return true;

	for (;;) {
		int ms = core_ms_until(deadline);

		if (ms == 0)
			return true;
		if (!core_sleep(call, waiter, ms))
			return false;
		if (call->hbm)
			core_hear(call);
		if (op_has_ended(op) || !call->hbm)
			return true;
	}
}

int core_wait(struct core *core, struct op *op, double timeout)
{
	int64_t deadline = core_deadline(timeout);

	while (!op_has_ended(op)) {
		struct call call;
		struct waiter *waiter;
		bool woken = true;
		int error;

		if (!core_enter(&call, core)) {
			if (!op_has_ended(op))
				return -1;
			PyErr_Clear();
			break;
		}

		waiter = core_waiter(core);
		error = errno;
		if (waiter) {
			waiter->next = op->waiters;
			op->waiters = waiter;
			woken = core_wait_here(&call, op, waiter, deadline);
			core_waiter_done(core, &op->waiters, waiter);
		}
		core_leave(&call, 0);

		if (!waiter) {
			native_raise(-error, "");
			return -1;
		}
		if (!woken && PyErr_CheckSignals() < 0)
			return -1;
		if (woken && !op_has_ended(op) && deadline >= 0 && core_ms_until(deadline) == 0)
			return 0;
	}

	return 1;
}

/* Waits once for anything to end. False: a signal has come. */
static bool core_listen(struct call *call, int ms)
{
	struct core *core = call->core;
	struct waiter *waiter = core_waiter(core);
	bool woken;

	if (waiter) {
		waiter->next = core->listeners;
		core->listeners = waiter;
	}
	woken = core_sleep(call, waiter, ms);
	if (waiter)
		core_waiter_done(core, &core->listeners, waiter);

	return woken;
}

long core_dispatch(struct core *core, double timeout)
{
	int64_t deadline = core_deadline(timeout);
	struct call call;
	bool woken = true;
	long count;

	do {
		if (!core_enter(&call, core))
			return -1;

		count = core_hear(&call);
		if (count == 0 && core_ms_until(deadline) != 0) {
			woken = core_listen(&call, core_ms_until(deadline));
			count = call.hbm ? core_hear(&call) : 0;
		}
		if (core_leave(&call, count == 0 && call.hbm ? call.lost : 0) < 0)
			return -1;

		if (!woken && PyErr_CheckSignals() < 0)
			return -1;
	} while (count == 0 && core_ms_until(deadline) != 0);

	return count;
}

/* ---- Its life ---- */

struct core *core_connect(const struct hbm_options *options)
{
	struct core *core = calloc(1, sizeof(*core));
	int status;

	if (!core) {
		PyErr_NoMemory();
		return NULL;
	}

	core->refs = 1;
	core->pid = getpid();
	core->poll_us = options->poll_us;
	pthread_mutex_init(&core->lock, NULL);
	pthread_mutex_init(&core->fence_lock, NULL);
	Py_BEGIN_ALLOW_THREADS status = hbm_connect(&core->hbm, options);
	Py_END_ALLOW_THREADS if (status == 0)
	{
		core->info = *hbm_info(core->hbm);
		core->fences = true;
		return core;
	}

	core->closed = true;
	core_unref(core);
	native_raise(status, options->socket ? options->socket : "");

	return NULL;
}

/* Cancels what is in flight, waits for what cannot be, and closes the connection. */
static void core_close_here(struct call *call)
{
	int64_t deadline = core_now_ns() + CLOSE_MS * 1000000ll;
	struct core *core = call->core;

	for (struct op *op = core->pending; op; op = op->next)
		op_cancel(core->hbm, op);
	for (core_hear(call); core->pending && core_ms_until(deadline) != 0; core_hear(call))
		hbm_dispatch(core->hbm, core_ms_until(deadline));

	for (struct waiter *waiter = core->listeners; waiter; waiter = waiter->next)
		eventfd_write(waiter->fd, 1);
	pool_close_all(core);
	core->landing = landing_free(core->landing);
	allocation_forget(core);
	opening_forget(core);
	core->hbm = call->hbm = hbm_close(core->hbm);

	while (core->pending) {
		struct op *op = core->pending;

		core->pending = op->next;
		op->next = NULL;
		*call->ended_end = op;
		call->ended_end = &op->next;
		op_end(op, -ENOTCONN, "the connection was closed");
	}
}

/* In a child made by fork(): what another thread had under way is as it was then. */
static void core_close_child(struct core *core)
{
	if (pthread_mutex_trylock(&core->lock) != 0)
		return;
	core->hbm = hbm_close(core->hbm);
	pthread_mutex_unlock(&core->lock);
}

bool core_close(struct core *core)
{
	struct call call;

	if (core->closed)
		return true;

	for (struct area *area = core->areas; area; area = area->next)
		if (area->views > 0)
			return area_is_unused(area, "close the connection of");

	for (struct loan *loan = core->loans; loan; loan = loan->next)
		if (loan->views > 0)
			return loan_is_unused(loan, "close the connection of");

	if (core->allocations) {
		PyErr_SetString(PyExc_BufferError,
				"cannot close the connection whose memory torch has");
		return false;
	}

	core->closed = true;
	for (struct area *area = core->areas; area; area = area->next)
		area->region = NULL;
	for (struct loan *loan = core->loans; loan; loan = loan->next)
		loan->loan = NULL;

	if (getpid() != core->pid) {
		core_close_child(core);
		return true;
	}

	pthread_mutex_lock(&core->fence_lock);
	core->fences = false;
	pthread_mutex_unlock(&core->fence_lock);

	core_begin(&call, core);
	if (call.hbm)
		core_close_here(&call);
	core_end(&call);

	return true;
}

void core_unref(struct core *core)
{
	PyObject *type, *value, *trace;

	if (core->refs > 1 || core->closed) {
		if (--core->refs > 0)
			return;
	} else {
		PyErr_Fetch(&type, &value, &trace);
		if (!core_close(core)) /* takes a use for the time, and then ends here again */
			PyErr_Clear();
		PyErr_Restore(type, value, trace);
		core->refs--;
	}

	while (core->idle) {
		struct waiter *waiter = core->idle;

		core->idle = waiter->next;
		close(waiter->fd);
		free(waiter);
	}
	pthread_mutex_destroy(&core->lock);
	pthread_mutex_destroy(&core->fence_lock);
	free(core);
}
