/* SPDX-License-Identifier: Apache-2.0 */
/* serve_sequences: the handlers of BOARD_OPEN, BOARD_CLOSE, ASK. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_board_open, serve_board_close, serve_ask;
