/* SPDX-License-Identifier: Apache-2.0 */
/* serve_drop: the handler of NAMESPACE_DROP. */
#pragma once

#include "daemon/serve/server.h"

request_handler serve_namespace_drop;
