/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/region_limits.h"

#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/lend.h"
#include "daemon/region/slab.h"

void region_limits_set(const struct hbmd *hbmd)
{
	uint64_t regions = 0, lend = 0;

	for (uint32_t i = 0; i < hbmd->devices->count; i++) {
		regions += slabs_books(hbmd->devices->list[i].slabs).budget;
		lend += hbmd->devices->list[i].lend->budget;
	}

	ledger_set_limit(&hbmd->ledger->host, LEDGER_LENT, lend);
	ledger_set_whole(hbmd->ledger, LEDGER_RESERVED, regions);
	if (hbmd->devices->host)
		regions += slabs_books(hbmd->devices->host->slabs).budget;
	ledger_set_limit(&hbmd->ledger->host, LEDGER_HELD, regions);
	ledger_set_limit(&hbmd->ledger->host, LEDGER_PUBLISHED, regions);
}
