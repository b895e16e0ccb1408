/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/wiper.h"

#include "daemon/base/log.h"
#include "daemon/device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One extent that is being overwritten. */
struct wiping {
	struct wiper *wiper;
	struct tier *tier; /* NULL: it is vacant */
	struct wipe wipe;
	uint64_t done; /* bytes of it */
	bool held;     /* a silent tier does not answer */
	union {
		struct step step;
		struct hash_job job;
	};
};

struct wiper {
	struct wiper_options options;
	struct extent_request zeros; /* of staging */
	uint32_t zeros_unit;
	uint64_t piece;
	bool asked, granted; /* for zeros */
	bool stopping, logged;
	uint64_t writing; /* of all, from zeros */
	struct wiping list[TIER_NUMBERS][WIPER_IN_FLIGHT];
};

static struct tier *wiper_staging(const struct wiper *wiper)
{
	return wiper->options.context->staging;
}

/* ---- the end of one ---- */

static void wiper_count_held(struct wiping *wiping, bool held)
{
	struct transfer_context *context = wiping->wiper->options.context;
	if (wiping->held == held)
		return;

	wiping->held = held;
	context->held += held ? 1 : UINT64_MAX;
	wiping->tier->held += held ? wiping->wipe.bytes : -wiping->wipe.bytes;
}

static void wiper_log_failure(struct wiper *wiper, const struct tier *tier)
{
	if (!wiper->logged)
		log_error("%s: cannot overwrite what blocks with wipe_on_free have left; it stays "
			  "out of service, and is overwritten at the next start",
			  tier_name(tier->kind));
	wiper->logged = true;
}

static void wiper_fail(struct wiper *wiper, struct tier *tier, const struct wipe *wipe)
{
	wiper_log_failure(wiper, tier);
	wiper->options.cache->counters.io_errors++;
	wiper->options.failed(wiper->options.arg, (struct place){tier, wipe->unit}, wipe->bytes,
			      HBM_IO);
}

/* A device that was lost has taken its memory along. */
static void wiper_settle(struct wiping *wiping, int status)
{
	struct wiper *wiper = wiping->wiper;
	struct tier *tier = wiping->tier;
	struct wipe wipe = wiping->wipe;

	wiper_count_held(wiping, false);
	wiping->tier = NULL;
	wiper->options.context->active--;
	wipes_end(&tier->wipes, &wipe);

	if (status == HBM_DEVICE)
		wiper->options.failed(wiper->options.arg, (struct place){tier, wipe.unit},
				      wipe.bytes, status);
	if (status == HBM_OK || tier->lost)
		tier_free(tier, wipe.unit, wipe.bytes);
	else if (status == HBM_CANCELLED)
		tier_wipe(tier, wipe.unit, wipe.bytes, wipe.payer);
	else
		wiper_fail(wiper, tier, &wipe);
}

/* ---- host memory ---- */

static void wiper_cleared(struct hash_job *job)
{
	wiper_settle(container_of(job, struct wiping, job), HBM_OK);
}

static void wiper_clear(struct wiping *wiping)
{
	struct hash_pool *pool = wiping->wiper->options.context->hash_pool;

	wiping->job = (struct hash_job){.payer = wiping->wipe.payer,
					.host = tier_host(wiping->tier, wiping->wipe.unit),
					.bytes = wiping->wipe.bytes,
					.work = HASH_WIPE,
					.without_checksum = true,
					.done = wiper_cleared};
	if (pool) {
		hash_pool_post(pool, &wiping->job, false);
	} else {
		memset(wiping->job.host, 0, wiping->job.bytes);
		wiper_settle(wiping, HBM_OK);
	}
}

/* ---- what is written to ---- */

static void wiper_write(struct wiping *wiping);

/* A late copy goes on writing zeros, which may end up anywhere if its memory becomes another's. */
static void wiper_keep(struct wiping *wiping, struct device *device)
{
	struct wiper *wiper = wiping->wiper;

	tier_keep(wiper_staging(wiper), wiper->zeros_unit, device);
	if (!tier_has_io(wiping->tier))
		tier_keep(wiping->tier, wiping->wipe.unit, device);
}

static void wiper_written(struct step *step)
{
	struct wiping *wiping = container_of(step, struct wiping, step);
	int status = step->status;

	wiping->wiper->writing--;
	if (step->late)
		wiper_keep(wiping, step->late);
	if (status == HBM_OK)
		wiping->done += step->bytes;

	if (status == HBM_OK && wiping->done < wiping->wipe.bytes)
		wiper_write(wiping);
	else
		wiper_settle(wiping, status);
}

static void wiper_write(struct wiping *wiping)
{
	struct wiper *wiper = wiping->wiper;
	const struct tier *tier = wiping->tier;
	uint64_t left = wiping->wipe.bytes - wiping->done;

	wiping->step = (struct step){.host = tier_host(wiper_staging(wiper), wiper->zeros_unit),
				     .bytes = left < wiper->piece ? left : wiper->piece,
				     .payer = wiping->wipe.payer,
				     .done = wiper_written};
	wiper->writing++;
	tier->ops->write(tier, wiping->wipe.unit + (uint32_t)(wiping->done / EXTENT_UNIT),
			 &wiping->step);
}

static void wiper_zeros_granted(struct extent_request *zeros, uint32_t unit)
{
	struct wiper *wiper = container_of(zeros, struct wiper, zeros);

	wiper->zeros_unit = unit;
	wiper->granted = true;
	memset(tier_host(wiper_staging(wiper), unit), 0, wiper->piece);
	wiper->options.ready(wiper->options.arg);
}

