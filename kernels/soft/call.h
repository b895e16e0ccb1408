/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call: what every entry point does first. It is refused inside a host function, before cuInit and in a process forked
 * after it, counted, and failed if a fault says so; then, where options want that, it takes its time and leaves litter.
 * Also the prototypes: a function is written under its plain name and exported under its symbol.
 */
#pragma once

#include "kernels/cuda_abi.h"
#include "kernels/soft/soft.h"

#include <stdbool.h>
#include <stdint.h>

#define DRIVER_CALL(name, symbol, arguments) SOFT_EXPORT CUresult name arguments __asm__(symbol);
DRIVER_CALLS(DRIVER_CALL)
#undef DRIVER_CALL

#define DRIVER_CALL(name, symbol, arguments) CALL_##name,
enum call { DRIVER_CALLS(DRIVER_CALL) CALLS };
#undef DRIVER_CALL

/* CUDA_SUCCESS: go on; anything else is the result of the entry point. */
CUresult call_enter(enum call call);

#define CALL_ENTER(name)                                                                                               \
	do {                                                                                                           \
		CUresult entered = call_enter(CALL_##name);                                                            \
		if (entered != CUDA_SUCCESS)                                                                           \
			return entered;                                                                                \
	} while (0)

/* The entry point's index, CALLS for "*", negative if there is no such. */
int call_find(const char *name);
/* How often since call_reset(); CALLS: all together, those without a device's part in them left out. */
uint64_t call_count(unsigned call);
void call_initialised(void); /* cuInit has succeeded */
bool call_is_forked(void);   /* this process was forked after cuInit: it gets nothing */
void call_reset(void);       /* as before cuInit; counts are 0, nothing is slow or littered */
struct options;
void call_configure(const struct options *options); /* how slow calls are, and whether they litter */
/* Marks this thread as being inside a host function, where calls are refused. */
void call_forbid(bool forbidden);
