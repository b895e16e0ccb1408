/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_status: the daemon's exit status. Service managers act on it: retrying does not
 * fix an unusable configuration, but may help if a device or a disk is not there yet.
 * Both numbers are from sysexits.h, and systemctl status shows their names.
 */
#pragma once

enum exit_status {
	EXIT_STATUS_OK = 0,     /* drained and stopped, or did what an option asked */
	EXIT_STATUS_FAILED = 1, /* failed while running */
	EXIT_STATUS_USAGE = 2,  /* wrong options */
	EXIT_STATUS_UNMET = 69, /* EX_UNAVAILABLE: cannot start now; a retry may succeed */
	EXIT_STATUS_CONFIG = 78 /* EX_CONFIG: cannot start until the operator changes something */
};

/* The exit status of a start that failed with this negative errno. */
enum exit_status exit_status_of_start(int error);
