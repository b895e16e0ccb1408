/* SPDX-License-Identifier: Apache-2.0 */
/*
 * configuration: the configuration that the command line asks for: a file, its folder, and what
 * --set overrides. It is read at the start, and again for a daemon that serves: what it says of
 * tenants applies from then on, the rest at the next start.
 */
#pragma once

#include "daemon/config/config.h"

#include <stdbool.h>
#include <stddef.h>

enum { CONFIGURATION_SETS = 256 };

struct configuration {
	const char *file;
	bool given; /* otherwise the defaults do, if there is no such file */
	const char *sets[CONFIGURATION_SETS];
	size_t set_count;
};

/* Reads and checks it. 0; or a negative errno, and *wrong is a line for each thing that is wrong,
 * valid until it is read again. The config is to be cleared either way. */
int configuration_read(const struct configuration *configuration, struct config *config,
		       const char **wrong);

struct hbmd;
/* Reads it again. What is wrong is logged, and then nothing has changed. */
void configuration_reload(const struct configuration *configuration, struct hbmd *hbmd);
