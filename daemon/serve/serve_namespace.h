/* SPDX-License-Identifier: Apache-2.0 */
/* serve_namespace: which namespaces a session has open. A request may only name those. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_namespace_close;

/* Answers a NAMESPACE_OPEN by number, or one of blocks that cannot be. False: it is by its
 * spec, and namespace_room.h's to answer. */
bool serve_namespace_answer_open(struct hbmd *hbmd, struct request *request);

/* The namespace that a NAMESPACE_OPEN by its spec asks for; its members are the message's. */
struct namespace_identity serve_namespace_identity(const struct hbmd *hbmd,
						   const struct hbm_wire_header *message);
/* Whether there may be such a namespace, with blocks of its size, and its salt. */
bool serve_namespace_is_possible(const struct hbmd *hbmd,
				 const struct namespace_identity *identity);
/* The same, and on NVMe. */
bool serve_namespace_may_be_on_nvme(const struct hbmd *hbmd,
				    const struct namespace_identity *identity);

/* Adds the session's open of a namespace that has been counted already, and replies;
 * opening twice counts once. */
void serve_namespace_add_open(struct hbmd *hbmd, struct request *request, uint16_t number);
uint64_t serve_namespace_open_bytes(void); /* the memory of one open */
/* Whether the session has it open. */
bool session_has_namespace(const struct session *session, uint32_t ns);
/* HBM_INVALID, and why, if blocks of that namespace may not be in a tier of that kind. */
int serve_namespace_check_tier(const struct hbmd *hbmd, uint32_t ns, uint32_t tier,
			       const struct reason *why);
/* HBM_UNSUPPORTED or HBM_INVALID, and why, if no block of that namespace can be durable, or none
 * that is to go to a tier of that kind. */
int serve_namespace_check_durable(const struct hbmd *hbmd, uint32_t ns, uint32_t tier,
				  const struct reason *why);
/* Sets open[number] of each that the session has open. */
void session_mark_namespaces(const struct session *session, bool open[UINT16_MAX + 1]);
/* Closes all namespaces that a dead session had open. */
void serve_namespaces_gone(struct hbmd *hbmd, struct session *session);
