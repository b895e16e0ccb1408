/* SPDX-License-Identifier: Apache-2.0 */
/* serve_verify: QUERY of HBM_QUERY_VERIFY and HBM_QUERY_LIMITS. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_verify;
