/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls: which entry points of the driver table were called, and whether each did what
 * its declaration and its documentation say. An entry point passes when every one of its
 * calls succeeded and nothing that was checked about it was wrong; one that was never
 * called fails, so that a new line in the table cannot be forgotten. One that does not
 * return fails too, and ends the process, with what is known of the others.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <stdbool.h>

enum call {
#define DRIVER_CALL(name, symbol, arguments) CALL_##name,
	DRIVER_CALLS(DRIVER_CALL)
#undef DRIVER_CALL
		CALLS
};

/* Calls an entry point; true if it succeeded. */
#define TRY(table, name, ...)                                                                      \
	call_made((table), CALL_##name, (call_begins(CALL_##name), (table)->name(__VA_ARGS__)))
/* Something that must hold after calls of an entry point; what is not true is remembered
 * as the reason. */
#define EXPECT(name, condition)                                                                    \
	(call_begins(CALL_##name), call_expect(CALL_##name, (condition), #condition))

void call_begins(enum call call);
bool call_made(const struct driver *driver, enum call call, CUresult result);
void call_expect(enum call call, bool holds, const char *condition);
/* From now on, until calls_report(): after so many seconds, or a signal that would kill,
 * the call that is under way is blamed, all are reported, and the process ends with 1. */
void calls_watch(unsigned seconds);
/* A record for each entry point. */
void calls_report(void);
