/* SPDX-License-Identifier: Apache-2.0 */
/*
 * litter: what the real driver leaves lying in a process, for the option of that name.
 * From cuInit, from the first context, and now and then from any later call, it has
 * descriptors of its own (its device files, eventfds, pipes, a socket in the abstract
 * name space), memory and threads, and gives few of them back before the process ends.
 * Here nothing is given back and nothing has a use: whoever counts what a process holds
 * has to tell the driver's from their own by what it looks like:
 *
 * 	/dev/nvidiactl, /dev/nvidia0, ...	/dev/zero
 * 	@cuda-uvmfd-...				a socket bound to @cuda-soft-PID-N
 * 	eventfd, epoll, pipe			the same
 * 	shared memory				a mapped memfd named cuda-soft
 * 	threads					one named cuda-EvtHandlr, one with its maker's name
 *
 * What is missing for want of descriptors or memory is left out.
 */
#pragma once

#include "kernels/soft/calls.h"

/* A call is under way, the nth of all; 0: one of those not counted. Calls of the same
 * kind leave more only once. */
void litter_drop(enum call call, uint64_t nth);
