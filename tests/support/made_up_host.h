/* SPDX-License-Identifier: Apache-2.0 */
/*
 * made_up_host: a folder that stands for / and has the files of /proc and /sys that a test
 * makes up, for modules that take one. It is removed with all that is in it.
 */
#pragma once

#include "tests/support/leaks.h"

struct made_up_host {
	struct leaks leaks;
	char root[64];
};

/* For cmocka; *state is the host. The second checks that the test leaked nothing. */
int made_up_host_setup(void **state);
int made_up_host_teardown(void **state);
/* A file below the root, and the folders it takes. */
void made_up_host_write(const struct made_up_host *host, const char *path, const char *text);
