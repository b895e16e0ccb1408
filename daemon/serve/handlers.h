/* SPDX-License-Identifier: Apache-2.0 */
/* handlers: which handler answers which opcode. The server is given the table and knows no
 * handler itself. */
#pragma once

#include "daemon/serve/server.h"

extern const struct server_handlers handlers;
