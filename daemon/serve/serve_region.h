/* SPDX-License-Identifier: Apache-2.0 */
/* serve_region: handlers of PING, CANCEL and of regions, for the server's table. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_ping, serve_cancel, serve_session_end, serve_region_create,
	serve_region_destroy, serve_commit, serve_decommit;
