/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_rig: the regions of two sessions and the publications of a daemon that "is killed", and
 * of the next one, in one process: what was kept comes back, and what the first one had of the
 * device is gone, but for what the test has descriptors of. The devices are a card that all of
 * them share (kernels/soft/card.h).
 */
#pragma once

#include "daemon/ledger/ledger.h"
#include "daemon/ledger/user.h"
#include "daemon/region/publication.h"
#include "daemon/region/region.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/region_restore.h"
#include "tests/support/region_rig.h"

#define RESTORE_BUDGET (32 * MIB) /* of each device */

enum { RESTORE_SESSIONS = 2 }; /* of the numbers 1 and 2 */

struct restore_client {
	struct payer payer;
	struct regions regions;
	bool absent; /* the next daemon does not find it */
};

struct restore_rig {
	struct leaks leaks;
	struct soft_pool pool;
	struct ledger ledger;
	struct user *user;
	struct region_kept kept;
	struct restore_client clients[RESTORE_SESSIONS];
	struct publications *publications;
	struct region_restored restored; /* by the last daemon that was begun */
};

int restore_rig_setup(void **state);
int restore_rig_teardown(void **state); /* nothing is left of anything */
/* The daemon is gone from one moment to the other, and the next one has begun. */
void restore_rig_kill(struct restore_rig *rig);
/* All clients have ended, and all they had is back; nothing of regions is kept any more. */
void restore_rig_end_all(struct restore_rig *rig);

struct region *restore_rig_make(struct restore_rig *rig, unsigned client, uint32_t device,
				uint64_t slots);
struct region *restore_rig_find(struct restore_rig *rig, unsigned client, uint32_t id);
/* Commits slots; where fds is not NULL the descriptors are the test's. */
int restore_rig_commit(struct restore_rig *rig, struct region *region, uint64_t first,
		       uint64_t count, int *fds);
int restore_rig_decommit(struct restore_rig *rig, struct region *region, uint64_t first,
			 uint64_t count);
int restore_rig_share(struct restore_rig *rig, struct region *source, uint64_t from,
		      struct region *target, uint64_t to, bool read_only);
/* The first word of a slot, as the daemon has it mapped. */
void restore_rig_write(struct restore_rig *rig, const struct region *region, uint64_t slot,
		       uint64_t word);
uint64_t restore_rig_read(struct restore_rig *rig, const struct region *region, uint64_t slot);
void restore_rig_run(struct restore_rig *rig);      /* until nothing is being released */
void restore_rig_run_free(struct restore_rig *rig); /* and nothing is held */
