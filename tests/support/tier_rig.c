/* SPDX-License-Identifier: Apache-2.0 */
/* tier_rig: see tier_rig.h. */
#include "tests/support/tier_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/serve/audit.h"
#include "daemon/serve/audit_limits.h"
#include "daemon/service/memory_setup.h"

#define RIG_ACCOUNTS 16
#define RIG_TIMEOUT_NS 30000000000ull /* what a test may wait for takes less */

struct audit *rig_audit(struct rig *rig)
{
	struct audit *audit;

	assert_int_equal(audit_new(&audit, &rig->hbmd), 0);
	while (audit_some(audit, UINT32_MAX))
		;

	return audit;
}

static void rig_dump(struct rig *rig)
{
	struct hbm_wire_account accounts[RIG_ACCOUNTS];
	struct audit *audit = rig_audit(rig);
	uint32_t count = audit_accounts(audit, accounts, RIG_ACCOUNTS);

	audit_free(audit);

	for (uint32_t i = 0; i < count; i++)
		print_error("%-14s capacity %llu free %llu placed %llu moving %llu %s\n",
			    accounts[i].pool, (unsigned long long)accounts[i].capacity,
			    (unsigned long long)accounts[i].free,
			    (unsigned long long)accounts[i].placed,
			    (unsigned long long)accounts[i].moving, accounts[i].problem);

	for (uint32_t i = 0; i <= rig->hbmd.cache->tier_count; i++) {
		const struct tier *tier = &rig->hbmd.cache->tiers[i];
		print_error("tier %u: usable %llu target %llu pinned %llu inbound %u waiting %d\n",
			    i, (unsigned long long)tier->usable, (unsigned long long)tier->bytes,
			    (unsigned long long)cache_pinned(rig->hbmd.cache, tier),
			    tier->inbound_first, !fair_queue_empty(&tier->waiting));
	}

	print_error("mover: %llu active\n", (unsigned long long)mover_active(rig->hbmd.mover));
}

static void rig_look(struct timer *timer)
{
	struct rig *rig = container_of(timer, struct rig, watchman);

	rig->late = clock_now() > rig->until_ns;
	if (rig->late || rig->wanted(rig->arg))
		loop_stop(rig->loop);
	else
		loop_timer_set(rig->loop, timer, clock_now() + 500000);
}

void rig_run(struct rig *rig, bool (*wanted)(void *arg), void *arg)
{
	rig->wanted = wanted;
	rig->arg = arg;
	rig->until_ns = clock_now() + RIG_TIMEOUT_NS;
	rig->watchman.fire = rig_look;

	while (!wanted(arg)) {
		loop_timer_set(rig->loop, &rig->watchman, 0);
		assert_int_equal(loop_run(rig->loop), 0);

		if (rig->late) {
			rig_dump(rig);
			fail_msg("%s", "timeout: the state the test waits for was not reached");
		}
	}

	loop_timer_stop(rig->loop, &rig->watchman);
}

static bool rig_is_warm(void *arg)
{
	const struct rig *rig = arg;

	return memory_setup_warm(rig->memory_setup);
}

bool rig_is_idle(void *arg)
{
	const struct rig *rig = arg;

	return mover_active(rig->hbmd.mover) == 0;
}

