/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_calls: see system_calls.h. Each call that is dispatched is a SIGSYS, whose handler
 * counts it and makes it. The return from a handler is a call as well, which is let through by
 * its place: the C library's restorer, which a first signal has found.
 */
#include "tests/support/system_calls.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __x86_64__

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif

#define RESTORER_BYTES 16

enum { LET_THROUGH = 0, STOP = 1 };

static volatile char system_calls_selector;
static volatile uint64_t system_calls_count;
static volatile uintptr_t system_calls_restorer;

static void system_calls_dispatched(int number, siginfo_t *info, void *frame)
{
	greg_t *registers = ((ucontext_t *)frame)->uc_mcontext.gregs;

	(void)number;
	(void)info;
	system_calls_restorer = (uintptr_t)__builtin_return_address(0);
	if (system_calls_selector == LET_THROUGH)
		return; /* the first signal */

	system_calls_selector = LET_THROUGH;
	int error = errno;
	long result = syscall(registers[REG_RAX], registers[REG_RDI], registers[REG_RSI],
			      registers[REG_RDX], registers[REG_R10], registers[REG_R8],
			      registers[REG_R9]);
	registers[REG_RAX] = result < 0 ? -errno : result;
	errno = error;
	system_calls_count++;
	system_calls_selector = STOP;
}

bool system_calls_begin(void)
{
	struct sigaction action = {.sa_sigaction = system_calls_dispatched,
				   .sa_flags = SA_SIGINFO | SA_NODEFER};

	system_calls_count = 0;
	if (sigaction(SIGSYS, &action, NULL) < 0 || raise(SIGSYS) != 0 ||
	    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, system_calls_restorer,
		  RESTORER_BYTES, &system_calls_selector) < 0)
		return false;

	system_calls_selector = STOP;

	return true;
}

uint64_t system_calls_end(void)
{
	system_calls_selector = LET_THROUGH;
	(void)prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, NULL);
	(void)signal(SIGSYS, SIG_DFL);

	return system_calls_count;
}

#else

bool system_calls_begin(void)
{
	return false;
}

uint64_t system_calls_end(void)
{
	return 0;
}

#endif
