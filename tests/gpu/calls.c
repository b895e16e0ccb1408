/* SPDX-License-Identifier: Apache-2.0 */
/* calls: see calls.h. */
#include "tests/gpu/calls.h"

#include "tests/gpu/record.h"

#include <stdio.h>

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

void calls_report(void)
{
	for (int i = 0; i < CALLS; i++) {
		if (calls[i].made == 0)
			record(calls[i].name, OUTCOME_FAIL, "%s: was not called", calls[i].symbol);
		else if (calls[i].wrong[0] != '\0')
			record(calls[i].name, OUTCOME_FAIL, "%s: %s", calls[i].symbol, calls[i].wrong);
		else
			record(calls[i].name, OUTCOME_PASS, "%s: as declared", calls[i].symbol);
	}
}
