/* SPDX-License-Identifier: Apache-2.0 */
/* serve_guest: the handler of REGION_IMPORT, for the server's table. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_region_import;
