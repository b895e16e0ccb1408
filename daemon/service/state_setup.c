/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state_setup: see state_setup.h. The state is kept under one of two names: one that had to be
 * made anew, because a limit has changed, is kept under the other before the old one is
 * dropped, so that a daemon that is killed between finds two, and either is right.
 */
#include "daemon/service/state_setup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/cache/block_record.h"
#include "daemon/cache/marks.h"
#include "daemon/cache/namespace_record.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/region_kept.h"
#include "daemon/serve/hbmd.h"
#include "daemon/service/restoration_setup.h"
#include "daemon/session/session_kept.h"
#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"
#include "daemon/tier/hbm_kept.h"

#define STATE_NAME "state-"
#define LINE 256

static int state_setup_take(void *arg, const char *name, int fd, char *error, size_t error_size)
{
	(void)arg;
	int r = keep_came_back(name, fd);
	if (r < 0)
		snprintf(error, error_size,
			 "the service manager passed a descriptor named '%s', which this hbmd does "
			 "not know",
			 name);
	return r;
}

const struct inherited_taker state_setup_taker = {"kept-", state_setup_take, NULL};

/* The records of each table, and how many there may be. */
static void state_setup_shapes(const struct ledger *ledger, const struct config *config,
			       struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1}; /* of no use to any room */

	/* dead ones, too, while their processes live */
	uint64_t sessions = 2 * ledger_limit(&ledger->host, LEDGER_SESSIONS);
	shapes[STATE_SESSIONS] =
		(struct state_shape){sizeof(struct session_kept), (uint32_t)sessions};
	region_kept_shapes(ledger, shapes);
	shapes[STATE_NAMESPACES] =
		(struct state_shape){sizeof(struct namespace_record),
				     (uint32_t)ledger_limit(&ledger->host, LEDGER_NAMESPACES)};
	shapes[STATE_BLOCKS] = (struct state_shape){
		sizeof(struct block_record), (uint32_t)restoration_setup_blocks(ledger, config)};
	shapes[STATE_TIER_PIECES] =
		(struct state_shape){sizeof(struct hbm_kept_record), HBM_KEPT_PIECES};
	marks_shapes(ledger, shapes);
}

uint64_t state_setup_bytes(const struct ledger *ledger, const struct config *config)
{
	struct state_shape shapes[STATE_TABLES];

	state_setup_shapes(ledger, config, shapes);

	return state_bytes(shapes);
}

static int state_setup_new(struct hbmd *hbmd, const struct state_shape shapes[STATE_TABLES])
{
	if (!keep_is_there())
		return 0;

	int r = state_new(&hbmd->kept, shapes);

	return r < 0 ? r : keep_put(STATE_NAME "a", state_fd(hbmd->kept));
}

/* The state is in another descriptor than the one that was kept under that name. */
static int state_setup_exchange(struct hbmd *hbmd, const char *name)
{
	const char *other = strcmp(name, STATE_NAME "a") == 0 ? STATE_NAME "b" : STATE_NAME "a";

	keep_drop(other);
	int r = keep_put(other, state_fd(hbmd->kept));
	if (r == 0)
		keep_drop(name);

	return r;
}

static void state_setup_say(const struct state *state)
{
	uint64_t records = 0;
	for (enum state_table table = 0; table < STATE_TABLES; table++)
		records += state_count(state, table);

	char fields[64];
	snprintf(fields, sizeof(fields), "HBMD_RECORDS=%llu", (unsigned long long)records);
	log_event(LOG_EVENT_TAKEN_OVER, LOG_NOTICE, fields,
		  "took over the state of the daemon before: %llu records",
		  (unsigned long long)records);
	if (state_rotten(state) > 0)
		log_warning("%llu records of the state had a wrong checksum and were dropped",
			    (unsigned long long)state_rotten(state));
}

/* Which memory a descriptor stands for; 0: that cannot be told. */
static uint64_t state_setup_inode(int fd)
{
	struct stat stat;
	return fstat(fd, &stat) == 0 ? stat.st_ino : 0;
}

/* 1: it was taken over. 0: it cannot be used, and nothing that was kept is kept any more. */
static int state_setup_adopt(struct hbmd *hbmd, const char *name, int fd,
			     const struct state_shape shapes[STATE_TABLES])
{
	char why[LINE];
	uint64_t inode = state_setup_inode(fd);
	int r = state_adopt(&hbmd->kept, fd, shapes, why, sizeof(why));
	if (r == -EPROTO) {
		close(fd);
		keep_drop(name);
		log_event(LOG_EVENT_STARTED_EMPTY, LOG_WARNING, NULL, "starting empty: %s", why);
		keep_let_go();
		return 0;
	}

	if (r < 0) {
		close(fd);
		return r;
	}

	if (state_setup_inode(state_fd(hbmd->kept)) != inode)
		r = state_setup_exchange(hbmd, name);
	if (r == 0)
		state_setup_say(hbmd->kept);

	return r < 0 ? r : 1;
}

static int state_setup_open_state(struct hbmd *hbmd)
{
	struct state_shape shapes[STATE_TABLES];
	char name[KEEP_NAME_BYTES];
	int r = 0;

	state_setup_shapes(hbmd->ledger, hbmd->config, shapes);
	if (keep_find(STATE_NAME, name))
		r = state_setup_adopt(hbmd, name, keep_take(name), shapes);
	else
		keep_let_go(); /* without it there is no knowing what the rest is */

	return r == 0 ? state_setup_new(hbmd, shapes) : r < 0 ? r : 0;
}

int state_setup_open(struct hbmd *hbmd, char *error, size_t error_size)
{
	int r = state_setup_open_state(hbmd);
	if (r == 0)
		r = parking_open(&hbmd->parking);
	if (r < 0) {
		snprintf(error, error_size, "cannot set up what outlives the daemon: %s",
			 strerror(-r));
		return r;
	}

	if (hbmd->kept)
		state_count_to(hbmd->kept, STATE_STARTS,
			       state_counter(hbmd->kept, STATE_STARTS) + 1);
	else
		log_event(LOG_EVENT_NOT_KEPT, LOG_NOTICE, NULL,
			  "HBM, DDR and sessions do not outlive this process: neither a service "
			  "manager with a descriptor store nor hbmd --keeper has started it");

	return 0;
}

void state_setup_finish(struct hbmd *hbmd)
{
	size_t count = parking_let_go(hbmd->parking);
	if (count > 0)
		log_notice("%zu parked descriptors of the daemon before are of no use any more",
			   count);
	keep_let_go();
}

void state_setup_close(struct hbmd *hbmd)
{
	hbmd->parking = parking_close(hbmd->parking);
	hbmd->kept = state_free(hbmd->kept);
}
