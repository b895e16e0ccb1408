/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconnect: a connection whose daemon has gone goes on with the next one, where the daemon said
 * at HELLO that its sessions outlive it. Calls wait for that, at most hbm_options.reconnect_ms.
 *
 * 	away: the socket is a timer between two attempts to connect
 * 	greeting: connected, HELLO with the token is sent
 * 	then at once, each step answered before the next:
 * 	  what is mapped here is said (RECONCILE): the daemon drops what else the session has
 * 	  namespaces are opened again, under the same numbers; pins; boards; the page of memory
 * 	  what was not answered is sent again (again.h), in the order it was submitted
 *
 * The descriptor of the connection stays the same number: a timer, or the next socket. If the
 * daemon goes away in the middle, all begins anew: each step may be repeated. What another daemon
 * refuses ends the connection, as the end of a daemon without kept sessions does.
 *
 * Threads: as those of the connection. Nothing here creates a ticket.
 */
#pragma once

#include "client/connection.h"

/* The daemon has answered the HELLO of this connection: its sessions outlive it. */
void hbm_reconnect_allow(struct hbm *hbm, const struct hbm_wire_hello_resume_reply *reply);
/* Of a namespace that was opened, by that message of NAMESPACE_OPEN. False: no memory. */
bool hbm_reconnect_opened(struct hbm *hbm, uint32_t ns, const void *message, size_t bytes);
void hbm_reconnect_closed(struct hbm *hbm, uint32_t ns);
/* For hbm_close(). */
void hbm_reconnect_clear(struct hbm *hbm);
