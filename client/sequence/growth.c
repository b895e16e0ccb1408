/* SPDX-License-Identifier: Apache-2.0 */
/* growth: see growth.h. */
#include "client/sequence/growth.h"

#include "client/sequence/backing.h"
#include "client/sequence/pool.h"
#include "client/sequence/surplus.h"
#include "client/sequence/warm.h"

static bool growth_is_short(int status)
{
	return status == HBM_NO_SPACE || status == HBM_LIMIT;
}

int hbm_growth_map(struct hbm_pool *pool)
{
	/* Other regions may have smaller slabs. */
	uint64_t wanted = (pool->grow.bytes + pool->slab - 1) / pool->slab;
	int r = hbm_backing_commit(pool);

	while (growth_is_short(r) && hbm_warm_release(pool, wanted) > 0) {
		wanted = UINT64_MAX;
		r = hbm_backing_commit(pool);
	}

	if (growth_is_short(r) && hbm_surplus_release(pool) > 0)
		r = hbm_backing_commit(pool);

	return r;
}
