/* SPDX-License-Identifier: Apache-2.0 */
/* Shared slabs end to end: what both addresses hold, in the client and in the daemon, what
 * is charged, clients that are killed, and devices that fail in the daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLAB (2ull << 20)
#define BLOCK 65536u
#define PER_SLAB (SLAB / BLOCK)

static unsigned fds;

static void start(void)
{
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
}

static int teardown(void **state)
{
	if (daemon_.pid > 0)
		stage_finish(fds);
	return stage_teardown(state);
}

static struct hbm_region *create(struct hbm *hbm, uint64_t slabs)
{
	const struct hbm_region_options options = {.address_space = slabs * SLAB, .slab = SLAB};
	struct hbm_region *region = NULL;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	return region;
}

static int commit(struct hbm *hbm, struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	return hbm_commit(hbm, &(const struct hbm_range){region, first * SLAB, slabs * SLAB}, 1);
}

static int decommit(struct hbm *hbm, struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	return hbm_decommit(hbm, &(const struct hbm_range){region, first * SLAB, slabs * SLAB}, 1);
}

static int share(struct hbm *hbm, struct hbm_region *source, uint64_t first,
		 struct hbm_region *target, uint64_t to, uint64_t slabs, uint32_t flags)
{
	const struct hbm_share one = {source,       target, first * SLAB, to * SLAB,
				      slabs * SLAB, flags,  NULL};
	return hbm_share(hbm, &one, 1);
}

struct sums {
	uint64_t leased, committed, shared;
};

static int add_device(const void *record, size_t bytes, void *arg)
{
	(void)bytes;
	((struct sums *)arg)->leased += ((const struct hbm_wire_device *)record)->leased;
	return 0;
}

static int add_region(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_region *region = record;
	struct sums *sums = arg;

	assert_int_equal(bytes, sizeof(*region));
	sums->committed += region->committed;
	sums->shared += region->shared;

	return 0;
}

/* In slabs: what the device has leased, what regions have committed, what of it is shared. */
static void assert_sums(struct hbm *hbm, uint64_t leased, uint64_t committed, uint64_t shared)
{
	struct sums sums = {0};

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, add_device, &sums), 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_REGIONS, add_region, &sums), 0);
	assert_int_equal(sums.leased, leased * SLAB);
	assert_int_equal(sums.committed, committed * SLAB);
	assert_int_equal(sums.shared, shared * SLAB);
	assert_true(spawn_balanced(&daemon_));
}

static void assert_block(struct kv *kv, uint64_t address, uint64_t block)
{
	static char seen[BLOCK], expected[BLOCK];

	kv_fill(block, expected, BLOCK);
	kv_read(kv, seen, address, BLOCK);
	assert_memory_equal(seen, expected, BLOCK);
}

/* Written through one address, read through the other, by the client and by the daemon. */
static void test_bytes(void **state)
{
	(void)state;
	start();
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, 2 * PER_SLAB);
	struct hbm_region *fork = create(kv.hbm, 8), *own = kv.region;

	kv_put(&kv, 3, 77);
	assert_int_equal(share(kv.hbm, own, 0, fork, 4, 2, 0), 0);
	assert_sums(kv.hbm, 2, 4, 4);
	assert_block(&kv, hbm_region_address(fork) + 4 * SLAB + 3 * BLOCK, 77);

	/* A store from the fork is what was put into the source, a load into it is there. */
	kv_put(&kv, 0, 5);
	const struct hbm_segment segment = {fork, 4 * SLAB, BLOCK};
	const struct hbm_block block = {.key = kv_key(5), .segments = &segment, .segment_count = 1};
	hbm_result result;
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_wipe(&kv, 0);
	assert_int_equal(kv_holds(&kv, 0, 5), 0);
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(kv_holds(&kv, 0, 5), 1);

	/* The source goes, and the bytes stay. */
	assert_int_equal(decommit(kv.hbm, own, 0, 1), 0);
	assert_sums(kv.hbm, 2, 3, 2);
	assert_block(&kv, hbm_region_address(fork) + 4 * SLAB + 3 * BLOCK, 77);
	assert_int_equal(decommit(kv.hbm, fork, 4, 2), 0);
	assert_sums(kv.hbm, 1, 1, 0);
	kv_close(&kv);
}

