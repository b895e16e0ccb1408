/* SPDX-License-Identifier: Apache-2.0 */
/* serve_reserve: see serve_reserve.c. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_reserve, serve_memory;
