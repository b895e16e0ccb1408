/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of clients whose daemon is killed: the next one has the memory that they have mapped, at
 * whatever moment it was, and gets all of it back when they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLAB (2ull << 20)

enum {
	SLOTS = 12,
	DEATHS = 8,
	KILLS = 40,
	OPERATIONS = 60,
	KILL_WITHIN_US = 150000, /* a start takes about half of that */
};

static const char *const sets[] = {
	"soft.memory=64MiB",    "device.memory=48MiB", "device.cache=2MiB",
	"device.headroom=2MiB", "device.lend=8MiB",    "ddr.size=8MiB",
	"nvme.path=",           "nvme.size=0",         NULL};
static struct seed seed;
static char card[128];

/* The device is one card for all daemons: what a client has of it, the next one has not. */
static void start(void)
{
	static char word[160];
	static const char *const env[] = {word, NULL};

	snprintf(card, sizeof(card), "%s.card", daemon_.dir);
	assert_int_equal(mkdir(card, 0755), 0);
	snprintf(word, sizeof(word), "HBM_SOFT=card=%s", card);
	keeper_start(&daemon_, sets, env);
}

static void finish(unsigned stored)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(rmdir(card), 0); /* nothing is left of it */
}

static struct hbm_region *create(struct hbm *hbm)
{
	const struct hbm_region_options options = {.address_space = SLOTS * SLAB, .slab = SLAB};
	struct hbm_region *region = NULL;

	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	return region;
}

/* A client: what it has, and what must be in it. */
struct client {
	struct kv kv;
	struct hbm_region *region;
	uint64_t words[SLOTS]; /* the first of each slot; 0: it is not committed */
	uint64_t last;
};

static void client_open(struct client *client)
{
	memset(client, 0, sizeof(*client));
	kv_open(&client->kv, &daemon_, 0, SLAB, 1);
	client->region = create(client->kv.hbm);
	client->last = 1;
}

static struct hbm_range slot_range(const struct client *client, uint64_t slot)
{
	return (struct hbm_range){client->region, slot * SLAB, SLAB};
}

static uint64_t slot_address(const struct client *client, uint64_t slot)
{
	return hbm_region_address(client->region) + slot * SLAB;
}

static void client_write(struct client *client, uint64_t slot)
{
	uint64_t word = client->last++;

	for (uint64_t i = 0; i < SLOTS; i++)
		if (i != slot && client->words[i] != 0 && client->words[i] == client->words[slot])
			client->words[i] = word; /* they share */
	client->words[slot] = word;
	kv_write(&client->kv, slot_address(client, slot), &word, sizeof(word));
}

static void client_commit(struct client *client, uint64_t slot)
{
	const struct hbm_range range = slot_range(client, slot);

	assert_int_equal(hbm_commit(client->kv.hbm, &range, 1), 0);
	client_write(client, slot);
}

static void client_decommit(struct client *client, uint64_t slot)
{
	const struct hbm_range range = slot_range(client, slot);

	assert_int_equal(hbm_decommit(client->kv.hbm, &range, 1), 0);
	client->words[slot] = 0;
}

static void client_share(struct client *client, uint64_t from, uint64_t to)
{
	const struct hbm_share share = {.source = client->region,
					.target = client->region,
					.source_offset = from * SLAB,
					.target_offset = to * SLAB,
					.bytes = SLAB};

	assert_int_equal(hbm_share(client->kv.hbm, &share, 1), 0);
	client->words[to] = client->words[from];
}

static void client_check(struct client *client)
{
	for (uint64_t i = 0; i < SLOTS; i++) {
		uint64_t word = 0;
		if (client->words[i] == 0)
			continue;
		kv_read(&client->kv, &word, slot_address(client, i), sizeof(word));
		assert_int_equal(word, client->words[i]);
	}
}

