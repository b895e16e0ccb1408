/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_status: with what the daemon ends. Service managers go by it: a configuration that
 * cannot be used does not get better by trying again, a device or a disk that is not
 * there yet may. Both numbers are those of sysexits.h, which systemctl status shows by
 * name.
 */
#pragma once

enum exit_status {
	EXIT_STATUS_OK = 0,     /* drained and stopped, or did what an option asked */
	EXIT_STATUS_FAILED = 1, /* could not go on */
	EXIT_STATUS_USAGE = 2,  /* wrong options */
	EXIT_STATUS_UNMET = 69, /* EX_UNAVAILABLE: could not start now; another try may succeed */
	EXIT_STATUS_CONFIG =
		78 /* EX_CONFIG: could not start, and will not until somebody changes something */
};

/* What a start that failed with this negative errno ends with. */
enum exit_status exit_status_of_start(int error);
