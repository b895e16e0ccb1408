/* SPDX-License-Identifier: Apache-2.0 */
/*
 * visible: what a session may see of what is not its own. An operator sees all. For any
 * other client SECURITY.md has the reason for each line:
 *
 * 	STATUS		which daemon it is and how it does, no figure of its work
 * 	DEVICES		all: COMMIT tells as much
 * 	TIERS		their sizes, not what is in them
 * 	SESSIONS	those of its user (user.h)
 * 	REGIONS		those of its user (user.h)
 * 	SEQUENCES	those of its user (user.h)
 * 	EVENTS		those of its user (user.h)
 * 	NAMESPACES	those that this session has open
 * 	BLOCKS		of these, without where they lie
 * 	others		nothing
 *
 * A record of which only a part may be seen ends with that part. So a new member, at the
 * end of its record, is for operators until somebody decides otherwise here.
 */
#pragma once

#include "daemon/session/session.h"

#include <stdbool.h>
#include <stdint.h>

struct visible {
	const struct session *viewer;
	bool all; /* it is an operator */
	/* otherwise: by number, the namespaces that it has open */
	bool namespaces[UINT16_MAX + 1];
};

/* What that session may see now. */
void visible_init(struct visible *visible, const struct session *viewer);
/* How many bytes of each record of that kind, at most; 0: it may not ask. */
uint32_t visible_bytes(const struct visible *visible, enum hbm_wire_query_kind kind);
bool visible_session(const struct visible *visible, const struct session *session);
bool visible_namespace(const struct visible *visible, uint16_t ns);
