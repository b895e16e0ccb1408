/* SPDX-License-Identifier: Apache-2.0 */
/* serve_space: which namespaces a session has open. A request may only name those. */
#pragma once

#include "daemon/server.h"

/* Whether the session has it open. */
bool session_has_space(const struct session *session, uint32_t space);
/* Closes all that a session that has died had open. */
void serve_spaces_gone(struct hbmd *hbmd, struct session *session);
