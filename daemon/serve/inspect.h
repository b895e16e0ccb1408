/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: the handler of QUERY. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_query;
