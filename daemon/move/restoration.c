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
	struct block_restore_figures figures;
	struct background background;
	bool grown;
};

static struct cache *restoration_cache(const struct restoration *restoration)
{
	return restoration->options.mover->cache;
}

static void restoration_go_on(struct restoration *restoration)
{
	loop_background(restoration->options.mover->loop, &restoration->background);
}

static void restoration_grown(void *arg, uint64_t from, uint64_t bytes)
{
	struct restoration *restoration = arg;

	block_restore_grown(restoration->restore, from, bytes);
	restoration_go_on(restoration);
}

static void restoration_end(struct restoration *restoration)
{
	struct tier *ddr = restoration_cache(restoration)->ddr;

	ddr->grown = NULL;
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

	restoration->figures = block_restore_figures(restoration->restore);
	restoration_settle(restoration);
	if (!more && restoration->figures.left == 0 && restoration->grown)
		restoration_end(restoration);

	return more;
}

void restoration_ddr_grown(struct restoration *restoration)
{
	if (restoration->grown)
		return;

	restoration->grown = true;
	block_restore_grown_all(restoration->restore);
	restoration_go_on(restoration);
}

static int restoration_begin(struct restoration *restoration)
{
	struct cache *cache = restoration_cache(restoration);
	const struct restoration_options *options = &restoration->options;
	int r = block_records_open(&restoration->records, options->state, cache,
				   options->first_unit);
	if (r == 0)
		r = block_restore_new(&restoration->restore, &restoration->records, cache->ddr);
	if (r < 0)
		return r;

	restoration->figures = block_restore_figures(restoration->restore);
	cache->ddr->grown = restoration_grown;
	cache->ddr->grown_arg = restoration;
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
		restoration_cache(restoration)->ddr->grown = NULL;
	block_restore_free(restoration->restore);
	block_records_close(&restoration->records);
	free(restoration);

	return NULL;
}

bool restoration_has_ended(const struct restoration *restoration)
{
	return !restoration->restore;
}

struct block_restore_figures restoration_figures(const struct restoration *restoration)
{
	return restoration->figures;
}

uint64_t restoration_bytes_for(uint64_t max_blocks)
{
	return block_records_bytes_for(max_blocks) + block_restore_bytes_for(max_blocks);
}
