/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_restore: makes the regions of an earlier daemon from their records (region_kept.h),
 * before the loop runs: their slots have the same slabs, mapped in the daemon again, and are
 * charged as before, whatever the limits are now. The clients have had them mapped all along.
 *
 * What is not made again, and its records are dropped:
 *
 * 	regions of sessions that are no more; memory that they alone had is released
 * 	guest regions whose memory their clients have freed meanwhile
 * 	replicas and loans (lend.h): a slot with a borrowed slab keeps it, read-only, as one of
 * 	the session's own; other slabs that were lent are released, and what clients still
 * 	have of them is held (held.h)
 * 	regions that the device does not map again
 *
 * The numbers of regions, loans and lent slabs go on where they were, so that a client that
 * knows one of the earlier daemon does not mean another by it.
 */
#pragma once

#include <stdint.h>

struct devices;
struct publications;
struct region_kept;
struct regions;

struct region_restore {
	const struct region_kept *kept;
	struct devices *devices; /* with their pools */
	struct publications *publications;
	/* The regions of a session of the earlier daemon that is there again, and has none as yet;
	 * NULL: it is not. */
	struct regions *(*find)(void *arg, uint64_t session);
	void *arg;
};

/* What came of it, for the log. */
struct region_restored {
	uint64_t regions, slots, publications;
	uint64_t lost; /* regions that should be there and are not */
};

struct region_restored regions_restore(const struct region_restore *restore);
/* The session's numbers go on: for each that is there again, with regions or without. */
void regions_go_on(struct regions *regions, const struct region_kept *kept);
