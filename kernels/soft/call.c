/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entering an entry point: permission, count, fault, cost. The common path takes no lock.
 *
 * A child of a process that has called cuInit is refused permanently, as with the real
 * driver: the parent's threads and open devices do not exist in the child.
 */
#include "kernels/soft/call.h"

#include "kernels/soft/fault.h"
#include "kernels/soft/litter.h"
#include "kernels/soft/options.h"
#include "kernels/soft/park.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define BUSY_US 100u

static atomic_bool initialised;
static atomic_bool started; /* cuInit has succeeded in this process, maybe before a tear-down */
static uint32_t slow_us[CALLS];
static bool litters;
static bool forked; /* a child of a process that had called cuInit */
static _Thread_local bool in_host_function;

static void call_note_fork(void)
{
	forked = true;
}

static void call_watch_forks(void)
{
	pthread_atfork(NULL, NULL, call_note_fork);
}

bool call_is_forked(void)
{
	return forked;
}

/* Calls that never touch a device always work and are not counted by "*". */
static bool call_is_plain(enum call call)
{
	return call == CALL_cuInit || call == CALL_cuGetErrorName || call == CALL_cuGetErrorString;
}

/* A short one keeps its processor busy, as a driver does: a sleep would end late by more than
 * that. */
static void call_delay(uint32_t us)
{
	const uint64_t end = clock_now() + us * 1000ull;

	if (us > BUSY_US)
		clock_wait_until(end);
	else
		clock_spin_until(end);
}

/* The configured side effects of a call: a delay, and resources that leak. */
static void call_cost(enum call call, uint64_t nth_of_all)
{
	bool again = call == CALL_cuInit && atomic_load(&started);

	if (slow_us[call] != 0 && !again)
		call_delay(slow_us[call]);
	if (litters)
		litter_drop(call, nth_of_all);
}

CUresult call_enter(enum call call)
{
	uint64_t nth, nth_of_all = 0;
	CUresult fault;

	if (in_host_function)
		return CUDA_ERROR_NOT_PERMITTED;
	if (forked && (call == CALL_cuInit || !call_is_plain(call)))
		return CUDA_ERROR_NOT_INITIALIZED;

	nth = calls_add(call);
	if (!call_is_plain(call))
		nth_of_all = calls_add(CALLS);

	fault = fault_hit(call, nth, nth_of_all);
	if (fault != CUDA_SUCCESS)
		return fault;
	if (!call_is_plain(call) && call != CALL_cuDriverGetVersion && !atomic_load(&initialised))
		return CUDA_ERROR_NOT_INITIALIZED;

	call_cost(call, nth_of_all);

	return CUDA_SUCCESS;
}

void call_initialised(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, call_watch_forks);
	atomic_store(&initialised, true);
	atomic_store(&started, true);
}

void call_configure(const struct options *options)
{
	memcpy(slow_us, options->slow_us, sizeof(slow_us));
	litters = options->litter;
}

void call_reset(void)
{
	atomic_store(&initialised, false);
	memset(slow_us, 0, sizeof(slow_us));
	litters = false;
	calls_reset();
}

void call_forbid(bool forbidden)
{
	in_host_function = forbidden;
}
