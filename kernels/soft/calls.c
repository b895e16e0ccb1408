/* SPDX-License-Identifier: Apache-2.0 */
/* calls: see calls.h. Counts are atomic so that entering a call takes no lock. */
#include "kernels/soft/calls.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic uint64_t counts[CALLS + 1];

int calls_find(const char *name)
{
#define DRIVER_CALL(call, symbol, arguments) #call,
	static const char *const names[CALLS + 1] = {DRIVER_ALL_CALLS(DRIVER_CALL) "*"};
#undef DRIVER_CALL

	for (int i = 0; i <= CALLS; i++)
		if (strcmp(names[i], name) == 0)
			return i;

	return -1;
}

uint64_t calls_count(unsigned call)
{
	return atomic_load(&counts[call]);
}

uint64_t calls_add(unsigned call)
{
	return atomic_fetch_add(&counts[call], 1) + 1;
}

void calls_reset(void)
{
	for (unsigned i = 0; i <= CALLS; i++)
		atomic_store(&counts[i], 0);
}

uint64_t hbm_soft_calls(const char *name)
{
	int call = calls_find(name);

	return call < 0 ? UINT64_MAX : calls_count((unsigned)call);
}
