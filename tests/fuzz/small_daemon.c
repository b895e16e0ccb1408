/* SPDX-License-Identifier: Apache-2.0 */
/* small_daemon: see small_daemon.h. */
#include "tests/fuzz/small_daemon.h"
#include "tests/fuzz/fuzz.h"

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/region/publication.h"
#include "daemon/region/slab.h"
#include "daemon/serve/audit.h"
#include "daemon/serve/audit_limits.h"
#include "daemon/serve/drain.h"
#include "daemon/serve/handlers.h"
#include "daemon/serve/namespace_room.h"
#include "daemon/serve/pressure.h"
#include "daemon/serve/restore.h"
#include "daemon/serve/serve_keys.h"
#include "daemon/serve/server.h"
#include "daemon/service/memory_setup.h"
#include "daemon/service/state_setup.h"
#include "tests/support/soft_calls.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_NS 50000u
#define PATIENCE_MS 100000u /* on a machine that does other things before it */
#define ACCOUNTS 16

static const char *const sets[] = {
	"hbmd.socket_mode=0666",
	"hbmd.driver=soft",
	"hbmd.checksum=nvme",
	"hbmd.checksum_threads=1",
	"soft.devices=2",
	"soft.memory=32MiB",
	"device.memory=20MiB",
	"device.cache=2MiB",
	"device.headroom=1MiB",
	"device.lend=4MiB",
	"device.slab=2MiB",
	"device.publish_groups=yes",
	"ddr.size=1MiB",
	"ddr.headroom=256KiB",
	"ddr.staging=1MiB",
	"ddr.hugepages=no",
	"ddr.numa=off",
	"nvme.size=2MiB",
	"nvme.depth=4",
	"nvme.behind_ms=0",
	"nvme.catalog=no",
	"limits.sessions=8",
	"limits.requests_in_flight=8",
	"limits.request_bytes=4KiB",
	"limits.request_bytes_total=16KiB",
	"limits.regions=4",
	"limits.address_space=64MiB",
	"limits.commit_slabs=4",
	"limits.namespaces=6",
	"limits.namespace_opens=3",
	"limits.blocks=256",
	"limits.block_bytes=64KiB",
	"limits.pins=20",
	"limits.loans=3",
	"limits.sequences=32",
	"limits.notices=4",
	"limits.publications=3",
	"limits.reserve_ms=20",
	"limits.ready_ms=20",
	"limits.hello_ms=5000",
	"limits.moves=4",
};

/* Where there is a daemon for each input. */
static const char *const without_file[] = {"nvme.path=", "nvme.size=0"};

static void small_daemon_configure(struct small_daemon *daemon)
{
	char error[4096] = "", paths[3][128];

	fuzz_check(config_defaults(&daemon->config) == 0);
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		config_set(&daemon->config, sets[i], error, sizeof(error));

	snprintf(paths[0], sizeof(paths[0]), "hbmd.socket=%s", daemon->socket);
	snprintf(paths[1], sizeof(paths[1]), "hbmd.state_dir=%s", daemon->folder);
	snprintf(paths[2], sizeof(paths[2]), "nvme.path=%s", daemon->file);
	for (size_t i = 0; i < 3; i++)
		config_set(&daemon->config, paths[i], error, sizeof(error));

	for (size_t i = 0; daemon->takes_over && i < 2; i++)
		config_set(&daemon->config, without_file[i], error, sizeof(error));
	if (error[0] != '\0' || config_check(&daemon->config, error, sizeof(error)) != 0)
		fuzz_fail("%s", error);
}

/* ---- The loop ---- */

static void small_daemon_look(struct timer *timer)
{
	struct small_daemon *daemon = container_of(timer, struct small_daemon, watchman);

	daemon->came_true = daemon->wanted(daemon->arg);
	if (daemon->came_true || clock_now() > daemon->until_ns)
		loop_stop(daemon->hbmd.loop);
	else
		loop_timer_set(daemon->hbmd.loop, timer, clock_now() + LOOK_NS);
}

bool small_daemon_run(struct small_daemon *daemon, bool (*wanted)(void *arg), void *arg,
		      uint64_t ms)
{
	daemon->wanted = wanted;
	daemon->arg = arg;
	daemon->until_ns = clock_now() + ms * 1000000;
	daemon->watchman.fire = small_daemon_look;
	loop_timer_set(daemon->hbmd.loop, &daemon->watchman, 0);
	fuzz_check(loop_run(daemon->hbmd.loop) == 0);

	return daemon->came_true;
}