static void test_read_only(void **state)
{
	(void)state;
	start();
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, PER_SLAB);
	struct hbm_region *fork = create(kv.hbm, 4);
	const struct hbm_segment segment = {fork, 0, BLOCK};
	const struct hbm_block block = {.key = kv_key(9), .segments = &segment, .segment_count = 1};
	hbm_result result;

	kv_put(&kv, 0, 9);
	assert_int_equal(share(kv.hbm, kv.region, 0, fork, 0, 1, HBM_SHARE_READ_ONLY), 0);
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, &result), HBM_DENIED);
	assert_non_null(strstr(hbm_error(kv.hbm), "read-only"));

	/* The flag goes with the slabs. */
	assert_int_equal(decommit(kv.hbm, fork, 0, 1), 0);
	assert_int_equal(share(kv.hbm, kv.region, 0, fork, 0, 1, 0), 0);
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	assert_int_equal(share(kv.hbm, kv.region, 0, fork, 1, 1, HBM_SHARE_READ_ONLY), 0);
	assert_int_equal(decommit(kv.hbm, fork, 0, 2), 0);
	assert_int_equal(commit(kv.hbm, fork, 0, 2), 0);
	const struct hbm_segment second = {fork, SLAB, BLOCK};
	const struct hbm_block there = {.key = kv_key(9), .segments = &second, .segment_count = 1};
	assert_int_equal(hbm_load(kv.hbm, kv.ns, &there, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_close(&kv);
}

/* More slabs than one turn of the control worker, or one reply with descriptors, takes. */
static void test_a_long_fork(void **state)
{
	(void)state;
	enum { LENGTH = 70, FORKS = 3 };
	start();
	struct hbm *hbm = spawn_connect(&daemon_);
	struct hbm_region *region = create(hbm, LENGTH * (FORKS + 1));
	struct hbm_share forks[FORKS];

	assert_int_equal(commit(hbm, region, 0, LENGTH), 0);
	for (uint64_t i = 0; i < FORKS; i++)
		forks[i] = (struct hbm_share){region,        region, 0,   (i + 1) * LENGTH * SLAB,
					      LENGTH * SLAB, 0,      NULL};
	assert_int_equal(hbm_share(hbm, forks, FORKS), 0);
	assert_sums(hbm, LENGTH, (FORKS + 1) * LENGTH, (FORKS + 1) * LENGTH);
	assert_int_equal(decommit(hbm, region, 0, LENGTH * FORKS), 0);
	assert_sums(hbm, LENGTH, LENGTH, 0);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_sums(hbm, 0, 0, 0);
	hbm_close(hbm);
}

static uint64_t descriptors(void)
{
	uint64_t count = 0;
	for (int fd = 0; fd < 1024; fd++)
		count += dup2(fd, fd) == fd;
	return count;
}

/* Slabs go round in a region: nothing is allocated, and no descriptor is used. */
static void test_moving_slabs(void **state)
{
	(void)state;
	start();
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, 4 * PER_SLAB);
	struct hbm_region *ring = create(kv.hbm, 8);
	uint64_t before = 0;

	kv_put(&kv, 0, 123);
	assert_int_equal(share(kv.hbm, kv.region, 0, ring, 0, 4, 0), 0);
	assert_int_equal(decommit(kv.hbm, kv.region, 0, 4), 0);
	for (uint64_t turn = 0; turn < 10; turn++) {
		uint64_t from = turn % 2 * 4;

		assert_int_equal(share(kv.hbm, ring, from, ring, 4 - from, 4, 0), 0);
		assert_int_equal(decommit(kv.hbm, ring, from, 4), 0);
		assert_sums(kv.hbm, 4, 4, 0);
		if (turn == 0)
			before = descriptors();
	}

	assert_int_equal(descriptors(), before);
	assert_block(&kv, hbm_region_address(ring), 123);
	kv_close(&kv);
}

/* ---- Clients that are killed ---- */

static void must(int status)
{
	if (status != 0) {
		fprintf(stderr, "client: %s\n", hbm_strerror(status));
		_exit(3);
	}
}

