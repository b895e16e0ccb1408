/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_start.h"

#include "daemon/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLICE 256u /* steps of a recovery in one go */

static void catalog_start_post(struct catalog_start *start,
			       void (*run)(struct catalog_start *start),
			       void (*done)(struct catalog_start *start))
{
	start->run = run;
	start->done = done;
	start->post(start->arg);
}

/* ---- removal and clearing ---- */

static void catalog_start_remove(struct catalog_start *start)
{
	const struct catalog_recovery *recovery = &start->recovery;
	int64_t *units = catalog_recovery_units(recovery);

	start->result = units ? catalog_store_remove(start->store, units, recovery->refused_count)
			      : -ENOMEM;
	free(units);
}

/* Records that could not be removed name extents whose bytes will be others: that is found
 * when they are read. */
static void catalog_start_removed(struct catalog_start *start)
{
	start->failures += start->result < 0;
	if (!atomic_load(start->stop))
		loop_background(start->loop, &start->background);
}

/* It is large: to free it takes as long as many turns. */
static void catalog_start_clear(struct catalog_start *start)
{
	catalog_contents_clear(&start->contents);
}

static void catalog_start_cleared(struct catalog_start *start)
{
	(void)start;
}

/* ---- recovery ---- */

static void catalog_start_recovered(void *arg, uint32_t number, const struct catalog_block *record)
{
	struct catalog_start *start = arg;

	catalog_changes_record(start->changes, number, record->stamp, record->unit);
}

static void catalog_start_end(struct catalog_start *start)
{
	start->refused += start->recovery.refused_count;
	if (start->recovery.restored > 0 || start->refused > 0)
		log_info("nvme: %llu blocks found again, %llu records of %s dropped",
			 (unsigned long long)start->recovery.restored,
			 (unsigned long long)start->refused, start->path);

	catalog_recovery_end(&start->recovery);
	catalog_start_post(start, catalog_start_clear, catalog_start_cleared);
	start->end(start->arg, true);
}

static bool catalog_start_recover_some(struct background *background)
{
	struct catalog_start *start = container_of(background, struct catalog_start, background);
	struct catalog_recovery *recovery = &start->recovery;

	start->recovering = true;
	bool more = catalog_recovery_some(recovery, SLICE);
	start->recovering = false;

	if (more)
		return true;

	if (recovery->phase == CATALOG_LETTING_GO)
		catalog_start_post(start, catalog_start_remove, catalog_start_removed);
	else if (recovery->phase == CATALOG_RECOVERED)
		catalog_start_end(start);

	return recovery->phase != CATALOG_LETTING_GO && recovery->phase != CATALOG_RECOVERED;
}

/* ---- reading ---- */

static void catalog_start_read(struct catalog_start *start)
{
	struct catalog_bounds *bounds = &start->bounds;
	struct catalog_store_options store = {
		.path = start->path,
		.blocks = bounds->blocks,
		.namespaces = ledger_limit(&start->cache->ledger->host, LEDGER_NAMESPACES)};
	struct reason reason = {start->text, sizeof(start->text)};

	memcpy(store.file, start->file, sizeof(store.file));
	int r = catalog_store_open(&start->store, &store, &reason);
	if (r < 0) {
		start->result = r;
		return;
	}

	start->was_clean = catalog_store_was_clean(start->store);
	bounds->trust_unchecked = start->was_clean;
	bounds->trust_any = start->was_clean || start->checksums;
	r = catalog_store_read(start->store, bounds, &start->contents, start->stop);
	if (r == 0)
		r = catalog_store_mark(start->store, false);
	if (r < 0)
		(void)reason_set(&reason, r, "%s: cannot read the catalog: %s", start->path,
				 strerror(-r));
	start->result = r;
}

static void catalog_start_go_without(struct catalog_start *start, const char *why)
{
	log_warning("nvme: %s; starting without a catalog: nothing in the NVMe tier survives a "
		    "restart",
		    why);
	catalog_contents_clear(&start->contents);
	start->end(start->arg, false);
}

static void catalog_start_recover(struct catalog_start *start)
{
	start->refused = start->contents.refused_count;
	if (start->was_clean && start->refused == 0)
		start->cache->nvme->dirty = false;
	start->recovery = (struct catalog_recovery){.cache = start->cache,
						    .ids = start->ids,
						    .contents = &start->contents,
						    .fits = start->fits,
						    .fits_arg = start->fits_arg,
						    .recovered = catalog_start_recovered,
						    .arg = start};
	if (catalog_recovery_begin(&start->recovery) < 0) {
		catalog_start_go_without(start, "out of memory");
		return;
	}

	start->begin(start->arg);
	loop_background(start->loop, &start->background);
}

static void catalog_start_was_read(struct catalog_start *start)
{
	if (atomic_load(start->stop))
		return;
	if (start->result < 0) {
		catalog_start_go_without(start, start->text);
		return;
	}

	const char *why = catalog_store_found_why(start->store);
	if (why)
		log_warning("nvme: the catalog %s %s: the NVMe tier begins empty, and so does the "
			    "catalog",
			    start->path, why);

	catalog_start_recover(start);
}

/* ---- */

void catalog_start_begin(struct catalog_start *start)
{
	start->bounds = (struct catalog_bounds){
		.units = extent_capacity(start->cache->nvme->extents) / EXTENT_UNIT,
		.blocks = index_max(start->cache->index)};
	start->background.run = catalog_start_recover_some;
	catalog_start_post(start, catalog_start_read, catalog_start_was_read);
}

void catalog_start_finish(struct catalog_start *start)
{
	struct catalog_recovery *recovery = &start->recovery;

	start->recovering = true;
	while (recovery->phase != CATALOG_RECOVERED) {
		if (recovery->phase == CATALOG_LETTING_GO)
			catalog_start_remove(start);
		(void)catalog_recovery_some(recovery, UINT32_MAX);
	}

	start->recovering = false;
	catalog_recovery_end(recovery);
}

void catalog_start_stop(struct catalog_start *start)
{
	loop_background_stop(&start->background);
}

void catalog_start_close(struct catalog_start *start)
{
	catalog_recovery_end(&start->recovery);
	catalog_contents_clear(&start->contents);
	start->store = catalog_store_close(start->store);
}