static bool small_daemon_turned(void *turns)
{
	return (*(unsigned *)turns)-- == 0;
}

void small_daemon_turn(struct small_daemon *daemon, unsigned turns)
{
	small_daemon_run(daemon, small_daemon_turned, &turns, PATIENCE_MS);
}

/* ---- Open ---- */

static void small_daemon_ignore(void *arg)
{
	(void)arg;
}

static void small_daemon_ignore_line(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

static bool small_daemon_is_warm(void *arg)
{
	const struct small_daemon *daemon = arg;

	return memory_setup_warm(daemon->memory_setup);
}

/* What clients of the daemon before had. */
static int small_daemon_restore(struct hbmd *hbmd, char *error, size_t error_size)
{
	int r = server_restore_sessions(hbmd->server, error, error_size);

	if (r == 0) {
		restore_regions(hbmd);
		server_sessions_restored(hbmd->server);
		state_setup_finish(hbmd);
	}

	return r;
}

static void small_daemon_set_up(struct small_daemon *daemon)
{
	struct hbmd *hbmd = &daemon->hbmd;
	const struct loop_options options = {.io_depth = config_nvme_depth_max(&daemon->config)};
	char error[512] = "";
	int r = loop_new(&hbmd->loop, &options);

	if (r == 0 && daemon->takes_over)
		r = state_setup_open(hbmd, error, sizeof(error));
	if (r == 0)
		r = devices_open(&hbmd->devices, &daemon->config, hbmd->loop, error, sizeof(error));
	if (r == 0)
		r = memory_setup_open(&daemon->memory_setup, hbmd, small_daemon_ignore, NULL, error,
				      sizeof(error));
	if (r == 0)
		r = namespace_room_open(&hbmd->namespace_room, hbmd);
	if (r == 0)
		r = publications_open(&hbmd->publications, hbmd->ledger);
	if (r == 0)
		r = server_open(&hbmd->server, hbmd, &handlers, -1, error, sizeof(error));
	if (r == 0 && daemon->takes_over)
		r = small_daemon_restore(hbmd, error, sizeof(error));
	if (r == 0)
		r = pressure_open(&hbmd->pressure, hbmd);
	if (r == 0)
		r = drain_open(hbmd, &(struct drain_calls){.changed = small_daemon_ignore_line,
							   .drained = small_daemon_ignore});
	if (r != 0)
		fuzz_fail("the daemon does not start: %d, %s", r, error);
}

static void small_daemon_begin(struct small_daemon *daemon, bool takes_over)
{
	memset(daemon, 0, sizeof(*daemon));
	daemon->takes_over = takes_over;
	fuzz_folder(daemon->folder);
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->folder);
	snprintf(daemon->file, sizeof(daemon->file), "%s/tier", daemon->folder);

	small_daemon_configure(daemon);
	ledger_open(&daemon->ledger, &daemon->config);
	daemon->hbmd = (struct hbmd){
		.config = &daemon->config, .ledger = &daemon->ledger, .started_ns = clock_now()};
	small_daemon_set_up(daemon);
	fuzz_check(small_daemon_run(daemon, small_daemon_is_warm, daemon, PATIENCE_MS));
	daemon->hbmd.state = HBMD_RUNNING;
}

void small_daemon_open(struct small_daemon *daemon)
{
	small_daemon_begin(daemon, false);
}

void small_daemon_take_over(struct small_daemon *daemon)
{
	small_daemon_begin(daemon, true);
}

/* ---- Check and close ---- */

void small_daemon_check(struct small_daemon *daemon)
{
	struct hbm_wire_account accounts[ACCOUNTS];
	struct hbm_wire_limit limits[LEDGER_LIMITS];
	struct audit *audit;

	fuzz_check(audit_new(&audit, &daemon->hbmd) == 0);
	while (audit_some(audit, UINT32_MAX))
		;

	uint32_t count = audit_accounts(audit, accounts, ACCOUNTS);
	for (uint32_t i = 0; i < count; i++)
		if (!accounts[i].balanced)
			fuzz_fail("%s: %s", accounts[i].pool, accounts[i].problem);

	count = audit_limits(&daemon->hbmd, audit_recount(audit), limits, LEDGER_LIMITS);
	for (uint32_t i = 0; i < count; i++)
		if (!limits[i].balanced)
			fuzz_fail("%s: %s", limits[i].name, limits[i].problem);
	audit_free(audit);
}

