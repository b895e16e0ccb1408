/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start_check: why a start with this configuration would fail, without starting; for hbmd
 * --check-config. It changes nothing. What passes by itself is no error here: that the
 * socket, the NVMe file or the state folder is in use, as they are while hbmd runs.
 */
#pragma once

#include <stdio.h>

struct config;

/* Checks everything and prints a line for each error to `errors`, or one "ok: " line to
 * `ok`. 0 or -EINVAL. The configuration is one that config_check() accepts. */
int start_check(const struct config *config, FILE *ok, FILE *errors);
/* Becomes the user as whom a start would open files. -ENOENT: there is no such user. Only
 * uid 0 can. */
int start_check_become(const char *user);
