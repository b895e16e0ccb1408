/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/restoration.h"

#include "daemon/loop/loop.h"
#include "daemon/move/pump.h"

#include <errno.h>
#include <stdlib.h>

#define SLICE 64u /* blocks */

struct restoration {
	struct restoration_options options;
	struct block_records records;
	struct block_restore *restore; /* NULL: it has ended */
	struct block_restore_figures ddr, hbm;
	struct background background;
	bool grown[TIER_NUMBERS];
};

static struct cache *restoration_cache(const struct restoration *restoration)
{
	return restoration->options.mover->cache;
}

static void restoration_go_on(struct restoration *restoration)
{
	loop_background(restoration->options.mover->loop, &restoration->background);
}

static void restoration_grown(void *arg, const struct tier *tier, uint64_t from, uint64_t bytes)
{
	struct restoration *restoration = arg;

	block_restore_grown(restoration->restore, tier, from, bytes);
	restoration_go_on(restoration);
}

/* The tier of that number, if its memory is kept; else NULL. */
static struct tier *restoration_tier(const struct restoration *restoration, uint32_t number)
{
	return restoration->options.memories[number].number != 0
		       ? &restoration_cache(restoration)->tiers[number]
		       : NULL;
}

/* While there is something to restore they say so when they grow. */
static void restoration_listen(struct restoration *restoration, bool listens)
{
	struct tier *tier;

	for (uint32_t i = 1; i <= restoration_cache(restoration)->tier_count; i++) {
		if (!(tier = restoration_tier(restoration, i)))
			continue;
		tier->grown = listens ? restoration_grown : NULL;
		tier->grown_arg = restoration;
	}
}

static bool restoration_all_have_grown(const struct restoration *restoration)
{
	for (uint32_t i = 1; i <= restoration_cache(restoration)->tier_count; i++)
		if (restoration_tier(restoration, i) && !restoration->grown[i])
			return false;
	return true;
}

static void restoration_count(struct restoration *restoration)
{
	restoration->ddr = block_restore_figures(restoration->restore, HBM_TIER_DDR);
	restoration->hbm = block_restore_figures(restoration->restore, HBM_TIER_HBM);
}

static void restoration_end(struct restoration *restoration)
{
	restoration_listen(restoration, false);
	restoration->restore = block_restore_free(restoration->restore);
	restoration->options.ended(restoration->options.arg);
}

/* More than is usable goes down. */
static void restoration_settle(struct restoration *restoration)
{
	struct cache *cache = restoration_cache(restoration);

	cache_settle_soon(cache);
	pump_run(restoration->options.mover);
}

static bool restoration_some(struct background *background)
{
	struct restoration *restoration = container_of(background, struct restoration, background);
	bool more = block_restore_some(restoration->restore, SLICE);

	restoration_count(restoration);
	restoration_settle(restoration);
	if (!more && restoration->ddr.left == 0 && restoration_all_have_grown(restoration))
		restoration_end(restoration);

	return more;
}

void restoration_tier_grown(struct restoration *restoration, const struct tier *tier)
{
	if (!restoration->restore || restoration->grown[tier->number])
		return;

	restoration->grown[tier->number] = true;
	block_restore_grown_all(restoration->restore, tier);
	restoration_go_on(restoration);
}

void restoration_in_service(struct restoration *restoration)
{
	if (!restoration->restore)
		return;

	block_restore_in_service(restoration->restore);
	restoration_go_on(restoration);
}

void restoration_tier_cut(struct restoration *restoration, const struct tier *tier, uint64_t bytes)
{
	struct block_memory *memory = &restoration->options.memories[tier->number];
	uint64_t units = bytes / EXTENT_UNIT;
	if (!restoration->restore || units >= memory->units)
		return;

	memory->units = units;
	block_restore_cut(restoration->restore, tier, bytes);
	restoration_go_on(restoration);
}

static int restoration_begin(struct restoration *restoration)
{
	struct cache *cache = restoration_cache(restoration);
	const struct restoration_options *options = &restoration->options;
	int r = block_records_open(&restoration->records, options->state, cache, options->memories);
	if (r == 0)
		r = block_restore_new(&restoration->restore, &restoration->records);
	if (r < 0)
		return r;

	restoration_count(restoration);
	restoration_listen(restoration, true);
	restoration_go_on(restoration);

	return 0;
}

int restoration_new(struct restoration **out, const struct restoration_options *options)
{
	struct restoration *restoration = calloc(1, sizeof(*restoration));
	if (!restoration)
		return -ENOMEM;

	restoration->options = *options;
	restoration->background.run = restoration_some;
	int r = restoration_begin(restoration);
	if (r < 0) {
		restoration_free(restoration);
		return r;
	}

	*out = restoration;

	return 0;
}

struct restoration *restoration_free(struct restoration *restoration)
{
	if (!restoration)
		return NULL;

	loop_background_stop(&restoration->background);
	if (restoration->restore)
		restoration_listen(restoration, false);
	block_restore_free(restoration->restore);
	block_records_close(&restoration->records);
	free(restoration);

	return NULL;
}

bool restoration_has_ended(const struct restoration *restoration)
{
	return !restoration->restore;
}

struct block_restore_figures restoration_figures(const struct restoration *restoration,
						 enum hbm_tier kind)
{
	return kind == HBM_TIER_HBM ? restoration->hbm : restoration->ddr;
}

uint64_t restoration_bytes_for(uint64_t max_blocks)
{
	return block_records_bytes_for(max_blocks) + block_restore_bytes_for(max_blocks);
}
