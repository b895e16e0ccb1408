/* SPDX-License-Identifier: Apache-2.0 */
/* serve_namespace: which namespaces a session has open. A request may only name those. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_namespace_open, serve_namespace_close;

/* Whether the session has it open. */
bool session_has_namespace(const struct session *session, uint32_t ns);
/* Sets open[number] of each that the session has open. */
void session_mark_namespaces(const struct session *session, bool open[UINT16_MAX + 1]);
/* Closes all namespaces that a dead session had open. */
void serve_namespaces_gone(struct hbmd *hbmd, struct session *session);
