/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that one user has written to and another gets: what a client that was killed, or that has
 * gone in order, has left is looked for by the client of another user in all that the daemon hands
 * out: a new region, one that grows, what it attaches, what it borrows, the slabs of sequences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/pool_rig.h"
#include "tests/support/system_stage.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 65536u
#define SECRET 0x5ec7e75ec7e75ec7u
#define LAYOUT "layers=2 heads=3 dim=9000 bytes=4 order=token max=64"

static const char *const sets[] = {"hbmd.socket_mode=0666", "device.lend=8MiB", NULL};
static const struct hbm_pool_options one_pool = {.max_sequences = 4};
static const struct hbm_pool_options warm_pool = {.max_sequences = 1, .warm_bytes = 64 << 20};

/* ---- the first ---- */

static void write_secret(struct kv *kv, uint64_t address, uint64_t bytes)
{
	uint64_t *words = malloc(RIG_SLAB);

	assert_non_null(words);
	for (size_t i = 0; i < RIG_SLAB / sizeof(*words); i++)
		words[i] = SECRET;
	for (uint64_t at = 0; at < bytes; at += RIG_SLAB)
		kv_write(kv, address + at, words, RIG_SLAB);
	free(words);
}

/* All that there is: half of it in a region, part of which outlives it, half in sequences. */
static void fill_memory(const struct spawn *spawn)
{
	static struct pool_rig rig; /* reachable when the process ends without closing it */

	pool_rig_open(&rig, spawn, LAYOUT, &one_pool);
	for (int i = 0; i < 4; i++) {
		struct hbm_sequence *sequence = pool_rig_sequence(&rig);

		assert_int_equal(pool_rig_step(&rig, sequence, RIG_MAX), 0);
		write_secret(&rig.kv, pool_rig_facts(sequence).address,
			     pool_rig_facts(sequence).mapped_bytes / RIG_SLAB * RIG_SLAB);
	}

	struct hbm_region *region =
		kv_region(&rig.kv, system_stage_memory(rig.hbm, 0).available / RIG_SLAB * RIG_SLAB);

	write_secret(&rig.kv, hbm_region_address(region), hbm_region_bytes(region));
}

static void fill_and_die(const struct spawn *spawn, uint64_t number)
{
	fill_memory(spawn);
	if (number == 0)
		raise(SIGKILL);
}

/* Its memory is free again when this returns. */
static void play_first(bool killed)
{
	struct child child;

	child_start(&child, "fill_and_die", &daemon_, killed ? 0 : 1);
	assert_int_equal(child_wait(&child), killed ? 128 + SIGKILL : 0);
	spawn_settle(&daemon_);
}

/* ---- the second ---- */

static bool has_secret(struct kv *kv, uint64_t address, uint64_t bytes)
{
	uint64_t *words = malloc(RIG_SLAB);
	bool found = false;

	assert_non_null(words);
	for (uint64_t at = 0; at < bytes && !found; at += RIG_SLAB) {
		uint64_t size = bytes - at < RIG_SLAB ? bytes - at : RIG_SLAB;

		kv_read(kv, words, address + at, size);
		for (size_t i = 0; i < size / sizeof(*words); i++)
			found |= words[i] == SECRET;
	}
	free(words);

	return found;
}

static void open_guest(struct kv *kv)
{
	assert_int_equal(seteuid(GUEST), 0);
	kv_open(kv, &daemon_, 0, BLOCK, 32);
	assert_int_equal(seteuid(0), 0);
}

static void expect_region_clear(struct kv *kv, struct hbm_region *region)
{
	assert_false(has_secret(kv, hbm_region_address(region), hbm_region_bytes(region)));
}

static uint64_t free_memory(struct kv *kv)
{
	return system_stage_memory(kv->hbm, 0).available / RIG_SLAB * RIG_SLAB;
}

