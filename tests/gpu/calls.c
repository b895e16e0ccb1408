/* SPDX-License-Identifier: Apache-2.0 */
/* calls: see calls.h. */
#include "tests/gpu/calls.h"

#include "tests/gpu/record.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int deadly[] = {SIGALRM, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
static volatile sig_atomic_t under_way;
static const char *last; /* the one that did not return */

static struct {
	const char *name, *symbol;
	unsigned made;
	char wrong[160]; /* the first thing that was */
} calls[] = {
#define DRIVER_CALL(name, symbol, arguments) {#name, symbol, 0, ""},
	DRIVER_CALLS(DRIVER_CALL)
#undef DRIVER_CALL
};

static void call_blame(enum call call, const char *what, const char *which)
{
	if (calls[call].wrong[0] == '\0')
		snprintf(calls[call].wrong, sizeof(calls[call].wrong), "%s %s", what, which);
}

void call_begins(enum call call)
{
	under_way = call;
}

bool call_made(const struct driver *driver, enum call call, CUresult result)
{
	calls[call].made++;
	if (result != CUDA_SUCCESS)
		call_blame(call, "returned", driver_error_name(driver, result));
	return result == CUDA_SUCCESS;
}

void call_expect(enum call call, bool holds, const char *condition)
{
	if (!holds)
		call_blame(call, "not so:", condition);
}

/* The driver is where the process is stuck, or died: printing is as safe as it will ever
 * be. */
static void give_up(int number)
{
	if (number == SIGALRM)
		call_blame((enum call)under_way, "does not", "return");
	else
		call_blame((enum call)under_way, "ended in", strsignal(number));

	calls[under_way].made++;
	last = calls[under_way].name;
	calls_report();
	_exit(1);
}

static void catch_deadly(void (*handler)(int number))
{
	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], handler);
}

void calls_watch(unsigned seconds)
{
	catch_deadly(give_up);
	alarm(seconds);
}

void calls_report(void)
{
	alarm(0);
	catch_deadly(SIG_DFL);

	for (int i = 0; i < CALLS; i++) {
		if (calls[i].made == 0 && last)
			record(calls[i].name, OUTCOME_UNSUPPORTED, "%s: not tried after %s",
			       calls[i].symbol, last);
		else if (calls[i].made == 0)
			record(calls[i].name, OUTCOME_FAIL, "%s: was not called", calls[i].symbol);
		else if (calls[i].wrong[0] != '\0')
			record(calls[i].name, OUTCOME_FAIL, "%s: %s", calls[i].symbol,
			       calls[i].wrong);
		else
			record(calls[i].name, OUTCOME_PASS, "%s: as declared", calls[i].symbol);
	}
}
