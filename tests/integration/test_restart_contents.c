/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in DDR outlives the daemon: it is killed at any moment while blocks are stored, loaded,
 * evicted and removed. What is found afterwards is byte by byte what was stored, what was
 * acknowledged is found but for what is said below, and the books balance. What has rotted
 * meanwhile is a miss.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/effort.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/kept_memory.h"
#include "tests/support/restart_rig.h"
#include "tests/support/stage.h"

enum { LIVES = 50, SOME = 24 };

static struct seed seed;

/* ---- one kill ---- */

static const char *const in_ddr[] = {"device.cache=0", "ddr.size=8MiB",        "nvme.path=",
				     "nvme.size=0",    "hbmd.checksum=always", NULL};

static void test_blocks_are_hits(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	uint32_t ns = restart_kv.ns;
	const struct hbm_namespace_options other = {.model = "other", .block_bytes = RESTART_BLOCK};

	assert_int_equal(hbm_namespace_open(restart_kv.hbm, &other, &restart_kv.ns), 0);
	restart_store(1, 2);
	restart_kill();

	assert_int_equal(restart_kv.ns, ns);
	assert_int_equal(restart_status().ddr_restored, SOME + 2);
	assert_int_equal(restart_status().ddr_dropped + restart_status().ddr_unsummed, 0);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME);
	for (uint64_t key = 1; key <= SOME; key++)
		assert_int_equal(kv_tier(&restart_kv, key), HBM_TIER_DDR);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	assert_int_equal(restart_status().checksum_failures, 0);

	/* life goes on: a child stored below, and once more */
	assert_int_equal(kv_store(&restart_kv, 0, SOME + 1, 1, SOME, restart_results), 0);
	assert_int_equal(kv_keys(&restart_kv, HBM_WIRE_REMOVE, SOME / 2, 1, 0, restart_results), 0);
	restart_kill();
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME / 2 - 1);
	assert_int_equal(restart_find_all(1, SOME + 1), SOME / 2 - 1);
	restart_end();
}

/* As for an upgrade. */
static void test_a_new_daemon_takes_over(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	restart_disconnect();
	keeper_renew(&daemon_);
	restart_connect();
	assert_int_equal(restart_status().ddr_restored, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* No checksum is given ahead of need; what has none yet is a miss. */
static void test_without_a_checksum_it_is_a_miss(void **state)
{
	static const char *const late[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=0", NULL};
	(void)state;
	restart_begin(late);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_status().ddr_unsummed, SOME);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), 0);
	restart_end();
}

static void test_checksums_come_by_themselves(void **state)
{
	static const char *const soon[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	uint64_t found = 0;

	restart_begin(soon);
	for (long ms = 10; found < SOME && ms < 20000; ms *= 2) {
		for (uint64_t key = 1; key <= SOME; key++)
			if (!restart_find(key))
				restart_store(key, 1);
		restart_pause_ms(ms);
		restart_kill();
		found = restart_find_all(1, SOME);
	}
	assert_int_equal(found, SOME);
	restart_end();
}

/* ---- what has rotted ---- */

static void test_a_bit_of_a_block(void **state)
{
	(void)state;
	unsigned char bytes[RESTART_BLOCK];

	restart_begin(in_ddr);
	restart_store(1, SOME);
	kv_fill(SOME / 2, bytes, sizeof(bytes));
	kept_memory_flip(&daemon_, "hbmd-ddr", bytes, 64, RESTART_BLOCK - 1);
	restart_kill();
	/* a hit, as long as nobody has looked */
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME);
	assert_int_equal(restart_find_all(1, SOME / 2 - 1), SOME / 2 - 1);
	assert_int_equal(kv_load(&restart_kv, 0, SOME / 2, 1, restart_results), 0);
	assert_int_equal(restart_results[0].status, HBM_MISS);
	assert_int_equal(restart_status().checksum_failures, 1);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME / 2 - 1);
	assert_int_equal(kv_store(&restart_kv, 0, SOME / 2, 1, SOME / 2 - 1, restart_results), 0);
	assert_int_equal(restart_results[0].status, HBM_OK);
	assert_int_equal(restart_find_all(1, SOME / 2), SOME / 2);
	restart_end();
}

