/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start_check: what a start with this configuration would be refused for, without starting:
 * for hbmd --check-config. It looks, and changes nothing. What passes on its own is no
 * error here: that the socket, the NVMe file or the state folder is in use, as they are
 * while hbmd runs.
 */
#pragma once

#include <stdio.h>

struct config;

/* Looks at everything, whatever is wrong, and prints a line for each to `errors`, or one "ok: "
 * line to `ok`. 0 or -EINVAL. The configuration is one that config_check() accepts. */
int start_check(const struct config *config, FILE *ok, FILE *errors);
/* Becomes the user, as whom a start would look at files. -ENOENT: there is no such user.
 * Only uid 0 can. */
int start_check_become(const char *user);
