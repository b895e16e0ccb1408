/* SPDX-License-Identifier: Apache-2.0 */
/* credit: see credit.h. */
#include "client/sequence/credit.h"

#include "client/sequence/pool.h"
#include "client/sequence/warm.h"

#include <errno.h>
#include <poll.h>

/* A reply may be handled by another thread's call: then the descriptor says nothing. */
#define CREDIT_LOOK_MS 20

uint64_t hbm_credit_bytes(const struct hbm_pool *pool, const struct hbm_sequence_options *options)
{
	struct hbm_layout_use use;

	if (!options->expected || hbm_layout_use(pool->layout, options->expected, &use) != 0)
		return 0;

	return use.mapped_bytes;
}

/* The lock is open while there is nothing to do. */
static int credit_wait(struct hbm_pool *pool, hbm_ticket ticket)
{
	int r;

	if (!pool->own_connection)
		return hbm_wait(pool->hbm, ticket, -1);

	while ((r = hbm_wait(pool->hbm, ticket, 0)) == -ETIMEDOUT) {
		struct pollfd fd = {.fd = hbm_fd(pool->hbm), .events = POLLIN};

		hbm_pool_unlock(pool);
		poll(&fd, 1, CREDIT_LOOK_MS);
		hbm_pool_lock(pool);
	}

	return r;
}

static int credit_change(struct hbm_pool *pool, int64_t bytes, uint32_t timeout_ms)
{
	const struct hbm_reserve_change change = {.device = hbm_region_device(pool->region),
						  .bytes = bytes};
	hbm_ticket ticket;
	int r = hbm_submit_reserve(pool->hbm, &change, 1, timeout_ms, &ticket);

	return r ? r : credit_wait(pool, ticket);
}

int hbm_credit_take(struct hbm_pool *pool, uint64_t bytes, uint32_t timeout_ms)
{
	if (bytes == 0)
		return 0;

	int r = credit_change(pool, (int64_t)bytes, 0);
	if (r == HBM_NO_SPACE && hbm_warm_release(pool, bytes / pool->slab) > 0)
		r = credit_change(pool, (int64_t)bytes, 0);
	if (r == HBM_NO_SPACE && timeout_ms > 0)
		r = credit_change(pool, (int64_t)bytes, timeout_ms);

	return r ? hbm_pool_fail_call(pool, r, "memory for the expected tokens") : 0;
}

int hbm_credit_return(struct hbm_pool *pool, uint64_t bytes)
{
	int r = bytes ? credit_change(pool, -(int64_t)bytes, 0) : 0;

	return r ? hbm_pool_fail_call(pool, r, "memory for tokens that did not come") : 0;
}
