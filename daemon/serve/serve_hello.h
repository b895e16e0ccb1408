/* SPDX-License-Identifier: Apache-2.0 */
/* serve_hello: the handler of HELLO: a client begins a session, or goes on with one of an earlier
 * daemon (session_away.h). */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_hello;
