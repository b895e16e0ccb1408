/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl: one run of hbmctl: its command line, its connection, and how it reports its outcome.
 * A command prints its result on stdout, as a table or as one JSON
 * document; one line on stderr says what went wrong and what to do about it. Exit status:
 * enum ctl_exit.
 */
#pragma once

#include "client/ctl/options.h"

#include <hbm/hbm.h>
#include <jansson.h>
#include <stdbool.h>

enum ctl_exit {
	CTL_DONE = 0,
	CTL_FAILED = 1, /* refused, failed, or found something wrong */
	CTL_USAGE = 2,  /* not a command line of hbmctl */
};

struct ctl;

/* One thing hbmctl can do: a row of the table in command.c. */
struct command {
	const char *name;
	const char *arguments;             /* for the synopsis */
	const char *summary;               /* one line */
	int (*run)(struct ctl *ctl);       /* returns an enum ctl_exit */
	const struct option_spec *options; /* or NULL */
	size_t least, most;                /* number of words it takes */
	const char *details;               /* paragraphs for its own help, or NULL */
};

struct ctl {
	const char *socket; /* NULL: the library's choice */
	bool json;
	uint64_t timeout_s; /* for the daemon's replies; 0: none */
	const struct command *command;
	struct option_set options; /* the command's own */
	char **words;              /* arguments that are not options, NULL-terminated */
	size_t word_count;
	struct hbm *hbm; /* after ctl_connect */
};

/* The socket this run connects to. */
const char *ctl_socket(const struct ctl *ctl);
/* Options to connect as `name`. */
struct hbm_options ctl_options(const struct ctl *ctl, const char *name);
/* Connects ctl->hbm for inspection. CTL_DONE, or CTL_FAILED with the line printed. */
int ctl_connect(struct ctl *ctl);
/* The line for a connection that could not be made; for commands that connect otherwise.
 * Returns CTL_FAILED. */
int ctl_no_daemon(const struct ctl *ctl, int status);
/* One line on stderr. Return CTL_FAILED and CTL_USAGE. */
int ctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For a library call on `hbm` that returned status != 0: `what` failed, why, and what to
 * do. Returns CTL_FAILED. */
int ctl_refused(const struct hbm *hbm, const char *what, int status);
/* Prints and frees the document; NULL means out of memory. Returns the exit status. */
int ctl_print_json(json_t *document);
/* The exit status for a table_finish() or a query that returned r. */
int ctl_printed(int r);

/* Parse option values; print the usage line if they are wrong. value may be NULL: *out is
 * unchanged. */
int ctl_count(const struct ctl *ctl, const char *what, const char *value, uint64_t *out);
int ctl_bytes(const struct ctl *ctl, const char *what, const char *value, uint64_t *out);
