/* SPDX-License-Identifier: Apache-2.0 */
/* serve_tenant: what tenants may have and do have, and the handler of TENANT_SET. */
#pragma once

#include "daemon/serve/hbmd.h"
#include "daemon/serve/page.h"
#include "daemon/session/request.h"

void serve_tenant_set(struct hbmd *hbmd, struct request *request);
/* HBM_QUERY_TENANTS: the records of each tenant and then of each user that none has, in the order
 * of the keys. */
void inspect_tenants(struct page *page);
