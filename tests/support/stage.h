/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage: what most tests with a daemon begin and end with: a folder for one daemon, which
 * the test starts as it wants, and the check that it and the test leave nothing. cmocka's
 * setup and teardown.
 */
#pragma once

#include "tests/support/spawn.h"

extern struct spawn daemon_;

int stage_setup(void **state);
int stage_teardown(void **state);
/* Ends the daemon, whose work is done and whose clients have gone: it comes to rest,
 * balances, has as many descriptors as spawn_fds() said before, and ends with 0. */
void stage_finish(unsigned fds);
/* The start with these settings and this environment (NULL: nothing of one's own) ends with
 * that status and one line of error, which has the text in it, and leaves no socket. */
void stage_refused(const char *const *sets, const char *const *env, int expected, const char *text);
