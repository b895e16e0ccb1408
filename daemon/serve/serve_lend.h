/* SPDX-License-Identifier: Apache-2.0 */
/* serve_lend: the handlers of BORROW and RETURN. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_borrow, serve_return;