static bool small_daemon_is_at_rest(void *arg)
{
	const struct small_daemon *daemon = arg;
	const struct hbmd *hbmd = &daemon->hbmd;
	bool quiet = list_empty(server_sessions(hbmd->server)) && mover_is_idle(hbmd->mover) &&
		     !hbmd->mover->cut && !hbmd->verification && !hbmd->lent_verification &&
		     !cache_drop_pending(hbmd->cache, 0);

	for (uint32_t i = 0; quiet && i < hbmd->devices->count; i++)
		quiet = slabs_books(hbmd->devices->list[i].slabs).retiring == 0;

	return quiet;
}

static void small_daemon_check_at_rest(struct small_daemon *daemon)
{
	const struct cache *cache = daemon->hbmd.cache;

	for (uint32_t i = 0; i <= cache->tier_count; i++)
		if (cache->tiers[i].extents && cache->tiers[i].moving != 0)
			fuzz_fail("tier %u: %llu bytes are moving when nothing moves", i,
				  (unsigned long long)cache->tiers[i].moving);
	fuzz_check(extent_available(cache->staging->extents) ==
		   extent_capacity(cache->staging->extents));
}

static void small_daemon_tear_down(struct small_daemon *daemon)
{
	struct hbmd *hbmd = &daemon->hbmd;
	struct soft_calls call = soft_calls_of(hbmd->devices->driver);

	hbmd->pressure = pressure_close(hbmd->pressure);
	drain_close(hbmd);
	hbmd->server = server_close(hbmd->server);
	serve_close(hbmd);
	hbmd->publications = publications_close(hbmd->publications);
	daemon->memory_setup = memory_setup_close(daemon->memory_setup);
	fuzz_check(call.live("handles") == 0);
	fuzz_check(call.live("mappings") == 0);
	fuzz_check(call.live("reservations") == 0);
	hbmd->devices = devices_close(hbmd->devices);
	state_setup_close(hbmd);
	hbmd->loop = loop_free(hbmd->loop);
	hbmd->namespace_room = namespace_room_close(hbmd->namespace_room);
}

static void small_daemon_settle(struct small_daemon *daemon)
{
	drain_stop(&daemon->hbmd); /* what a client has begun would go on */
	if (!small_daemon_run(daemon, small_daemon_is_at_rest, daemon, PATIENCE_MS))
		fuzz_fail("sessions or moves do not end");
	small_daemon_check(daemon);
	small_daemon_check_at_rest(daemon);
}

static void small_daemon_withdraw(struct publications *publications)
{
	struct hbm_wire_region records[8];
	uint32_t next;

	for (uint32_t count;
	     (count = publications_records(publications, NULL, 0, records, 8, &next)) > 0;)
		for (uint32_t i = 0; i < count; i++)
			publication_withdraw(publication_find(publications, records[i].uid, NULL,
							      records[i].name));
}

void small_daemon_empty(struct small_daemon *daemon)
{
	struct cache *cache = daemon->hbmd.cache;

	small_daemon_settle(daemon);
	if (daemon->takes_over) /* no client comes back for them */
		namespaces_release_restored(cache->namespaces);
	small_daemon_withdraw(daemon->hbmd.publications);
	serve_close(&daemon->hbmd);
	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number))
			cache_drop(cache, number);
	pump_run(daemon->hbmd.mover);

	small_daemon_settle(daemon);
	fuzz_check(index_count(cache->index) == 0);
	fuzz_check(namespaces_count(cache->namespaces) == 0);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		fuzz_check(cache->tiers[i].bytes == 0 && cache->tiers[i].placed == 0);
}

void small_daemon_close(struct small_daemon *daemon)
{
	small_daemon_empty(daemon);
	small_daemon_tear_down(daemon);
	config_clear(&daemon->config);
	unlink(daemon->file);
	fuzz_check(rmdir(daemon->folder) == 0);
}
