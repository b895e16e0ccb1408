/* SPDX-License-Identifier: Apache-2.0 */
/* serve_drop: the handler of NAMESPACE_DROP. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_namespace_drop;

/* Drops all blocks of a namespace that has no pins, on the daemon's own account; calls ended
 * when none is left that could be found. False: out of memory. */
typedef void serve_dropped(struct hbmd *hbmd, uint16_t number);
bool serve_drop_begin(struct hbmd *hbmd, uint16_t number, serve_dropped *ended);
