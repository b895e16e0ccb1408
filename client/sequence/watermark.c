/* SPDX-License-Identifier: Apache-2.0 */
/* watermark: see watermark.h. */
#include "client/sequence/watermark.h"

#include "client/connection.h"
#include "client/error.h"
#include "client/sequence/balance.h"
#include "client/sequence/passage.h"
#include "client/sequence/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define WATERMARK_RETRY_NS 1000000000u /* after a refusal */

struct watermark {
	uint64_t low, high;
	enum hbm_tier tier;
	bool at_work;
	struct hbm_switch *change; /* under way; NULL: none */
	uint64_t refused_ns;       /* when the last one was; 0: never */
};

int hbm_watermark_check(struct hbm *hbm, const struct hbm_pool_options *options)
{
	const enum hbm_tier tier = options->watermark_tier;

	if (options->watermark_high > 0 && options->watermark_high < options->watermark_low)
		return hbm_fail(hbm, HBM_INVALID,
				"watermark_high is %llu bytes, less than watermark_low, %llu",
				(unsigned long long)options->watermark_high,
				(unsigned long long)options->watermark_low);
	if (tier != HBM_TIER_NONE && tier != HBM_TIER_DDR && tier != HBM_TIER_NVME)
		return hbm_fail(hbm, HBM_INVALID,
				"watermark_tier: sequences are suspended to DDR or NVMe, not to "
				"tier %d",
				(int)tier);
	if (tier == HBM_TIER_NVME && options->memory_only)
		return hbm_fail(hbm, HBM_INVALID,
				"watermark_tier is NVMe, and memory_only keeps what is suspended "
				"in memory");

	return 0;
}

int hbm_watermark_open(struct hbm_pool *pool, const struct hbm_pool_options *options)
{
	const uint64_t low = options->watermark_low, high = options->watermark_high;

	if (low == 0 || !pool->hbm->memory)
		return 0;

	pool->watermark = calloc(1, sizeof(*pool->watermark));
	if (!pool->watermark)
		return -ENOMEM;
	*pool->watermark = (struct watermark){
		.low = low,
		.high = high ? high : low,
		.tier = options->watermark_tier ? options->watermark_tier : HBM_TIER_DDR,
	};
	pool->watch = hbm_watermark_go;

	return 0;
}

void hbm_watermark_close(struct hbm_pool *pool)
{
	free(pool->watermark);
	pool->watermark = NULL;
}

static uint64_t watermark_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool watermark_is_refused(const struct watermark *watermark)
{
	return watermark->refused_ns > 0 &&
	       watermark_now() - watermark->refused_ns < WATERMARK_RETRY_NS;
}

/* How much has to become free. */
static uint64_t watermark_shortage(struct hbm_pool *pool)
{
	struct watermark *watermark = pool->watermark;
	uint64_t shortage = 0;
	int r = hbm_balance_free(pool, watermark->at_work ? watermark->high : watermark->low,
				 &shortage);

	if (r || shortage == 0) {
		watermark->at_work = false;
		return 0;
	}
	watermark->at_work = true;

	return hbm_balance_shortage(pool, watermark->high, &shortage) == 0 ? shortage : 0;
}

/* What is under way has ended. */
static void watermark_end(struct hbm_pool *pool)
{
	struct watermark *watermark = pool->watermark;
	const int status = watermark->change->status;

	if (status == 0)
		pool->totals.suspended++;
	else if (status != HBM_CANCELLED)
		watermark->refused_ns = watermark_now();
	hbm_passage_free(watermark->change);
	watermark->change = NULL;
}

bool hbm_watermark_go(struct hbm_pool *pool)
{
	struct watermark *watermark = pool->watermark;
	uint64_t bytes;

	if (watermark->change) {
		hbm_dispatch(pool->hbm, 0);
		hbm_passage_go(watermark->change);
		if (!watermark->change->has_ended)
			return true;
		watermark_end(pool);
	}
	if (watermark_is_refused(watermark) || watermark_shortage(pool) == 0)
		return false;

	if (hbm_balance_begin(pool, watermark->tier, &watermark->change, &bytes) != 0)
		watermark->refused_ns = watermark_now();

	return watermark->change;
}