static void test_a_bit_of_a_record(void **state)
{
	(void)state;
	const hbm_key key = kv_key(SOME / 2);

	restart_begin(in_ddr);
	for (uint64_t i = 1; i <= SOME; i++)
		restart_store(i, 1);
	kept_memory_flip(&daemon_, "hbmd-state", &key, sizeof(key), 3);
	restart_kill();
	assert_int_equal(restart_status().ddr_restored, SOME - 1);
	assert_true(spawn_logged(&daemon_, "records of the state had a wrong checksum"));
	assert_int_equal(restart_find_all(1, SOME), SOME - 1);
	assert_false(restart_find(SOME / 2));
	assert_int_equal(restart_status().checksum_failures, 0);
	restart_end();
}

/* ---- kills at any moment ---- */

<<<<<<< HEAD
enum loss {
	NOTHING,
	NEW,  /* blocks that were stored in this life: they may have no checksum yet */
	MOVED /* one for each operation of this life: what it has moved the catalog may not have */
};

static struct {
	bool there[KEYS + 1];               /* acknowledged */
	bool before[KEYS + 1];              /* it was there when this life began, and is since */
	bool unsure[KEYS + 1];              /* its last operation was not answered */
	uint64_t operations;                /* of this life */
	uint64_t acknowledged, lost, lives; /* of all */
} record;

static pid_t victim;
static atomic_bool killed;

static void *kill_later(void *arg)
{
	const struct timespec time = {0, *(long *)arg};

	nanosleep(&time, NULL);
	kill(victim, SIGKILL);
	atomic_store(&killed, true);
	return NULL;
}

static uint64_t group_of(uint64_t key)
{
	return (key - 1) / GROUP * GROUP + 1;
}

/* False: the daemon is dead. */
static bool try_store(uint64_t key)
{
	uint64_t parent = key == group_of(key) ? 0 : key - 1;

	record.unsure[key] = !record.there[key];
	int r = kv_store(&kv, key % SLOTS, key, 1, parent, results);
	if (r < 0)
		return false;

	record.unsure[key] = false;
	record.there[key] |= results[0].status == HBM_OK || results[0].status == HBM_EXISTS;

	return true;
}

/* What continues it goes with it, unless it has come back without it, as a root. */
static bool try_remove(uint64_t key, enum loss loss)
{
	for (uint64_t i = key; i < group_of(key) + GROUP; i++) {
		record.unsure[i] |= record.there[i];
		record.there[i] = record.before[i] = false;
	}

	if (kv_keys(&kv, HBM_WIRE_REMOVE, key, 1, 0, results) < 0)
		return false;
	for (uint64_t i = key; i < group_of(key) + GROUP; i++)
		record.unsure[i] = i > key && loss != NOTHING;

	return true;
}

static bool try_load(uint64_t key)
{
	return kv_load(&kv, 0, key, 1, results) >= 0;
}

static bool operate(enum loss loss)
{
	uint64_t key = 1 + seed_below(&seed, KEYS);

	record.operations++;
	while (key > group_of(key) && !record.there[key - 1])
		key--;
	if (!record.there[key])
		return try_store(key);
	if (seed_below(&seed, 6) == 0)
		return try_remove(key, loss);
	if (loss == MOVED && seed_below(&seed, 4) == 0)
		return hbm_evict(kv.hbm, HBM_TIER_DDR, 0, BLOCK, NULL) >= 0;

	return try_load(key);
}

/* What is there, now that the daemon has come back: the record is that from now on. */
static void compare(enum loss loss)
{
	uint64_t lost = 0;

	for (uint64_t key = 1; key <= KEYS; key++) {
		bool found = find(key), could_go = loss == MOVED || !record.before[key];

		record.acknowledged += record.there[key];
		if (record.there[key] && !record.unsure[key] && !found) {
			assert_true(loss != NOTHING && could_go);
			lost++;
		}
		/* what was removed is so, where no catalog has it still */
		if (!record.there[key] && !record.unsure[key] && loss != MOVED)
			assert_false(found);
		record.there[key] = record.before[key] = found;
		record.unsure[key] = false;
	}

	assert_in_range(lost, 0, record.operations);
	record.lost += lost;
	record.lives++;
}

