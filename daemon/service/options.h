/* SPDX-License-Identifier: Apache-2.0 */
/* options: the command line of hbmd, and what is said of it before the daemon has a log. */
#pragma once

#include <stdbool.h>

#include "daemon/service/configuration.h"

#define OPTIONS_CONFIG "/etc/hbmd/hbmd.conf"

struct options {
	struct configuration configuration;
	const char *user; /* --check-config checks files as this user */
	bool check, reference, print;
};

/* 0: continue; 1: done; 2: bad usage, which has been reported. */
int options_parse(int argc, char **argv, struct options *options);
/* Becomes the user as whom --check-config is to check. Where none is named and root checks the
 * service's file that is the service's, because root can read everything. Negative errno, which
 * has been reported. */
int options_become_user(const struct options *options);
/* A line with its priority for the journal, plain on a terminal; the service manager shows it. */
void options_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void options_report_all(const char *lines); /* a report for each line */
