/* SPDX-License-Identifier: Apache-2.0 */
/* A copy that is held looks again every millisecond: only tests hold any. */
#include "kernels/soft/hold.h"

#include "kernels/soft/options.h"
#include "kernels/soft/park.h"
#include "kernels/soft/soft.h"
#include "kernels/soft/stream.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_NS 1000000u

static atomic_bool held;
static _Atomic uint64_t waiting; /* copies */
static char hold_file[SOFT_PATH_MAX];

void hbm_soft_hold(bool hold)
{
	atomic_store(&held, hold);
}

uint64_t hold_waiting(void)
{
	return atomic_load(&waiting);
}

void hold_configure(const char *file)
{
	snprintf(hold_file, sizeof(hold_file), "%s", file);
	atomic_store(&held, false);
}

bool hold_is_on(void)
{
	return atomic_load(&held) || (hold_file[0] != '\0' && access(hold_file, F_OK) == 0);
}

bool hold_wait(const struct stream *stream)
{
	if (!hold_is_on())
		return true;

	atomic_fetch_add(&waiting, 1);
	while (hold_is_on() && !stream_is_torn_down(stream))
		clock_wait_until(clock_now() + LOOK_NS);
	atomic_fetch_sub(&waiting, 1);

	return !stream_is_torn_down(stream);
}
