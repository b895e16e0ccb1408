/* SPDX-License-Identifier: Apache-2.0 */
/* growth: see growth.h. */
#include "client/sequence/growth.h"

#include "client/sequence/backing.h"
#include "client/sequence/credit.h"
#include "client/sequence/pool.h"
#include "client/sequence/surplus.h"
#include "client/sequence/warm.h"

#include <poll.h>

/* How long it waits for memory that was given back, and is not free yet; so does a commit. */
#define GROWTH_RETURN_MS 100

static bool growth_is_short(int status)
{
	return status == HBM_NO_SPACE || status == HBM_LIMIT;
}

static int growth_try(struct hbm_pool *pool)
{
	int r = hbm_credit_cover(pool);

	return r ? r : hbm_backing_commit(pool);
}

/* Whether some is on its way, and waits for it. */
static bool growth_await(struct hbm_pool *pool)
{
	struct hbm_device_memory memory = {0};
	int waited = 0;

	for (; waited < GROWTH_RETURN_MS; waited++) {
		if (hbm_device_memory(pool->hbm, pool->region->device, &memory) != 0 ||
		    memory.returning == 0)
			break;
		poll(NULL, 0, 1);
	}

	return waited > 0;
}

int hbm_growth_map(struct hbm_pool *pool)
{
	/* Other regions may have smaller slabs. */
	uint64_t wanted = (pool->grow.bytes + pool->slab - 1) / pool->slab;
	int r = growth_try(pool);

	while (growth_is_short(r) && hbm_warm_release(pool, wanted) > 0) {
		wanted = UINT64_MAX;
		r = growth_try(pool);
	}

	if (growth_is_short(r) && hbm_surplus_release(pool) > 0)
		r = growth_try(pool);
	if (r == HBM_NO_SPACE && growth_await(pool))
		r = growth_try(pool);

	return r;
}
