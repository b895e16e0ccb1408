/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's life in a process: its first user configures it, cuInit starts it, and it
 * is torn down with its last user. A user is a driver table; several may be open in one
 * process, through several copies of driver.c. In a process that loads the library as
 * libcuda.so.1 and does not know it, cuInit configures it.
 *
 * Some effects outlive the last user, so the library stays loaded once cuInit was called:
 * forked children are refused (call.h), and leaked resources remain (litter.h).
 */
#include "kernels/soft/soft.h"

#include "kernels/soft/allocation.h"
#include "kernels/soft/backing.h"
#include "kernels/soft/card.h"
#include "kernels/soft/copy.h"
#include "kernels/soft/event.h"
#include "kernels/soft/fault.h"
#include "kernels/soft/grid.h"
#include "kernels/soft/hold.h"
#include "kernels/soft/host.h"
#include "kernels/soft/kernel.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/module.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/sm.h"
#include "kernels/soft/stream.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER;
static bool configured;
static struct options in_force;
static unsigned users;

static int life_faults_configure(const char *given)
{
	const char *list = given != NULL ? given : secure_getenv("HBM_SOFT_FAIL");

	return list == NULL ? 0 : hbm_soft_faults(list);
}

static int life_configure_first(const struct driver_soft_options *given)
{
	struct options options;
	int result = options_resolve(&options, given);

	if (result < 0)
		return result;

	call_reset();
	result = life_faults_configure(given != NULL ? given->fail : NULL);
	if (result == 0)
		result = grid_register();
	if (result < 0)
		return result;

	devices_setup(&options);
	call_configure(&options);
	hold_configure(options.hold);
	copies_configure(options.at_once);
	card_configure(options.card, options.inherited);
	sm_configure(options.card, options.slice_us);
	in_force = options;
	configured = true;

	return 0;
}

static int life_configure_again(const struct driver_soft_options *given)
{
	if (given == NULL)
		return 0;
	if (given->devices != 0 && given->devices != in_force.devices)
		return -EBUSY;
	if (given->memory != 0 &&
	    given->memory - given->memory % SOFT_GRANULARITY != in_force.memory)
		return -EBUSY;

	return given->fail == NULL ? 0 : hbm_soft_faults(given->fail);
}

int hbm_soft_configure(const struct driver_soft_options *options)
{
	int result;

	if (call_is_forked())
		return 0; /* cuInit then refuses */

	LOCKED(life_lock);
	result = configured ? life_configure_again(options) : life_configure_first(options);
	if (result < 0)
		return result;

	users++;

	return 0;
}

static void life_tear_down(void)
{
	streams_reset();
	events_reset();
	modules_reset();
	kernels_reset();
	LOCKED(vmm_lock);
	host_reset();
	mappings_reset();
	reservations_reset();
	backings_reset();
	sm_reset();
	card_reset();
	devices_reset();
	fault_forget();
	call_reset();
	configured = false;
}

void hbm_soft_release(void)
{
	if (call_is_forked())
		return; /* the threads belong to the parent */
	LOCKED(life_lock);
	if (users != 0)
		users--;
	if (users == 0 && configured) /* also after one release too many, by cuInit alone */
		life_tear_down();
}

/* For a process that has loaded the library as libcuda.so.1. */
static int life_configure_default(void)
{
	LOCKED(life_lock);
	return configured ? 0 : life_configure_first(NULL);
}

static void life_stay_loaded(void)
{
	Dl_info here;

	if (dladdr((void *)(uintptr_t)cuInit, &here) != 0)
		dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

CUresult cuInit(unsigned int flags)
{
	if (life_configure_default() <
	    0) /* before the call is counted: a fault may be set for the first one */
		return CUDA_ERROR_INVALID_VALUE;

	CALL_ENTER(cuInit);
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;

	call_initialised();
	life_stay_loaded();

	return CUDA_SUCCESS;
}

static uint64_t life_reservations(void)
{
	return reservations_live(RESERVED);
}

uint64_t hbm_soft_live(const char *kind)
{
	static const struct {
		const char *kind;
		uint64_t (*count)(void);
	} counters[] = {
		{"contexts", devices_retained},    {"handles", backings_live},
		{"mappings", mappings_live},       {"reservations", life_reservations},
		{"allocations", allocations_live}, {"registrations", host_registrations},
		{"streams", streams_live},         {"events", events_live},
		{"modules", modules_live},         {"copies held", hold_waiting},
		{"slices waited", sm_waited},
	};

	LOCKED(vmm_lock);
	LOCKED(table_lock);

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (strcmp(counters[i].kind, kind) == 0)
			return counters[i].count();

	return UINT64_MAX;
}
