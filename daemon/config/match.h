/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match: which clients a rule of the configuration is for, as words:
 *
 * 	unit:PATTERN	processes of a system unit, as shell patterns match its name
 * 	uid:NAME	processes of a user, by name or number
 * 	gid:NAME	processes whose group that is, by name or number; no supplementary ones
 * 	any		all processes
 *
 * Names of users and groups are looked up once, when the rule is read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum match_kind { MATCH_NONE, MATCH_UNIT, MATCH_UID, MATCH_GID, MATCH_ANY };
enum { MATCH_UNIT_BYTES = 256 }; /* of a unit's name, as for systemd, with its end */

struct match {
	enum match_kind kind;
	id_t id;                     /* UID, GID */
	char unit[MATCH_UNIT_BYTES]; /* UNIT: the pattern */
};

/* What the kernel says of a client. */
struct identity {
	uid_t uid;
	gid_t gid;
	char unit[MATCH_UNIT_BYTES]; /* the system unit it runs in; empty: none, or not known */
};

/* Reads the words of a rule, into at most `room`: how many; -EINVAL: one of them is none, there
 * are more, or there is none. */
int match_read(const char *text, struct match *matches, size_t room);
bool match_is(const struct match *match, const struct identity *identity);
