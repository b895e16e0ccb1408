/* SPDX-License-Identifier: Apache-2.0 */
/* serve_lent: the query that reads again what is lent. */
#pragma once

#include "daemon/serve/server.h"

/* QUERY of what is lent, by an operator. */
void serve_lent(struct hbmd *hbmd, struct request *request);