/* As many steps as are asked for, the last of them only begun. */
static void live_and_die(const struct spawn *spawn, uint64_t steps)
{
	struct hbm *hbm = NULL;
	struct hbm_region *one = NULL, *two = NULL;
	const struct hbm_options options = {.socket = spawn->socket};
	const struct hbm_region_options space = {.address_space = 16 * SLAB, .slab = SLAB};
	hbm_ticket ticket;

	must(hbm_connect(&hbm, &options));
	must(hbm_region_create(hbm, &space, &one));
	must(hbm_region_create(hbm, &space, &two));
	must(commit(hbm, one, 0, 8));
	const struct hbm_share fork = {one, two, 0, 4 * SLAB, 8 * SLAB, 0, NULL},
			       again = {two, one, 4 * SLAB, 8 * SLAB, 4 * SLAB, 0, NULL};
	const struct hbm_range source = {one, 0, 4 * SLAB};
	for (uint64_t step = 0; step < steps; step++) {
		switch (step) {
		case 0:
			must(hbm_submit_share(hbm, &fork, 1, &ticket));
			break;
		case 1:
		case 3:
		case 5:
			must(hbm_wait(hbm, ticket, 20000));
			break;
		case 2:
			must(hbm_submit_share(hbm, &again, 1, &ticket));
			break;
		case 4:
			must(hbm_submit_decommit(hbm, &source, 1, &ticket));
			break;
		default:
			must(hbm_region_destroy(hbm, one));
			break;
		}
	}
	kill(getpid(), SIGKILL);
}

static void test_killed_at_every_step(void **state)
{
	(void)state;
	start();
	for (uint64_t steps = 0; steps <= 7; steps++) {
		struct child child;

		child_start(&child, "live_and_die", &daemon_, steps);
		assert_int_equal(child_wait(&child), 128 + SIGKILL);
		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
		spawn_expect_fds(&daemon_, fds);
	}
}

/* ---- A device that fails in the daemon ---- */

/* The n-th cuMemMap of the daemon fails: of the commit, of the share, or of none. */
static void share_with_failing(const char *call, unsigned nth)
{
	char fault[64];
	snprintf(fault, sizeof(fault), "soft.fail=%s:%u", call, nth);
	const char *const sets[] = {fault, NULL};
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);
	struct hbm_region *region = create(hbm, 16);

	if (commit(hbm, region, 0, 3) != 0)
		assert_int_equal(commit(hbm, region, 0, 3), 0);
	int status = share(hbm, region, 0, region, 8, 3, 0);
	if (status != 0) {
		assert_int_equal(status, HBM_DEVICE);
		assert_sums(hbm, 3, 3, 0);
		assert_int_equal(share(hbm, region, 0, region, 8, 3, 0), 0);
	}
	assert_sums(hbm, 3, 6, 6);
	hbm_close(hbm);
	stage_finish(fds);
}

static void test_failing_devices(void **state)
{
	(void)state;
	spawn_needs_soft();
	for (unsigned n = 1; n <= 7; n++)
		share_with_failing("cuMemMap", n);
	for (unsigned n = 1; n <= 3; n++)
		share_with_failing("cuMemSetAccess", n);
}

/* ---- What an operator sees ---- */

static void test_hbmctl(void **state)
{
	(void)state;
	char out[8192];
	start();
	struct hbm *hbm = spawn_connect(&daemon_);
	struct hbm_region *region = create(hbm, 16);

	assert_int_equal(commit(hbm, region, 0, 3), 0);
	assert_int_equal(share(hbm, region, 0, region, 8, 2, 0), 0);
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"--json", "regions", NULL}, out,
				      sizeof(out)),
			 0);
	assert_non_null(strstr(out, "\"committed\": 10485760"));
	assert_non_null(strstr(out, "\"shared\": 8388608"));
	assert_int_equal(
		spawn_hbmctl(&daemon_, (const char *[]){"regions", NULL}, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "SHARED"));
	hbm_close(hbm);
}

static const struct child_part parts[] = {{"live_and_die", live_and_die}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_bytes),
		TEST(test_read_only),
		TEST(test_a_long_fork),
		TEST(test_moving_slabs),
		TEST(test_killed_at_every_step),
		TEST(test_failing_devices),
		TEST(test_hbmctl),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
