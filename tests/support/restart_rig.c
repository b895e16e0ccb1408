/* SPDX-License-Identifier: Apache-2.0 */
/* restart_rig: see restart_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/restart_rig.h"

#include "tests/support/effort.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/stage.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	GROUP = 4, /* blocks of a chain */
	KEYS = RESTART_KEYS,
	SLOTS = 8,
	WITHIN_US = 30000
};

struct kv restart_kv;
hbm_result restart_results[RESTART_KEYS];
bool restart_evicts_hbm;

/* ---- a client ---- */

void restart_connect(void)
{
	kv_open(&restart_kv, &daemon_, 0, RESTART_BLOCK, SLOTS);
}

void restart_disconnect(void)
{
	kv_close(&restart_kv);
}

struct hbm_wire_status restart_status(void)
{
	struct hbm_wire_status status;

	spawn_status(&daemon_, &status);
	return status;
}

void restart_begin(const char *const *sets)
{
	keeper_start(&daemon_, sets, NULL);
	restart_connect();
}

void restart_kill(void)
{
	restart_disconnect();
	keeper_kill(&daemon_);
	restart_connect();
}

void restart_end(void)
{
	restart_disconnect();
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

void restart_store(uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(kv_store(&restart_kv, 0, first + i, 1, i > 0 ? first + i - 1 : 0,
					  restart_results),
				 0);
		assert_int_equal(restart_results[0].status, HBM_OK);
	}
}

bool restart_find(uint64_t key)
{
	if (kv_lookup(&restart_kv, key, 1, restart_results) == 0)
		return false;
	assert_int_equal(kv_load(&restart_kv, 0, key, 1, restart_results), 0);
	return restart_results[0].status == HBM_OK;
}

uint64_t restart_find_all(uint64_t first, uint64_t count)
{
	uint64_t found = 0;
	for (uint64_t key = first; key < first + count; key++)
		found += restart_find(key);
	return found;
}

void restart_expect_checksums(uint64_t count)
{
	uint64_t found = 0;

	for (long ms = 10; found < count && ms < 20000; ms *= 2) {
		for (uint64_t key = 1; key <= count; key++)
			if (!restart_find(key))
				restart_store(key, 1);
		restart_pause_ms(ms);
		restart_kill();
		found = restart_find_all(1, count);
	}
	assert_int_equal(found, count);
}

void restart_expect_rotten(uint64_t bad, uint64_t count)
{
	/* a hit, as long as nobody has looked */
	assert_int_equal(kv_lookup(&restart_kv, 1, count, restart_results), count);
	assert_int_equal(restart_find_all(1, bad - 1), bad - 1);
	assert_int_equal(kv_load(&restart_kv, 0, bad, 1, restart_results), 0);
	assert_int_equal(restart_results[0].status, HBM_MISS);
	assert_int_equal(restart_status().checksum_failures, 1);
	assert_int_equal(kv_lookup(&restart_kv, 1, count, restart_results), bad - 1);
	assert_int_equal(kv_store(&restart_kv, 0, bad, 1, bad - 1, restart_results), 0);
	assert_int_equal(restart_results[0].status, HBM_OK);
	assert_int_equal(restart_find_all(1, bad), bad);
}

void restart_pause_ms(long ms)
{
	const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&time, NULL);
}

/* ---- what is wiped ---- */

uint32_t restart_store_wiped(uint64_t count)
{
	const struct hbm_namespace_options wiped = {
		.model = "wiped", .block_bytes = RESTART_BLOCK, .wipe_on_free = true};
	uint32_t plain = restart_kv.ns, ns;

	assert_int_equal(hbm_namespace_open(restart_kv.hbm, &wiped, &ns), 0);
	restart_kv.ns = ns;
	restart_store(1, count);
	restart_kv.ns = plain;

	return ns;
}

void restart_remove_wiped(uint32_t ns)
{
	assert_int_equal(hbm_namespace_drop(restart_kv.hbm, ns, 0, NULL), 0);
	assert_int_equal(hbm_namespace_close(restart_kv.hbm, ns), 0);
}

void restart_await_wiped(unsigned times)
{
	while (spawn_log_lines(&daemon_, "memory has nothing of namespaces") < times)
		restart_pause_ms(2);
}

/* ---- kills at any moment ---- */

static struct seed *seed;

static struct {
	bool there[KEYS + 1];               /* acknowledged */
	bool before[KEYS + 1];              /* it was there when this life began, and is since */
	bool unsure[KEYS + 1];              /* its last operation was not answered */
	uint64_t operations;                /* of this life */
	uint64_t acknowledged, lost, lives; /* of all */
} record;

static pid_t victim;
static atomic_bool killed;

static void *restart_kill_later(void *arg)
{
	const struct timespec time = {0, *(long *)arg};

	nanosleep(&time, NULL);
	kill(victim, SIGKILL);
	atomic_store(&killed, true);
	return NULL;
}

static uint64_t restart_group_of(uint64_t key)
{
	return (key - 1) / GROUP * GROUP + 1;
}

