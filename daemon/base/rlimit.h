/* SPDX-License-Identifier: Apache-2.0 */
/* rlimit: names the resource limit of this process (setrlimit(2)) that may have caused an
 * error: which, its value, and how to raise it. */
#pragma once

#define RLIMIT_HINT 128

/* The limit that an errno (either sign) points to; -1: none. */
int rlimit_of_error(int error);
/* "; RLIMIT_NOFILE is 64: raise LimitNOFILE= of the unit, or ulimit -n"; "" for a limit
 * that is not set, and for -1. */
const char *rlimit_hint(char text[static RLIMIT_HINT], int resource);
