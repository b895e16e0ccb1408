/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/descriptors.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "daemon/base/log.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/slab.h"
#include "daemon/serve/hbmd.h"
#include "daemon/session/session.h"
#include "daemon/state/keep.h"

#define SPARE 32       /* for files that are opened for a moment */
#define SILENT_LEAST 2 /* one user's next connection beside another's */

static uint64_t descriptors_least(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

struct descriptors descriptors_divide(uint64_t limit, uint64_t in_use, uint64_t silent,
				      uint64_t operators)
{
	struct descriptors out = {.limit = limit, .in_use = in_use};
	uint64_t left = limit > in_use ? limit - in_use : 0;

	out.silent = descriptors_least(silent, left / 4 / SESSION_DESCRIPTORS);
	if (out.silent < SILENT_LEAST)
		out.silent = SILENT_LEAST;
	out.operators = descriptors_least(operators * SESSION_DESCRIPTORS, left / 8);

	uint64_t kept = out.silent * SESSION_DESCRIPTORS + out.operators +
			descriptors_least(SPARE, left / 8);
	out.clients = left > kept ? left - kept : 0;

	return out;
}

static uint64_t descriptors_count_open(void)
{
	uint64_t count = 0;
	DIR *folder = opendir("/proc/self/fd");
	if (!folder)
		return 0;

	while (readdir(folder))
		count++;
	closedir(folder);

	return count - 3; /* ".", ".." and the folder */
}

static uint64_t descriptors_of_pool(const struct slabs *slabs)
{
	return slabs_books(slabs).uncreated / slabs_default(slabs);
}

/* Those that slabs of the usual size will be: one of a real device is none. */
static uint64_t descriptors_of_slabs(const struct devices *devices)
{
	uint64_t count = devices->host ? descriptors_of_pool(devices->host->slabs) : 0;

	for (uint32_t i = 0; devices->kind == HBM_DRIVER_SOFT && i < devices->count; i++)
		count += descriptors_of_pool(devices->list[i].slabs);

	return count;
}

static void descriptors_say(const struct descriptors *fits, uint64_t clients, uint64_t wanted)
{
	log_warning("RLIMIT_NOFILE is %llu: %llu sessions of clients fit beside %llu open files, "
		    "not %llu; raise LimitNOFILE= of the unit, or ulimit -n",
		    (unsigned long long)fits->limit,
		    (unsigned long long)(clients / SESSION_DESCRIPTORS),
		    (unsigned long long)fits->in_use, (unsigned long long)wanted);
}

uint64_t descriptors_unread(uint64_t limit, uint64_t configured, bool parks)
{
	if (parks)
		limit /= 2;

	uint64_t unread = descriptors_least(limit - limit / 8, configured);

	return unread > HBM_WIRE_FDS_MAX ? unread : HBM_WIRE_FDS_MAX;
}

void descriptors_apply(struct hbmd *hbmd)
{
	struct ledger *ledger = hbmd->ledger;
	uint64_t all = ledger_limit(&ledger->host, LEDGER_SESSIONS);
	uint64_t wanted = ledger_limit(&ledger->unprivileged, LEDGER_SESSIONS);
	uint64_t clients = ledger_limit(&ledger->unprivileged, LEDGER_DESCRIPTORS);
	uint64_t unread = ledger_limit(&ledger->unprivileged, LEDGER_UNREAD_FDS);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return;

	struct descriptors fits = descriptors_divide(
		limit.rlim_cur, descriptors_count_open() + descriptors_of_slabs(hbmd->devices),
		ledger_limit(&ledger->host, LEDGER_SILENT), all - wanted);

	clients = descriptors_least(clients, fits.clients);
	if (clients / SESSION_DESCRIPTORS < wanted)
		descriptors_say(&fits, clients, wanted);

	ledger_set_limit(&ledger->host, LEDGER_SILENT, fits.silent);
	ledger_set_limit(&ledger->unprivileged, LEDGER_DESCRIPTORS, clients);
	ledger_set_limit(&ledger->unprivileged, LEDGER_UNREAD_FDS,
			 descriptors_unread(limit.rlim_cur, unread, keep_is_there()));
}
