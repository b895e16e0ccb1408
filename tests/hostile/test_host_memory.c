/* SPDX-License-Identifier: Apache-2.0 */
/* What a client can do with the host memory that it was handed: change its size, take its pages away
 * under the daemon, write to it while it is stored. The daemon serves on, and another client's bytes
 * and the books are what they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/host_stage.h"
#include "tests/support/raw.h"
#include "tests/support/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 60, OPENINGS = 200 };

static struct hbm *victim;
static struct hbm_region *victim_region;
static uint32_t victim_ns;

static int setup(void **state)
{
	host_stage_setup(state);
	victim = spawn_connect(&daemon_);
	victim_region = host_make(victim, HOST_SLAB);
	victim_ns = host_namespace(victim);
	host_fill(victim_region);
	host_store(victim, victim_ns, victim_region);

	return 0;
}

static void assert_the_victim_is_unharmed(void)
{
	memset(host_at(victim_region, 0), 0, HOST_SLAB);
	host_load(victim, victim_ns, victim_region);
	host_check(victim_region);
	assert_true(spawn_balanced(&daemon_));
}

static int teardown(void **state)
{
	assert_the_victim_is_unharmed();
	victim = hbm_close(victim);

	return host_stage_teardown(state);
}

static uint32_t attacker_namespace(void)
{
	const struct hbm_namespace_options options = {
		.model = "attacker", .block_bytes = HOST_BLOCK, .ephemeral = true};
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(host_hbm, &options, &ns), 0);

	return ns;
}

/* One block of the attacker's: its status. */
static int move_one(uint32_t ns, struct hbm_region *region, uint64_t key, bool store,
		    enum hbm_tier tier)
{
	const struct hbm_segment segment = {region, 0, HOST_BLOCK};
	const struct hbm_block block = {
		.key = kv_key(key), .segments = &segment, .segment_count = 1, .tier = tier};
	hbm_result result;

	assert_int_equal(store ? hbm_store(host_hbm, ns, &block, 1, &result)
			       : hbm_load(host_hbm, ns, &block, 1, &result),
			 0);

	return result.status;
}

/* The file behind a mapping, opened anew: with rights that the descriptor of it did not have. */
static int open_mapped(const void *at)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)at,
		 (unsigned long)at + (unsigned long)HOST_SLAB);

	return open(path, O_RDWR | O_CLOEXEC);
}

static void test_the_size_is_sealed(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB);
	int fd = open_mapped(host_at(region, 0));
	if (fd < 0)
		skip(); /* for root alone */

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * HOST_SLAB), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	close(fd);
}

/* In the middle of what is stored and loaded. */
static void test_pages_that_are_taken_away(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB);
	uint32_t ns = attacker_namespace();

	for (uint64_t i = 1; i <= ROUNDS; i++) {
		memset(host_at(region, 0), (int)i, HOST_BLOCK);
		assert_int_equal(madvise(host_at(region, 0), HOST_BLOCK / 2, MADV_REMOVE), 0);
		assert_int_equal(move_one(ns, region, i, true, HBM_TIER_NONE), HBM_OK);
		memset(host_at(region, 0), 255, HOST_BLOCK);
		assert_int_equal(madvise(host_at(region, 0), HOST_SLAB, MADV_REMOVE), 0);
		assert_int_equal(move_one(ns, region, i, false, HBM_TIER_NONE), HBM_OK);
		assert_int_equal(*host_at(region, 0), 0);
		assert_int_equal(*host_at(region, HOST_BLOCK / 2), (char)i);
	}

	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

static _Atomic bool writing;

static void *scribble(void *arg)
{
	for (unsigned char byte = 0; writing; byte++)
		memset(arg, byte, HOST_BLOCK);

	return NULL;
}

/* It is whole, whatever it is: no checksum that the disk is blamed for. */
static void test_bytes_that_change_while_they_are_stored(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB);
	uint32_t ns = attacker_namespace();
	struct hbm_wire_status counts;
	pthread_t thread;

	writing = true;
	assert_int_equal(pthread_create(&thread, NULL, scribble, host_at(region, 0)), 0);
	for (uint64_t i = 1; i <= ROUNDS; i++) {
		enum hbm_tier tier = i % 2 == 0 ? HBM_TIER_NVME : HBM_TIER_DDR;

		assert_int_equal(move_one(ns, region, i, true, tier), HBM_OK);
		assert_int_equal(move_one(ns, region, i, false, tier), HBM_OK);
	}
	writing = false;
	pthread_join(thread, NULL);

	for (uint64_t i = 1; i <= ROUNDS; i++)
		assert_int_equal(move_one(ns, region, i, false, HBM_TIER_NONE), HBM_OK);
	spawn_status(&daemon_, &counts);
	assert_int_equal(counts.checksum_failures, 0);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

