/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body: what a body must say beyond its size: its fields, and the records of its arrays. A
 * check is of a whole message of an opcode that the table in validate.c gives it, which has
 * the size that its counts imply, so a check may read all of it. HBM_OK, or the status to
 * refuse the request with and why, as in field.h. Nothing outside the message is looked at.
 */
#pragma once

#include "daemon/session/field.h"

typedef int body_check(const void *message, struct refusal *why);

body_check body_hello;
body_check body_ranges; /* COMMIT, DECOMMIT, RECONCILE */
body_check body_shares;
body_check body_import;

body_check body_namespace;  /* NAMESPACE_OPEN */
body_check body_encoding;   /* the same with an encoding */
body_check body_open_flags; /* the same with an encoding and flags */
body_check body_open_group; /* the same with a group */
body_check body_drop;

body_check body_keys;   /* every request that names keys but BORROW */
body_check body_blocks; /* STORE, LOAD */
body_check body_borrow;
body_check body_evict;
body_check body_cancel;
body_check body_query;

body_check body_reserve;
body_check body_board_open;
body_check body_ask;
body_check body_publish;
body_check body_attach;
body_check body_unpublish;
body_check body_count;
body_check body_tenant_set;
body_check body_resize;
body_check body_drain;
