/* SPDX-License-Identifier: Apache-2.0 */
/* Host regions whose client or daemon is killed: the memory of a client is no one else's while its
 * process lives, and all of it comes back; and a daemon that is killed, at whatever moment, leaves
 * its clients what they have, for the next one to go on with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/host_stage.h"
#include "tests/support/keeper_rig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOTS = 10, KILLS = 12, OPERATIONS = 12, KILL_WITHIN_US = 60000 };

/* ---- Clients ---- */

/* Hangs up, and keeps its mapping. */
static void hang_up(const struct spawn *spawn, uint64_t slabs)
{
	struct hbm *hbm = spawn_connect(spawn);
	struct hbm_region *region = host_make(hbm, slabs * HOST_SLAB);

	memset(host_at(region, 0), 1, slabs * HOST_SLAB);
	shutdown(hbm_fd(hbm), SHUT_RDWR);
	child_tell();
	for (;;)
		memset(host_at(region, 0), 2, slabs * HOST_SLAB);
}

/* Loads and stores until it is killed. */
static void work(const struct spawn *spawn, uint64_t slabs)
{
	struct hbm *hbm = spawn_connect(spawn);
	const struct hbm_namespace_options options = {
		.model = "work", .block_bytes = HOST_BLOCK, .ephemeral = true};
	struct hbm_region *region = host_make(hbm, slabs * HOST_SLAB);
	uint32_t ns;

	if (hbm_namespace_open(hbm, &options, &ns) != 0)
		_exit(3);
	host_fill(region);
	host_store(hbm, ns, region);
	child_tell();
	for (;;) {
		host_load(hbm, ns, region);
		if (host_decommit(hbm, region, HOST_SLAB, HOST_SLAB) != 0 ||
		    host_commit(hbm, region, HOST_SLAB, HOST_SLAB) != 0)
			_exit(3);
	}
}

static void test_memory_of_a_process_that_lives_is_quarantined(void **state)
{
	(void)state;
	struct child child;

	child_start(&child, "hang_up", &daemon_, 4);
	child_await(&child);
	while (host_pool(host_hbm).leased > 0)
		usleep(1000);
	assert_int_equal(host_pool(host_hbm).quarantined, 4 * HOST_SLAB);

	struct hbm_region *region = host_create(host_hbm, HOST_POOL);
	assert_int_equal(host_commit(host_hbm, region, 0, HOST_POOL), HBM_NO_SPACE);
	assert_int_equal(host_commit(host_hbm, region, 0, HOST_POOL - 4 * HOST_SLAB), 0);
	for (uint64_t at = 0; at < HOST_POOL - 4 * HOST_SLAB; at += 4096)
		assert_int_equal(*host_at(region, at), 0);

	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	host_await(host_hbm, HOST_POOL - 4 * HOST_SLAB);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

static void test_killed_clients_leave_nothing(void **state)
{
	(void)state;
	struct child child;

	for (unsigned i = 0; i < 8; i++) {
		child_start(&child, "work", &daemon_, 4);
		child_await(&child);
		usleep(1000 * i);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		host_await(host_hbm, 0);
		assert_true(spawn_balanced(&daemon_));
	}
}

/* ---- Daemons ---- */

static struct seed seed;

static int kept_setup(void **state)
{
	stage_setup(state);
	seed_open(&seed, "test_host_region_kept");
	keeper_start(&daemon_, host_stage_sets, NULL);
	host_hbm = spawn_connect(&daemon_);

	return 0;
}

static int kept_teardown(void **state)
{
	host_hbm = hbm_close(host_hbm);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);

	return stage_teardown(state);
}

static void test_a_region_outlives_its_daemon(void **state)
{
	(void)state;
	struct hbm_region *region = host_create(host_hbm, 4 * HOST_SLAB);
	uint32_t ns = host_namespace(host_hbm);
	char *address = hbm_region_host(region);

	assert_int_equal(host_commit(host_hbm, region, HOST_SLAB, 2 * HOST_SLAB), 0);
	memset(address + 2 * HOST_SLAB, 7, HOST_SLAB);
	assert_int_equal(host_commit(host_hbm, region, 0, HOST_SLAB), 0);
	host_fill(region);
	host_store(host_hbm, ns, region);
	keeper_kill(&daemon_);

	assert_int_equal(address[3 * HOST_SLAB - 1], 7);
	assert_int_equal(host_pool(host_hbm).leased, 3 * HOST_SLAB);
	memset(address, 0, HOST_SLAB);
	host_load(host_hbm, ns, region);
	host_check(region);
	assert_int_equal(host_decommit(host_hbm, region, HOST_SLAB, HOST_SLAB), 0);
	assert_int_equal(host_commit(host_hbm, region, 3 * HOST_SLAB, HOST_SLAB), 0);
	host_await(host_hbm, 3 * HOST_SLAB);
	keeper_kill(&daemon_);
	assert_int_equal(address[3 * HOST_SLAB - 1], 7);
	host_check(region);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	host_await(host_hbm, 0);
}

static void operate(struct hbm_region *region, uint32_t ns, uint8_t words[SLOTS])
{
	uint64_t slot = 1 + seed_below(&seed, SLOTS - 1), at = slot * HOST_SLAB;

	if (slot == 1) {
		host_load(host_hbm, ns, region);
	} else if (words[slot] == 0) {
		assert_int_equal(host_commit(host_hbm, region, at, HOST_SLAB), 0);
		words[slot] = (uint8_t)(1 + seed_below(&seed, 255));
		memset(host_at(region, at), words[slot], HOST_SLAB);
	} else {
		assert_int_equal(host_decommit(host_hbm, region, at, HOST_SLAB), 0);
		words[slot] = 0;
	}
}

static void test_daemons_that_are_killed_at_random(void **state)
{
	(void)state;
	struct hbm_region *region = host_create(host_hbm, SLOTS * HOST_SLAB);
	uint32_t ns = host_namespace(host_hbm);
	uint8_t words[SLOTS] = {0};

	assert_int_equal(host_commit(host_hbm, region, 0, HOST_SLAB), 0);
	host_fill(region);
	host_store(host_hbm, ns, region);
	for (unsigned kill = 0; kill < KILLS; kill++) {
		pid_t before = keeper_daemon(&daemon_);

		keeper_kill_within(&daemon_, &seed, KILL_WITHIN_US);
		for (unsigned i = 0; i < OPERATIONS; i++)
			operate(region, ns, words);
		keeper_await_next(&daemon_, before);
		host_check(region);
		for (uint64_t slot = 1; slot < SLOTS; slot++)
			for (uint64_t at = 0; words[slot] != 0 && at < HOST_SLAB; at += 4096)
				assert_int_equal((uint8_t)*host_at(region, slot * HOST_SLAB + at),
						 words[slot]);
		assert_true(spawn_balanced(&daemon_));
	}

	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	host_await(host_hbm, 0);
}

static const struct child_part parts[] = {{"hang_up", hang_up}, {"work", work}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory_of_a_process_that_lives_is_quarantined,
						host_stage_setup, host_stage_teardown),
		cmocka_unit_test_setup_teardown(test_killed_clients_leave_nothing, host_stage_setup,
						host_stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_region_outlives_its_daemon, kept_setup,
						kept_teardown),
		cmocka_unit_test_setup_teardown(test_daemons_that_are_killed_at_random, kept_setup,
						kept_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
