/* SPDX-License-Identifier: Apache-2.0 */
/* serve_hello: the handlers of HELLO, by which a client begins a session, or goes on with one of
 * an earlier daemon (session_away.h), and of RECONCILE, by which it then says what it has. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_hello, serve_reconcile;
