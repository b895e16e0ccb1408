/* SPDX-License-Identifier: Apache-2.0 */
/*
 * litter: imitates the resources that the real driver leaks in a process, for the option of
 * that name. In cuInit, for the first context, and sometimes in later calls, the real
 * driver opens descriptors (device files, eventfds, pipes, an abstract socket), maps memory
 * and starts threads, and frees few of them before the process ends. Here none is freed or
 * used. A test that counts a process's resources recognises the driver's by these:
 *
 * 	/dev/nvidiactl, /dev/nvidia0, ...	/dev/zero
 * 	@cuda-uvmfd-...				a socket bound to @cuda-soft-PID-N
 * 	eventfd, epoll, pipe			the same
 * 	shared memory				a mapped memfd named cuda-soft
 * 	threads					cuda-EvtHandlr, and one other
 *
 * If descriptors or memory run out, the rest is left out.
 */
#pragma once

#include "kernels/soft/calls.h"

/* Leaves the litter of a call, the nth of all; 0: a call that is not counted. Each entry
 * point leaves more only once. */
void litter_drop(enum call call, uint64_t nth);