static void look_in_new_regions(struct kv *kv)
{
	expect_region_clear(kv, kv->region);
	struct hbm_region *all = kv_region(kv, free_memory(kv));

	expect_region_clear(kv, all);
	assert_int_equal(hbm_region_destroy(kv->hbm, all), 0);
}

static void look_in_growing_regions(struct kv *kv)
{
	const uint64_t bytes = free_memory(kv);
	const struct hbm_region_options options = {.address_space = bytes};
	struct hbm_region *region;

	assert_int_equal(hbm_region_create(kv->hbm, &options, &region), 0);
	for (uint64_t at = 0; at < bytes; at += RIG_SLAB) {
		const struct hbm_range range = {region, at, RIG_SLAB};

		assert_int_equal(hbm_commit(kv->hbm, &range, 1), 0);
		assert_false(has_secret(kv, hbm_region_address(region) + at, RIG_SLAB));
	}
	assert_int_equal(hbm_region_destroy(kv->hbm, region), 0);
}

/* A third process's view of what the second publishes. */
static void look_in_what_is_attached(struct kv *kv)
{
	const struct hbm_publish_options options = {.name = "weights"};
	struct hbm_region *region = kv_region(kv, free_memory(kv)), *attached;
	struct kv third;
	int status;

	/* As much as one user may publish. */
	for (uint64_t bytes = hbm_region_bytes(region);; bytes -= RIG_SLAB) {
		status = hbm_region_publish(kv->hbm, region, 0, bytes, &options);
		if (status != HBM_LIMIT)
			break;
	}
	assert_int_equal(status, 0);
	assert_int_equal(seteuid(GUEST), 0);
	third = (struct kv){.block_bytes = BLOCK, .buffer = malloc(BLOCK)};
	third.hbm = spawn_connect(&daemon_);
	kv_enter(&third, third.hbm, 0);
	assert_int_equal(hbm_region_attach(third.hbm, HBM_OWN_UID, "weights", 0, &attached), 0);
	assert_int_equal(seteuid(0), 0);
	expect_region_clear(&third, attached);
	assert_int_equal(hbm_region_destroy(third.hbm, attached), 0);
	kv_leave(&third);
	hbm_close(third.hbm);
	free(third.buffer);
	assert_int_equal(hbm_region_unpublish(kv->hbm, HBM_OWN_UID, "weights"), 0);
	assert_int_equal(hbm_region_destroy(kv->hbm, region), 0);
}

/* The block is small, what is lent is a slab. */
static void look_in_what_is_lent(struct kv *kv)
{
	hbm_result results[8];
	struct hbm_loan *loans[8];
	hbm_key keys[8];
	uint64_t address;

	assert_int_equal(kv_store(kv, 0, 1, 8, 0, results), 0);
	for (uint64_t i = 0; i < 8; i++)
		keys[i] = kv_key(1 + i);
	assert_int_equal(hbm_borrow(kv->hbm, kv->ns, 0, 0, keys, 8, loans, results), 0);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		assert_int_equal(hbm_loan_map(kv->hbm, loans[i], &address), 0);
		assert_false(has_secret(kv, address / RIG_SLAB * RIG_SLAB, RIG_SLAB));
	}
	assert_int_equal(hbm_return(kv->hbm, loans, 8), 0);
}

static void look_in_sequences(void)
{
	struct pool_rig rig;

	assert_int_equal(seteuid(GUEST), 0);
	pool_rig_open(&rig, &daemon_, LAYOUT, &one_pool);
	assert_int_equal(seteuid(0), 0);
	for (int i = 0; i < 4; i++) {
		struct hbm_sequence *sequence = pool_rig_sequence(&rig);

		assert_int_equal(pool_rig_step(&rig, sequence, RIG_MAX), 0);
		assert_false(
			has_secret(&rig.kv, pool_rig_facts(sequence).address,
				   pool_rig_facts(sequence).mapped_bytes / RIG_SLAB * RIG_SLAB));
	}
	pool_rig_close(&rig);
}

