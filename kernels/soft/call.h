/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call: the prologue of every entry point. A call is refused inside a host function, before
 * cuInit and in a process forked after it. It is counted, and fails if a fault says so.
 * Then, as options say, it is delayed and leaves litter.
 */
#pragma once

#include "kernels/soft/calls.h"

#include <stdbool.h>

/* CUDA_SUCCESS: go on; anything else is the result of the entry point. */
CUresult call_enter(enum call call);

#define CALL_ENTER(name)                                                                           \
	do {                                                                                       \
		CUresult entered = call_enter(CALL_##name);                                        \
		if (entered != CUDA_SUCCESS)                                                       \
			return entered;                                                            \
	} while (0)

void call_initialised(void); /* cuInit has succeeded */
bool call_is_forked(void);   /* this process was forked after cuInit: all calls are refused */
void call_reset(void);       /* as before cuInit; counts are 0, nothing is slow or littered */
struct options;
void call_configure(
	const struct options *options); /* how slow calls are, and whether they litter */
/* Marks this thread as inside a host function, where calls are refused. */
void call_forbid(bool forbidden);