/* Whether there are zeros to write; else there will be. */
static bool wiper_has_zeros(struct wiper *wiper)
{
	struct tier *staging = wiper_staging(wiper);
	if (wiper->granted || wiper->asked)
		return wiper->granted;

	uint64_t most = tier_largest_part(staging) / EXTENT_UNIT * EXTENT_UNIT;

	wiper->piece = most < WIPER_PIECE ? most : WIPER_PIECE;
	wiper->zeros =
		(struct extent_request){.bytes = wiper->piece, .granted = wiper_zeros_granted};
	wiper->asked = true;
	tier_request(staging, &wiper->zeros, (struct fair_payer){0});

	return wiper->granted;
}

/* ---- what is begun ---- */

static bool wiper_is_written_to(const struct tier *tier)
{
	return !tier->ops->host;
}

/* Whether it is to be overwritten now. */
static bool wiper_may_begin(const struct wiper *wiper, const struct tier *tier)
{
	if (tier->wipes.count == 0 || tier->silent)
		return false;

	return !wiper->stopping || !tier_has_io(tier) || tier->wipes.bytes <= WIPER_STOP_BYTES;
}

static struct wiping *wiper_vacant(struct wiper *wiper, const struct tier *tier)
{
	for (unsigned i = 0; i < WIPER_IN_FLIGHT; i++)
		if (!wiper->list[tier->number][i].tier)
			return &wiper->list[tier->number][i];
	return NULL;
}

static void wiper_begin(struct wiper *wiper, struct wiping *wiping, struct tier *tier)
{
	*wiping = (struct wiping){.wiper = wiper, .tier = tier};
	wipes_take(&tier->wipes, &wiping->wipe);
	wiper->options.context->active++;

	if (wiper_is_written_to(tier))
		wiper_write(wiping);
	else
		wiper_clear(wiping);
}

static void wiper_run_tier(struct wiper *wiper, struct tier *tier)
{
	struct wiping *wiping;
	if (!tier->ops || !wiper_may_begin(wiper, tier) ||
	    (!tier->lost && wiper_is_written_to(tier) && !wiper_has_zeros(wiper)))
		return;

	while (wiper_may_begin(wiper, tier) && (wiping = wiper_vacant(wiper, tier))) {
		struct wipe wipe;

		if (!tier->lost) {
			wiper_begin(wiper, wiping, tier);
			continue;
		}
		wipes_take(&tier->wipes, &wipe);
		wipes_end(&tier->wipes, &wipe);
		tier_free(tier, wipe.unit, wipe.bytes);
	}
}

/* The zeros are staging for others again. */
static void wiper_give_zeros(struct wiper *wiper)
{
	const struct cache *cache = wiper->options.cache;
	bool waits = false;

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		waits |= cache->tiers[i].ops && wiper_is_written_to(&cache->tiers[i]) &&
			 wiper_may_begin(wiper, &cache->tiers[i]);
	if (!wiper->granted || wiper->writing > 0 || waits)
		return;

	wiper->granted = wiper->asked = false;
	tier_free(wiper_staging(wiper), wiper->zeros_unit, wiper->piece);
}

static bool wiper_is_memory(const struct tier *tier)
{
	return tier->number == 0 || tier_is_memory(tier);
}

/* What a lost device had may be there for the next daemon. */
static bool wiper_memory_is_clean(const struct cache *cache)
{
	for (uint32_t i = 0; i <= cache->tier_count; i++) {
		const struct tier *tier = &cache->tiers[i];

		if (wiper_is_memory(tier) && (tier->lost || tier_has_wiped(tier)))
			return false;
	}

	return true;
}

static void wiper_end(const struct cache *cache)
{
	if (!namespaces_leave_wiped(cache->namespaces) || !wiper_memory_is_clean(cache))
		return;

	namespaces_end_wiped(cache->namespaces);
	log_debug("memory has nothing of namespaces with wipe_on_free any more");
}

void wiper_run(struct wiper *wiper)
{
	struct cache *cache = wiper->options.cache;

	for (uint32_t i = 0; i <= cache->tier_count; i++)
		wiper_run_tier(wiper, &cache->tiers[i]);
	wiper_give_zeros(wiper);
	wiper_end(cache);
}

bool wiper_waits(const struct wiper *wiper)
{
	const struct cache *cache = wiper->options.cache;

	for (uint32_t i = 0; i <= cache->tier_count; i++)
		if (wiper_may_begin(wiper, &cache->tiers[i]))
			return true;

	return false;
}

void wiper_hold(struct wiper *wiper, struct tier *tier, bool hold)
{
	for (unsigned i = 0; i < WIPER_IN_FLIGHT; i++)
		if (wiper->list[tier->number][i].tier)
			wiper_count_held(&wiper->list[tier->number][i], hold);
}

void wiper_stop(struct wiper *wiper)
{
	wiper->stopping = true;
}

int wiper_new(struct wiper **out, const struct wiper_options *options)
{
	struct wiper *wiper = calloc(1, sizeof(*wiper));
	if (!wiper)
		return -ENOMEM;

	wiper->options = *options;
	*out = wiper;

	return 0;
}

struct wiper *wiper_free(struct wiper *wiper)
{
	free(wiper);
	return NULL;
}