/* All that has moved is where the next daemon will look for it. */
static void settle(enum loss loss)
{
	kv_await_moves(&kv);
	while (loss == MOVED && status().catalog_unflushed > 0)
		pause_ms(2);
}

static void live(enum loss loss)
{
	pthread_t killer;
	long after = (long)seed_below(&seed, WITHIN_US) * 1000;

	settle(loss);
	record.operations = 0;
	victim = keeper_daemon(&daemon_);
	atomic_store(&killed, false);
	assert_int_equal(pthread_create(&killer, NULL, kill_later, &after), 0);
	/* the last operation waits for the next daemon, and is repeated there */
	while (!atomic_load(&killed) && operate(loss))
		;
	pthread_join(killer, NULL);
	keeper_await_next(&daemon_, victim);
	assert_true(spawn_balanced(&daemon_));
	if (seed_below(&seed, 2) == 0) {
		disconnect();
		connect_again();
	}
	compare(loss);
}

static unsigned lives(void)
{
	const char *given = getenv("HBM_TEST_LIVES");
	return given ? (unsigned)atoi(given) : effort_of(LIVES);
}

static void kill_at_random(const char *const *sets, enum loss loss)
{
	memset(&record, 0, sizeof(record));
	begin(sets);
	for (unsigned i = 0; i < lives(); i++)
		live(loss);
	/* what the catalog has not heard of yet may be another's by now: a miss, and counted */
	if (loss != MOVED)
		assert_int_equal(status().checksum_failures, 0);
	end();
	fprintf(stderr, "%llu lives: %llu blocks acknowledged, %llu of them lost\n",
		(unsigned long long)record.lives, (unsigned long long)record.acknowledged,
		(unsigned long long)record.lost);
}

=======
>>>>>>> 56d911c (hbm_kept: blocks in HBM outlive the daemon)
static void test_nothing_is_lost(void **state)
{
	(void)state;
	restart_at_random(&seed, in_ddr, RESTART_LOSES_NOTHING, LIVES);
}

static void test_only_what_is_new_is_lost(void **state)
{
	static const char *const sets[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	restart_at_random(&seed, sets, RESTART_LOSES_NEW, LIVES);
}

static void test_only_what_moves_is_lost(void **state)
{
	static const char *const sets[] = {"device.cache=0",       "ddr.size=2MiB",
					   "ddr.headroom=1MiB",    "nvme.size=16MiB",
					   "nvme.catalog_ms=1",    "nvme.catalog_flush_ms=1",
					   "hbmd.checksum=always", NULL};
	(void)state;
	restart_at_random(&seed, sets, RESTART_LOSES_MOVED, LIVES);
}

/* What a killed daemon had not overwritten yet may be anywhere in its memory, so that the next one
 * begins with new memory, and others' blocks are misses, too. */
static void test_what_is_wiped_does_not_outlive_it(void **state)
{
	const struct hbm_namespace_options wiped = {
		.model = "wiped", .block_bytes = RESTART_BLOCK, .wipe_on_free = true};
	uint32_t ns;

	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_find_all(1, SOME), SOME);
	assert_int_equal(hbm_namespace_open(restart_kv.hbm, &wiped, &ns), 0);
	restart_kill();
	assert_int_equal(restart_status().ddr_restored, 0);
	assert_int_equal(restart_find_all(1, SOME), 0);
	restart_store(1, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

int main(void)
{
	seed_open(&seed, "restart_contents");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_are_hits),
		TEST(test_a_new_daemon_takes_over),
		TEST(test_without_a_checksum_it_is_a_miss),
		TEST(test_checksums_come_by_themselves),
		TEST(test_a_bit_of_a_block),
		TEST(test_a_bit_of_a_record),
		TEST(test_what_is_wiped_does_not_outlive_it),
		TEST(test_nothing_is_lost),
		TEST(test_only_what_is_new_is_lost),
		TEST(test_only_what_moves_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