/* Numbers of other sessions' regions, and places that are not its own. */
static void test_guesses(void **state)
{
	(void)state;
	int socket = raw_greet(&daemon_);
	uint32_t ns = raw_namespace(socket, HOST_BLOCK);
	uint32_t own = raw_region(socket, HBM_WIRE_DEVICE_HOST, 4 * HOST_SLAB, HOST_SLAB);

	for (uint32_t region = 0; region < 64; region++) {
		const struct raw_blocks store = raw_store(ns, 1, region, HOST_BLOCK);

		if (region != own)
			assert_int_equal(raw_ask(socket, &store, sizeof(store)), HBM_NOT_FOUND);
	}

	static const uint64_t offsets[] = {HOST_SLAB - 1, HOST_SLAB, 4 * HOST_SLAB, 1ull << 40,
					   UINT64_MAX - 4095};
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct raw_blocks store = raw_store(ns, 1, own, HOST_BLOCK);

		store.segment.offset = offsets[i];
		assert_int_not_equal(raw_ask(socket, &store, sizeof(store)), HBM_OK);
	}

	/* what is no device for anything but regions and prefetches */
	const struct hbm_wire_evict evict = {.header = RAW_HEADER(EVICT, sizeof(evict)),
					     .tier = HBM_TIER_HBM,
					     .device = HBM_WIRE_DEVICE_HOST,
					     .bytes = 1};
	const struct hbm_wire_resize resize = {.header = RAW_HEADER(RESIZE, sizeof(resize)),
					       .tier = HBM_TIER_HBM,
					       .device = HBM_WIRE_DEVICE_HOST,
					       .bytes = 4096};
	const struct hbm_wire_borrow borrow = {.header = RAW_HEADER(BORROW, sizeof(borrow) + 16),
					       .ns = ns,
					       .count = 1,
					       .device = HBM_WIRE_DEVICE_HOST};
	char message[sizeof(borrow) + 16] = {0};
	memcpy(message, &borrow, sizeof(borrow));
	message[sizeof(borrow)] = 1;
	assert_int_not_equal(raw_ask(socket, &evict, sizeof(evict)), HBM_OK);
	assert_int_not_equal(raw_ask(socket, &resize, sizeof(resize)), HBM_OK);
	assert_int_not_equal(raw_ask(socket, message, sizeof(message)), HBM_OK);

	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = own};
	assert_int_equal(raw_ask(socket, &destroy, sizeof(destroy)), HBM_OK);
	close(socket);
}

/* What refers to the file behind a mapping, and is no open file. */
static int refer_to_mapped(const void *at)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)at,
		 (unsigned long)at + (unsigned long)HOST_SLAB);

	return open(path, O_PATH | O_CLOEXEC);
}

static void *open_and_close(void *arg)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", *(const int *)arg);
	while (writing) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
	}

	return NULL;
}

/* Who opens a file that is leased in that moment has the daemon get a signal. */
static void test_files_that_are_opened_while_the_daemon_looks(void **state)
{
	(void)state;
	struct hbm_region *region = host_create(host_hbm, HOST_SLAB);

	for (unsigned i = 0; i < OPENINGS; i++) {
		pthread_t thread;

		assert_int_equal(host_commit(host_hbm, region, 0, HOST_SLAB), 0);
		int fd = refer_to_mapped(host_at(region, 0));
		if (fd < 0)
			skip(); /* for root alone */
		writing = true;
		assert_int_equal(pthread_create(&thread, NULL, open_and_close, &fd), 0);
		assert_int_equal(host_decommit(host_hbm, region, 0, HOST_SLAB), 0);
		(void)host_pool(host_hbm);
		writing = false;
		pthread_join(thread, NULL);
		close(fd);
	}

	host_await(host_hbm, HOST_SLAB);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_size_is_sealed),
		TEST(test_pages_that_are_taken_away),
		TEST(test_bytes_that_change_while_they_are_stored),
		TEST(test_files_that_are_opened_while_the_daemon_looks),
		TEST(test_guesses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
