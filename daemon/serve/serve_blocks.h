/* SPDX-License-Identifier: Apache-2.0 */
/* serve_blocks: handlers of STORE, LOAD and PREFETCH. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_store, serve_load, serve_prefetch;
/* A STORE or LOAD with a ready fence is cancelled before it has arrived. */
void serve_blocks_cancelled(struct request *request);