/* The daemon stores what the client has written, and loads where the client reads. */
static void client_check_daemon(struct client *client, uint64_t slot)
{
	static uint64_t block = 1000;
	uint64_t word = ~client->words[slot], kept = client->words[slot];
	struct hbm_segment segment = {
		.region = client->region, .offset = slot * SLAB, .bytes = SLAB};
	const struct hbm_block one = {
		.key = kv_key(++block), .segments = &segment, .segment_count = 1};
	hbm_result result;

	assert_int_equal(hbm_store(client->kv.hbm, client->kv.ns, &one, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_write(&client->kv, slot_address(client, slot), &word, sizeof(word));
	assert_int_equal(hbm_load(client->kv.hbm, client->kv.ns, &one, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_read(&client->kv, &word, slot_address(client, slot), sizeof(word));
	assert_int_equal(word, kept);
	kv_keys(&client->kv, HBM_WIRE_REMOVE, block, 1, 0, NULL);
}

/* Slabs that the client's slots have, each once. */
static uint64_t client_slabs(const struct client *client)
{
	uint64_t slabs = 0;

	for (uint64_t i = 0; i < SLOTS; i++) {
		bool first = client->words[i] != 0;
		for (uint64_t k = 0; k < i; k++)
			first = first && client->words[k] != client->words[i];
		slabs += first;
	}

	return slabs;
}

static void client_check_books(struct client *client)
{
	const struct hbm_wire_device device = device_record(client->kv.hbm);

	assert_int_equal(device.leased, (1 + client_slabs(client)) * SLAB);
	assert_int_equal(device.quarantined, 0);
}

static void client_close(struct client *client)
{
	assert_int_equal(hbm_region_destroy(client->kv.hbm, client->region), 0);
	kv_close(&client->kv);
}

static void test_what_is_mapped_stays(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_);
	struct client client;

	client_open(&client);
	uint64_t address = hbm_region_address(client.region);
	for (uint64_t i = 0; i < 6; i++)
		client_commit(&client, i);
	client_share(&client, 2, 9);
	client_decommit(&client, 4);
	for (unsigned round = 0; round < 3; round++) {
		keeper_kill(&daemon_);
		client_check_books(&client);
		client_check(&client);
		client_check_daemon(&client, 1);
		client_check_daemon(&client, 9);
		client_write(&client, 9);
		client_check(&client);
		client_commit(&client, 10);
		client_decommit(&client, 10);
		assert_int_equal(hbm_region_address(client.region), address);
	}

	client_close(&client);
	finish(stored);
}

/* What was lent by a daemon before is shared to be read, and so is what shares it. */
static void assert_only_read(struct client *client, uint64_t slot)
{
	struct hbm_share share = {.source = client->region,
				  .target = client->region,
				  .source_offset = slot * SLAB,
				  .target_offset = 4 * SLAB,
				  .bytes = SLAB};
	struct hbm_range target = slot_range(client, 4);

	assert_int_equal(hbm_share(client->kv.hbm, &share, 1), HBM_DENIED);
	share.flags = HBM_SHARE_READ_ONLY;
	assert_int_equal(hbm_share(client->kv.hbm, &share, 1), 0);
	keeper_kill(&daemon_);
	share.source_offset = 4 * SLAB;
	share.target_offset = 5 * SLAB;
	share.flags = 0;
	assert_int_equal(hbm_share(client->kv.hbm, &share, 1), HBM_DENIED);
	assert_int_equal(hbm_decommit(client->kv.hbm, &target, 1), 0);
}

/* What is borrowed stays as it is, in a slot, which is the session's own then, and without one. */
static void test_what_is_borrowed_stays(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_);
	const hbm_key keys[] = {kv_key(7), kv_key(8)};
	struct hbm_loan *loans[2];
	hbm_result results[2];
	uint64_t addresses[2];
	struct client client;
	void *wanted = malloc(SLAB), *seen = malloc(SLAB);

	client_open(&client);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(kv_store(&client.kv, 0, 7 + i, 1, 0, results), 0);
		assert_int_equal(results[0].status, HBM_OK);
	}
	assert_int_equal(hbm_borrow(client.kv.hbm, client.kv.ns, 0, SLAB, keys, 2, loans, results),
			 0);
	for (uint64_t i = 0; i < 2; i++)
		assert_int_equal(hbm_loan_map(client.kv.hbm, loans[i], &addresses[i]), 0);
	const struct hbm_share share = {.target = client.region,
					.target_offset = 3 * SLAB,
					.bytes = SLAB,
					.flags = HBM_SHARE_READ_ONLY,
					.loan = loans[0]};
	assert_int_equal(hbm_share(client.kv.hbm, &share, 1), 0);

	for (unsigned round = 0; round < 2; round++) {
		keeper_kill(&daemon_);
		for (uint64_t i = 0; i < 2; i++) {
			kv_fill(7 + i, wanted, SLAB);
			kv_read(&client.kv, seen, addresses[i], SLAB);
			assert_memory_equal(seen, wanted, SLAB);
		}
		kv_fill(7, wanted, SLAB);
		kv_read(&client.kv, seen, slot_address(&client, 3), SLAB);
		assert_memory_equal(seen, wanted, SLAB);

		/* its own slab, and that of the slot */
		struct hbm_wire_device device;
		do
			device = device_record(client.kv.hbm);
		while (device.retiring > 0);
		assert_int_equal(device.leased, 2 * SLAB);
	}

	const struct hbm_range slot = slot_range(&client, 3);
	assert_only_read(&client, 3);
	assert_int_equal(hbm_decommit(client.kv.hbm, &slot, 1), 0);
	assert_int_equal(hbm_return(client.kv.hbm, loans, 2), 0); /* of a daemon before */
	client_close(&client);
	free(wanted);
	free(seen);
	finish(stored);
}

/* Loans of two daemons are returned together, and none stays. */
static void test_old_loans_are_returned_with_new_ones(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_);
	const hbm_key key = kv_key(7);
	struct hbm_loan *loans[3];
	hbm_result results[1];
	struct client client;

	client_open(&client);
	for (unsigned i = 0; i < 3; i++) {
		if (i > 0)
			keeper_kill(&daemon_);
		assert_int_equal(kv_store(&client.kv, 0, 7, 1, 0, results), 0);
		assert_int_equal(
			hbm_borrow(client.kv.hbm, client.kv.ns, 0, 0, &key, 1, &loans[i], results),
			0);
		assert_int_equal(results[0].status, HBM_OK);
	}

	assert_int_equal(device_record(client.kv.hbm).loans, 1);
	assert_int_equal(hbm_return(client.kv.hbm, loans, 3), 0);
	assert_int_equal(device_record(client.kv.hbm).loans, 0);
	client_close(&client);
	finish(stored);
}