void rig_init(struct rig *rig)
{
	struct config *config = &rig->config;

	memset(rig, 0, sizeof(*rig));
	leaks_begin(&rig->leaks);
	log_open(LOG_CRIT);
	strcpy(rig->folder, "/var/tmp/hbmd-rig-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	snprintf(rig->file, sizeof(rig->file), "%s/tier", rig->folder);

	assert_int_equal(config_defaults(config), 0);
	config->driver = CONFIG_DRIVER_SOFT;
	config->soft_devices = 1;
	config->soft_memory = 64 * MIB;
	config->device_memory = (struct config_size){.bytes = 2 * GRANULE};
	config->device_cache = (struct config_size){.bytes = 512 * KIB};
	config->device_headroom = (struct config_size){.bytes = 256 * KIB};
	config->device_slab = GRANULE;
	config->ddr_size = (struct config_size){.bytes = MIB};
	config->ddr_headroom = 256 * KIB;
	config->ddr_staging = 512 * KIB;
	config->limit_blocks = 4096;

	free(config->nvme_path);
	config->nvme_path = strdup(rig->file);
	config->nvme_size = 2 * MIB;
	config->nvme_behind_ms = 0; /* a slow machine changes no result */
	config->checksum_idle_ms = 0;
}

static void rig_ignore(void *arg)
{
	(void)arg;
}

void rig_open(struct rig *rig, uint64_t client_bytes)
{
	static const enum loop_engine engines[] = {LOOP_AUTO, LOOP_URING, LOOP_THREADS};
	char error[512] = "";
	struct hbmd *hbmd = &rig->hbmd;
	const struct loop_options options = {.engine = engines[rig->config.io],
					     .io_depth = config_nvme_depth_max(&rig->config)};

	assert_int_equal(loop_new(&rig->loop, &options), 0);
	ledger_open(&rig->ledger, &rig->config);
	*hbmd = (struct hbmd){.config = &rig->config, .loop = rig->loop, .ledger = &rig->ledger};
	if (devices_open(&hbmd->devices, &rig->config, rig->loop, error, sizeof(error)) != 0)
		fail_msg("%s", error);

	if (memory_setup_open(&rig->memory_setup, hbmd, rig_ignore, NULL, error, sizeof(error)) !=
	    0)
		fail_msg("%s", error);

	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		assert_int_equal(device_memory_open(&rig->client[i], &hbmd->devices->list[i],
						    client_bytes, GRANULE),
				 0);

	rig->call = soft_calls_of(hbmd->devices->driver);

	rig_run(rig, rig_is_warm, rig);
}

void rig_assert_balanced(struct rig *rig)
{
	struct hbm_wire_account accounts[RIG_ACCOUNTS];
	struct hbm_wire_limit limits[LEDGER_LIMITS];
	struct audit *audit = rig_audit(rig);
	uint32_t count = audit_accounts(audit, accounts, RIG_ACCOUNTS);

	assert_int_equal(audit_limits(&rig->hbmd, audit_recount(audit), limits, LEDGER_LIMITS),
			 LEDGER_LIMITS);
	audit_free(audit);

	for (uint32_t i = 0; i < count; i++) {
		if (!accounts[i].balanced)
			fail_msg("%s: %s", accounts[i].pool, accounts[i].problem);
		assert_int_equal(accounts[i].free + accounts[i].placed + accounts[i].moving +
					 accounts[i].quarantined + accounts[i].failed +
					 accounts[i].copies,
				 accounts[i].capacity);
	}

	for (uint32_t i = 0; i < LEDGER_LIMITS; i++)
		if (!limits[i].balanced)
			fail_msg("%s: %s", limits[i].name, limits[i].problem);
}

void rig_assert_at_rest(struct rig *rig)
{
	struct cache *cache = rig->hbmd.cache;

	rig_assert_balanced(rig);

	for (uint32_t i = 0; i <= cache->tier_count; i++) {
		if (!cache->tiers[i].extents)
			continue;
		assert_int_equal(cache->tiers[i].moving, 0);
		assert_true(fair_queue_empty(&cache->tiers[i].waiting));
		assert_int_equal(cache->tiers[i].inbound_first, 0);
	}

	assert_int_equal(extent_available(cache->staging->extents),
			 extent_capacity(cache->staging->extents));

	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number))
			assert_int_equal(cache_block(cache, number)->actual,
					 cache_block(cache, number)->target);
}

static bool rig_is_settled(void *arg)
{
	const struct rig *rig = arg;

	return rig_is_idle(arg) && !rig->hbmd.mover->cut && !cache_drop_pending(rig->hbmd.cache, 0);
}

void rig_settle(struct rig *rig)
{
	pump_run(rig->hbmd.mover);
	rig_run(rig, rig_is_settled, rig);
}

void rig_assert_empties(struct rig *rig)
{
	struct cache *cache = rig->hbmd.cache;

	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number))
			cache_drop(cache, number);

	rig_settle(rig);
	rig_assert_at_rest(rig);
	assert_int_equal(index_count(cache->index), 0);
	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		assert_int_equal(cache->tiers[i].bytes, 0);
		assert_int_equal(cache->tiers[i].blocks, 0);
		assert_int_equal(cache->tiers[i].placed, 0);
	}
}

void rig_close(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->hbmd.devices->count; i++)
		device_memory_close(&rig->client[i]);
	rig->memory_setup = memory_setup_close(rig->memory_setup);
	rig->hbmd.devices = devices_close(rig->hbmd.devices);
	rig->loop = loop_free(rig->loop);
}

void rig_clear(struct rig *rig)
{
	char catalog[sizeof(rig->file) + sizeof(".catalog")];

	snprintf(catalog, sizeof(catalog), "%s.catalog", rig->file);
	config_clear(&rig->config);
	unlink(catalog);
	unlink(rig->file);
	assert_int_equal(rmdir(rig->folder), 0);
	assert_int_equal(leaks_end(&rig->leaks), 0);
}
