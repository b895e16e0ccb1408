/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_wiped: NAMESPACE_OPEN of namespaces with wipe_on_free. The first of a daemon waits until
 * the label of the NVMe file says that their blocks may come (nvme_file.h); where it cannot be
 * written, or not within nvme.timeout_ms, their blocks stay in memory until it is.
 */
#pragma once

#include "daemon/serve/server.h"

/* The handler: serve_namespace_open(), then. */
request_handler serve_wiped_open;
