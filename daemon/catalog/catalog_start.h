/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_start: the start of a catalog: what its file has comes back, by jobs of the catalog's
 * thread and by slices of the loop's background, one after another.
 *
 * 	reading		job: the file is opened, checked and read
 * 	recovery	background: catalog_recovery.h
 * 	removal		job, in the middle of the recovery: the records that were refused go before
 * 			their extents are free
 * 	clearing	job, after the recovery: what was read is freed
 *
 * 	 begin() is called     end() is called
 * 	reading --> recovery --> removal --> recovery --> clearing
 * 	   \
 * 	    `-- the file cannot be opened or read, or there is no memory: end() is called
 *
 * The thread, and when a job has taken too long, are the catalog's (catalog.h). While a job runs
 * the loop leaves all of this alone.
 */
#pragma once

#include "daemon/catalog/catalog_changes.h"
#include "daemon/catalog/catalog_recovery.h"
#include "daemon/catalog/catalog_store.h"
#include "daemon/loop/loop.h"

struct catalog_start {
	struct loop *loop;
	struct cache *cache;
	struct catalog_changes *changes;
	struct catalog_ids *ids;
	const char *path;
	const uint8_t *file; /* id of the label of the NVMe file */
	bool checksums;      /* blocks have them */
	/* Whether that namespace may have blocks of its size on NVMe. */
	bool (*fits)(void *arg, const struct namespace_identity *identity);
	void *fits_arg;
	const atomic_bool *stop; /* nothing goes on */
	/* Have run() called on the thread, then done() on the loop: both are set. */
	void (*post)(void *arg);
	/* All is read; blocks begin to come back. */
	void (*begin)(void *arg);
	/* All is back that will be; or, `with` being false, there is no file that can be used. */
	void (*end)(void *arg, bool with);
	void *arg;

	void (*run)(struct catalog_start *start);
	void (*done)(struct catalog_start *start);
	struct catalog_store *store; /* NULL: not opened yet, or it cannot be */
	struct catalog_bounds bounds;
	struct catalog_contents contents;
	struct catalog_recovery recovery;
	struct background background;
	bool was_clean;  /* when it was opened */
	bool recovering; /* a block comes back at this moment: that is no change */
	int result;      /* of the job */
	char text[512];
	uint64_t refused;  /* records */
	uint64_t failures; /* of the removal */
};

/* The members as far as `arg` are set. Posts the first job. */
void catalog_start_begin(struct catalog_start *start);
/* Between begin() and end(), while the loop does not run and no job: recovers the rest at once.
 * Neither is called. */
void catalog_start_finish(struct catalog_start *start);
/* Nothing is called any more. What the thread still runs goes on. */
void catalog_start_stop(struct catalog_start *start);
/* After that, when no job runs: frees all that it has, the store too. */
void catalog_start_close(struct catalog_start *start);