/* False: the daemon is dead. */
static bool restart_try_store(uint64_t key)
{
	uint64_t parent = key == restart_group_of(key) ? 0 : key - 1;

	record.unsure[key] = !record.there[key];
	int r = kv_store(&restart_kv, key % SLOTS, key, 1, parent, restart_results);
	if (r < 0)
		return false;

	record.unsure[key] = false;
	record.there[key] |=
		restart_results[0].status == HBM_OK || restart_results[0].status == HBM_EXISTS;

	return true;
}

/* What continues it goes with it, unless it has come back without it, as a root. */
static bool restart_try_remove(uint64_t key, enum restart_loss loss)
{
	for (uint64_t i = key; i < restart_group_of(key) + GROUP; i++) {
		record.unsure[i] |= record.there[i];
		record.there[i] = record.before[i] = false;
	}

	if (kv_keys(&restart_kv, HBM_WIRE_REMOVE, key, 1, 0, restart_results) < 0)
		return false;
	for (uint64_t i = key; i < restart_group_of(key) + GROUP; i++)
		record.unsure[i] = i > key && loss != RESTART_LOSES_NOTHING;

	return true;
}

static bool restart_try_load(uint64_t key)
{
	return kv_load(&restart_kv, 0, key, 1, restart_results) >= 0;
}

static bool restart_operate(enum restart_loss loss)
{
	uint64_t key = 1 + seed_below(seed, KEYS);

	record.operations++;
	while (key > restart_group_of(key) && !record.there[key - 1])
		key--;
	if (!record.there[key])
		return restart_try_store(key);
	if (seed_below(seed, 6) == 0)
		return restart_try_remove(key, loss);
	if (restart_evicts_hbm && seed_below(seed, 4) == 0)
		return hbm_evict(restart_kv.hbm, HBM_TIER_HBM, 0, RESTART_BLOCK, NULL) >= 0;
	if (loss == RESTART_LOSES_MOVED && seed_below(seed, 4) == 0)
		return hbm_evict(restart_kv.hbm, HBM_TIER_DDR, 0, RESTART_BLOCK, NULL) >= 0;

	return restart_try_load(key);
}

/* What is there, now that the daemon has come back: the record is that from now on. */
static void restart_compare(enum restart_loss loss)
{
	uint64_t lost = 0;

	for (uint64_t key = 1; key <= KEYS; key++) {
		bool found = restart_find(key),
		     could_go = loss == RESTART_LOSES_MOVED || !record.before[key];

		record.acknowledged += record.there[key];
		if (record.there[key] && !record.unsure[key] && !found) {
			assert_true(loss != RESTART_LOSES_NOTHING && could_go);
			lost++;
		}
		/* what was removed is so, where no catalog has it still */
		if (!record.there[key] && !record.unsure[key] && loss != RESTART_LOSES_MOVED)
			assert_false(found);
		record.there[key] = record.before[key] = found;
		record.unsure[key] = false;
	}

	assert_in_range(lost, 0, record.operations);
	record.lost += lost;
	record.lives++;
}

/* All that has moved is where the next daemon will look for it. */
static void restart_settle(enum restart_loss loss)
{
	kv_await_moves(&restart_kv);
	while (loss == RESTART_LOSES_MOVED && restart_status().catalog_unflushed > 0)
		restart_pause_ms(2);
}

static void restart_live(enum restart_loss loss)
{
	pthread_t killer;
	long after = (long)seed_below(seed, WITHIN_US) * 1000;

	restart_settle(loss);
	record.operations = 0;
	victim = keeper_daemon(&daemon_);
	atomic_store(&killed, false);
	assert_int_equal(pthread_create(&killer, NULL, restart_kill_later, &after), 0);
	/* the last operation waits for the next daemon, and is repeated there */
	while (!atomic_load(&killed) && restart_operate(loss))
		;
	pthread_join(killer, NULL);
	keeper_await_next(&daemon_, victim);
	assert_true(spawn_balanced(&daemon_));
	if (seed_below(seed, 2) == 0) {
		restart_disconnect();
		restart_connect();
	}
	restart_compare(loss);
}

static unsigned restart_lives(unsigned most)
{
	const char *given = getenv("HBM_TEST_LIVES");
	return given ? (unsigned)atoi(given) : effort_of(most);
}

void restart_at_random(struct seed *given, const char *const *sets, enum restart_loss loss,
		       unsigned lives)
{
	seed = given;
	memset(&record, 0, sizeof(record));
	restart_begin(sets);
	for (unsigned i = 0; i < restart_lives(lives); i++)
		restart_live(loss);
	/* what the catalog has not heard of yet may be another's by now: a miss, and counted */
	if (loss != RESTART_LOSES_MOVED)
		assert_int_equal(restart_status().checksum_failures, 0);
	restart_end();
	fprintf(stderr, "%llu lives: %llu blocks acknowledged, %llu of them lost\n",
		(unsigned long long)record.lives, (unsigned long long)record.acknowledged,
		(unsigned long long)record.lost);
}
