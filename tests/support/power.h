/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power: cuts the power of a daemon's disk. The files of a folder become what they could be
 * then: all that was flushed, and of each write after that all, nothing, or some of its
 * sectors, as the seed has it. Sectors have 512 bytes and are never torn.
 *
 * Names come and go at once, and so do lengths: that is one of the ways in which it can go.
 */
#pragma once

#include "tests/support/seed.h"
#include "tests/support/spawn.h"

struct power {
	char dir[96], log[96];
	char variables[4][256];
	const char *env[5];
};

/* For the folder of that daemon, which does not run. power->env is for its start; its I/O is to
 * be hbmd.io=threads, which the calls of are seen. */
void power_open(struct power *power, const struct spawn *spawn);
/* Before each start: what is there is on the disk. */
void power_on(const struct power *power);
/* After the daemon was killed. */
void power_cut(const struct power *power, struct seed *seed);
