/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmd: the daemon's parts and what it is doing, as every request handler sees them.
 * main.c makes it and owns none of the parts: the module that opens a part sets the pointer
 * and clears it again. It includes none of our headers, so that a module that only passes
 * it on depends on no part.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ledger;
struct lent_verification;
struct link_stats;
struct cache;
struct catalog;
struct config;
struct devices;
struct drain;
struct ddr;
struct loop;
struct memory_pressure;
struct mover;
struct namespace_room;
struct nvme_file;
struct nvme_name;
struct nvme_watch;
struct pressure;
struct parking;
struct region_kept;
struct reservations;
struct resizes;
struct restoration;
struct restored_marks;
struct publications;
struct removals;
struct server;
struct state;
struct verification;

/*
 *  WARMING ── every tier is usable   ──> RUNNING
 *     │                                       │
 *     └────────── SIGTERM, SIGINT ────────────┴──> STOPPING
 */
enum hbmd_state { HBMD_WARMING, HBMD_RUNNING, HBMD_STOPPING };

struct hbmd {
	const struct config *config;
	struct loop *loop;
	struct ledger *ledger;
	struct state *kept;              /* what outlives the process, or NULL; and */
	struct parking *parking;         /* the descriptors that do */
	struct region_kept *region_kept; /* where regions have it */
	struct devices *devices;
	struct cache *cache;
	struct link_stats *link_stats;
	struct mover *mover;
	struct restoration *restoration;       /* NULL without what outlives the process */
	struct restored_marks *restored_marks; /* the same */
	struct ddr *ddr;
	struct nvme_file *nvme;              /* NULL without an NVMe tier */
	const struct nvme_watch *nvme_watch; /* the same */
	struct nvme_name *nvme_name;         /* the same */
	struct catalog *catalog;             /* NULL: of an NVMe tier there is none */
	bool label_is_late;                  /* no client waits for it any more (serve_wiped.c) */
	bool nvme_missing;                   /* it is configured and could not be opened */
	struct reservations *reservations;
	struct resizes *resizes;
	struct memory_pressure *memory_pressure; /* NULL: not watched */
	struct pressure *pressure;
	struct server *server;
	struct verification *verification; /* that is going on, or NULL (serve_verify.c) */
	struct lent_verification *lent_verification; /* the same (serve_lent.c) */
	struct namespace_room *namespace_room;
	struct publications *publications;
	uint8_t boot_id[16];
	uint64_t started_ns;
	uint64_t footprint; /* bytes that it may take beside the tiers, at most */
	enum hbmd_state state;
	struct removals *removals; /* that wait, or NULL (removals.h) */
	struct drain *drain;       /* what an operator has asked for, or may (drain.h) */
	bool draining;             /* nothing new is granted */
};

/* "warming", "running", "stopping": as clients and operators read it. Static. */
const char *hbmd_state_name(enum hbmd_state state);