/* A daemon whose memory others have had, of which the driver clears nothing: as on a host that has
 * that turned off. */
static unsigned start_dirty(const char *scrub)
{
	static const char *const dirt[] = {"HBM_SOFT=dirt=5ec7e75ec7e75ec7", NULL};
	const char *const dirty[] = {"hbmd.socket_mode=0666", "device.lend=8MiB", scrub, NULL};

	guest_admit(&daemon_);
	spawn_needs_soft(); /* whose memory can be looked through */
	spawn_start(&daemon_, dirty, dirt);

	return spawn_fds(&daemon_);
}

static void test_what_is_dirty_is_scrubbed(void **state)
{
	(void)state;
	struct kv second;

	unsigned fds = start_dirty("device.scrub=yes");

	open_guest(&second);
	look_in_new_regions(&second);
	look_in_growing_regions(&second);
	look_in_what_is_attached(&second);
	look_in_what_is_lent(&second);
	kv_close(&second);
	look_in_sequences();
	stage_finish(fds);
}

/* That dirt is seen where it is not scrubbed. */
static void test_what_is_not_scrubbed_is_seen(void **state)
{
	(void)state;
	struct kv second;

	unsigned fds = start_dirty("device.scrub=no");

	open_guest(&second);
	struct hbm_region *region = kv_region(&second, RIG_SLAB);

	assert_true(has_secret(&second, hbm_region_address(region), RIG_SLAB));
	kv_close(&second);
	stage_finish(fds);
}

static void look_everywhere(bool killed)
{
	struct kv second;

	guest_admit(&daemon_);
	spawn_needs_soft(); /* whose memory can be looked through */
	system_stage_start(sets);
	play_first(killed);
	open_guest(&second);
	look_in_new_regions(&second);
	kv_close(&second);

	play_first(killed);
	open_guest(&second);
	look_in_growing_regions(&second);
	kv_close(&second);

	play_first(killed);
	open_guest(&second);
	look_in_what_is_attached(&second);
	kv_close(&second);

	play_first(killed);
	open_guest(&second);
	look_in_what_is_lent(&second);
	kv_close(&second);

	play_first(killed);
	look_in_sequences();
	system_stage_finish();
}

static void test_after_a_kill(void **state)
{
	(void)state;
	look_everywhere(true);
}

static void test_after_an_end(void **state)
{
	(void)state;
	look_everywhere(false);
}

/* Within one process nothing is cleared: slabs that a sequence leaves are the next one's as they
 * are, without a call. And it can be seen here whether something is. */
static void test_ones_own_is_not_cleared(void **state)
{
	struct pool_rig rig;

	(void)state;
	spawn_needs_soft(); /* whose memory can be looked through */
	system_stage_start(NULL);
	pool_rig_open(&rig, &daemon_, LAYOUT, &warm_pool);
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, sequence, RIG_MAX), 0);
	write_secret(&rig.kv, pool_rig_facts(sequence).address, RIG_SLAB);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	sequence = pool_rig_sequence(&rig);
	assert_int_equal(pool_rig_step(&rig, sequence, RIG_MAX), 0);
	assert_true(has_secret(&rig.kv, pool_rig_facts(sequence).address, RIG_SLAB));
	pool_rig_close(&rig);
	system_stage_finish();
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	static const struct child_part parts[] = {{"fill_and_die", fill_and_die}, {NULL, NULL}};

	child_main(argc, argv, parts);

	/* Loaded before: GUEST cannot open it where the build is in a folder of root's. */
	const char *driver = getenv("HBM_SOFT_DRIVER");
	if (driver)
		(void)dlopen(driver, RTLD_NOW);

	const struct CMUnitTest tests[] = {
		TEST(test_after_a_kill),
		TEST(test_after_an_end),
		TEST(test_ones_own_is_not_cleared),
		TEST(test_what_is_dirty_is_scrubbed),
		TEST(test_what_is_not_scrubbed_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
