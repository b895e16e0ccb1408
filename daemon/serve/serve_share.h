/* SPDX-License-Identifier: Apache-2.0 */
/* serve_share: the handler of SHARE, for the server's table. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_share;
