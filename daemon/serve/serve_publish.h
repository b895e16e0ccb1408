/* SPDX-License-Identifier: Apache-2.0 */
/* serve_publish: the handlers of PUBLISH, ATTACH and UNPUBLISH, for the server's table. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_publish;
request_handler serve_attach;
request_handler serve_unpublish;
