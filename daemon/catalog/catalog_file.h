/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_file: the catalog's file before a database opens it, so that nothing is opened, and
 * nothing removed, that is not ours. SQLite's header has a place for who made a file
 * (application_id) and for the version of what is in it (user_version).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CATALOG_APPLICATION 0x68626d64 /* "hbmd" */

enum catalog_file_kind {
	CATALOG_FILE_ABSENT, /* or empty */
	CATALOG_FILE_OURS,
	CATALOG_FILE_STRANGE,
};

struct catalog_file_head {
	enum catalog_file_kind kind;
	uint32_t version; /* of ours */
};

/* Negative errno. A link is -ELOOP, what is no file STRANGE. */
int catalog_file_look(const char *path, struct catalog_file_head *head);
/* Makes an empty one beside it, whose name is written to `name`, and that its owner alone may
 * read: it will have salts. */
int catalog_file_make(const char *path, char *name, size_t size);
/* That one takes the place of what is there, and of its log, permanently. */
int catalog_file_replace(const char *path, const char *name);