/* A descriptor of memory that the client has allocated itself, and that lives as long as that. */
static int own_memory(const struct kv *kv)
{
	const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .requestedHandleTypes =
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					  .location = {CU_MEM_LOCATION_TYPE_DEVICE, kv->handle}};
	CUmemGenericAllocationHandle handle;
	int fd = -1;

	assert_int_equal(kv->driver->cuMemCreate(&handle, SLAB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(kv->driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_equal(kv->driver->cuMemRelease(handle), CUDA_SUCCESS);

	return fd;
}

/* What is loaded into the guest region and stored from it is what was stored. */
static void through_guest(struct client *client, struct hbm_region *guest, uint64_t key)
{
	struct hbm_segment segment = {.region = guest, .bytes = SLAB};
	struct hbm_block block = {.key = kv_key(key), .segments = &segment, .segment_count = 1};
	struct hbm *hbm = client->kv.hbm;
	uint32_t ns = client->kv.ns;
	hbm_result result = {0};

	assert_int_equal(kv_store(&client->kv, 0, key, 1, 0, &result), 0);
	kv_wipe(&client->kv, 0);
	assert_int_equal(hbm_load(hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	block.key = kv_key(key + 1);
	assert_int_equal(hbm_store(hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	segment.region = client->kv.region;
	assert_int_equal(hbm_load(hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(kv_holds(&client->kv, 0, key), 1);
}

/* A guest region stays open, by its descriptor or by its handle; and nothing of it stays when it was
 * destroyed while no daemon ran. */
static void test_what_is_lent_stays(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_);
	struct client client;
	CUipcMemHandle handle;
	CUdeviceptr own;

	client_open(&client);
	client_commit(&client, 0);
	const struct driver *driver = client.kv.driver;
	const struct hbm_import_options by_fd = {.fd = own_memory(&client.kv), .bytes = SLAB},
					by_handle = {
						.fd = -1, .bytes = SLAB, .ipc_handle = &handle};
	struct hbm_region *guest = NULL, *other = NULL;

	assert_int_equal(driver->cuMemAlloc(&own, SLAB), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcGetMemHandle(&handle, own), CUDA_SUCCESS);
	assert_int_equal(hbm_region_import(client.kv.hbm, &by_fd, &guest), 0);
	assert_int_equal(hbm_region_import(client.kv.hbm, &by_handle, &other), 0);
	assert_int_equal(hbm_region_import(client.kv.hbm, &by_handle, &other), HBM_EXISTS);
	for (uint64_t i = 0; i < 3; i++) {
		through_guest(&client, guest, 10 + 4 * i);
		through_guest(&client, other, 12 + 4 * i);
		keeper_kill(&daemon_);
	}
	assert_int_equal(hbm_region_import(client.kv.hbm, &by_handle, &other), HBM_EXISTS);

	pid_t before = keeper_daemon(&daemon_);
	keeper_kill_now(&daemon_);
	assert_int_equal(hbm_region_destroy(client.kv.hbm, other), 0);
	keeper_await_next(&daemon_, before);
	through_guest(&client, guest, 30);
	assert_int_equal(hbm_region_destroy(client.kv.hbm, guest), 0);
	assert_int_equal(hbm_region_import(client.kv.hbm, &by_handle, &other), 0);
	assert_int_equal(hbm_region_destroy(client.kv.hbm, other), 0);
	assert_int_equal(driver->cuCtxSetCurrent(client.kv.context), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemFree(own), CUDA_SUCCESS);
	close(by_fd.fd);
	client_check(&client);
	client_close(&client);
	finish(stored);
}

static struct kv lives_kv;

/* A process with memory, that is killed. */
static void lives(const struct spawn *spawn, uint64_t number)
{
	kv_open(&lives_kv, spawn, 0, SLAB, number);
	child_tell();
	for (;;)
		pause();
}

/* While the daemon is away, or after it has come back: what it had is free. */
static void test_a_client_dies(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_);

	for (unsigned i = 0; i < DEATHS; i++) {
		struct child child;
		bool after = seed_below(&seed, 2) != 0;

		child_start(&child, "lives", &daemon_, 1 + seed_below(&seed, 8));
		child_await(&child);
		pid_t before = keeper_daemon(&daemon_);
		keeper_kill_now(&daemon_);
		if (after)
			keeper_await_next(&daemon_, before);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		if (!after)
			keeper_await_next(&daemon_, before);
		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
	}

	finish(stored);
}

static atomic_bool killed_enough;

static void *killer(void *arg)
{
	for (unsigned i = 0; i < KILLS; i++)
		keeper_kill_within(&daemon_, arg, KILL_WITHIN_US);
	atomic_store(&killed_enough, true);

	return NULL;
}

static uint64_t random_slot(const struct client *client, bool committed)
{
	uint64_t slot = seed_below(&seed, SLOTS);

	for (uint64_t i = 0; i < SLOTS; i++, slot = (slot + 1) % SLOTS)
		if ((client->words[slot] != 0) == committed)
			return slot;

	return SLOTS;
}

/* Another region comes and goes. */
static void client_do_region(struct client *client)
{
	struct hbm_region *region = create(client->kv.hbm);
	const struct hbm_range range = {region, 0, 2 * SLAB};
	uint64_t word = client->last++, seen = 0;

	assert_int_equal(hbm_commit(client->kv.hbm, &range, 1), 0);
	kv_write(&client->kv, hbm_region_address(region) + SLAB, &word, sizeof(word));
	kv_read(&client->kv, &seen, hbm_region_address(region) + SLAB, sizeof(seen));
	assert_int_equal(seen, word);
	assert_int_equal(hbm_region_destroy(client->kv.hbm, region), 0);
}

static void client_do(struct client *client)
{
	uint64_t full = random_slot(client, true), empty = random_slot(client, false);
	uint64_t operation = seed_below(&seed, 10);

	if (operation < 4 && empty < SLOTS)
		client_commit(client, empty);
	else if (operation < 6 && full < SLOTS)
		client_decommit(client, full);
	else if (operation < 8 && full < SLOTS && empty < SLOTS)
		client_share(client, full, empty);
	else if (operation < 9 && full < SLOTS)
		client_write(client, full);
	else
		client_do_region(client);
}

/* While requests are on their way, while they are served, while the next one starts. */
static void test_killed_at_any_moment(void **state)
{
	(void)state;
	start();
	unsigned stored = keeper_stored(&daemon_), operations = 0;
	struct seed of_killer;
	struct client client;
	pthread_t thread;

	client_open(&client);
	of_killer.state = seed_next(&seed);
	atomic_store(&killed_enough, false);
	assert_int_equal(pthread_create(&thread, NULL, killer, &of_killer), 0);
	for (; !atomic_load(&killed_enough) || operations < OPERATIONS; operations++) {
		client_do(&client);
		client_check(&client);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);

	spawn_wait_warm(&daemon_);
	client_check_books(&client);
	client_check(&client);
	for (uint64_t i = 0; i < SLOTS; i++)
		if (client.words[i] != 0)
			client_check_daemon(&client, i);
	client_close(&client);
	finish(stored);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"lives", lives}, {NULL, NULL}};

	child_main(argc, argv, parts);
	seed_open(&seed, "region_kept");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_mapped_stays),
		TEST(test_what_is_borrowed_stays),
		TEST(test_old_loans_are_returned_with_new_ones),
		TEST(test_what_is_lent_stays),
		TEST(test_a_client_dies),
		TEST(test_killed_at_any_moment),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
