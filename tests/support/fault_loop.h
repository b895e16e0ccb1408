/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_loop: the n-th call of a daemon fails, for n = 1, 2, ... until the work of a client
 * (work.h) is done without reaching it. The client may be refused, or lose its connection;
 * the daemon lives, whatever comes back is right, the books balance, nothing is left open,
 * and the next client is served.
 */
#pragma once

#include "tests/support/fault.h"
#include "tests/support/work.h"

#define FAULT_LOOP_MAX 2000 /* more calls than the work makes */

/* A daemon whose calls can fail, with that value of hbmd.io. The test's main() begins with
 * child_main() and work_parts. */
void fault_loop_start(const char *engine);
/* Lets calls n to n + count - 1 of these kinds fail, then the next, until none is reached.
 * How many of them the client noticed. */
unsigned fault_loop_each(unsigned kinds, int error, unsigned count);
void fault_loop_finish(void);
int fault_loop_teardown(void **state); /* cmocka's, with stage_setup() */
