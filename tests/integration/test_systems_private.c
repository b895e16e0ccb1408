/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that are nobody else's business, each by what its memory does, in miniature:
 * rows of the table in hbm(7). What a test asserts is what its system needs, which is at
 * its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/contents.h"
#include "tests/support/guest.h"
#include "tests/support/memory_search.h"
#include "tests/support/system_stage.h"

#include <fcntl.h>
#include <hbm/saved.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- BumbleBee, LatticeGen ---- */

#define SECRET_BLOCK 65536u

/* A connection of that user, with a namespace of a salt. */
static void secret_open(struct kv *kv, uid_t uid, const char *salt)
{
	const struct hbm_options options = {.socket = "sock"};
	const struct hbm_namespace_options ns = {.model = "private",
						 .salt = salt,
						 .block_bytes = SECRET_BLOCK,
						 .wipe_on_free = true};
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	*kv = (struct kv){.block_bytes = SECRET_BLOCK, .buffer = malloc(SECRET_BLOCK)};
	assert_non_null(kv->buffer);
	assert_int_equal(chdir(daemon_.dir), 0);
	assert_int_equal(seteuid(uid), 0);
	assert_int_equal(hbm_connect(&kv->hbm, &options), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(fchdir(here), 0);
	close(here);
	kv->region = kv_region(kv, 4 << 20);
	kv_enter(kv, kv->hbm, 0);
	assert_int_equal(hbm_namespace_open(kv->hbm, &ns, &kv->ns), 0);
}

static int secret_count(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(unsigned *)arg;

	return 0;
}

/* Whether a range has any byte that is not 0. */
static bool secret_remains(struct kv *kv, struct hbm_region *region)
{
	const uint64_t bytes = hbm_region_bytes(region);
	unsigned char *seen = malloc(RIG_SLAB), any = 0;

	assert_non_null(seen);
	for (uint64_t at = 0; at < bytes; at += RIG_SLAB) {
		kv_read(kv, seen, hbm_region_address(region) + at, RIG_SLAB);
		for (uint64_t i = 0; i < RIG_SLAB; i++)
			any |= seen[i];
	}
	free(seen);

	return any != 0;
}

/* The block is removed, the client has overwritten what it has of it, and nothing of its bytes is
 * in the daemon: they were, before. */
static void secret_forget(struct kv *kv)
{
	static unsigned char bytes[SECRET_BLOCK];
	struct memory_search found;
	hbm_result result;

	kv_wipe(kv, 0);
	kv_fill(1, bytes, sizeof(bytes));
	found = memory_search(daemon_.pid, bytes + SECRET_BLOCK / 2, 64);
	assert_true(found.dumped + found.hidden > 0);
	assert_int_equal(kv_keys(kv, HBM_WIRE_REMOVE, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);
}

static void secret_expect_forgotten(void)
{
	static unsigned char bytes[SECRET_BLOCK];

	kv_fill(1, bytes, sizeof(bytes));
	struct memory_search found = memory_search(daemon_.pid, bytes + SECRET_BLOCK / 2, 64);
	assert_int_equal(found.dumped + found.hidden, 0);
}

/* All memory of the first, written to, becomes the second's. */
static void secret_hand_over(struct kv tenants[2], struct hbm *admin)
{
	struct hbm_region *region = kv_region(&tenants[0], system_stage_memory(admin, 0).available);

	for (uint64_t at = 0; at < hbm_region_bytes(region); at += SECRET_BLOCK)
		kv_write(&tenants[0], hbm_region_address(region) + at, tenants[0].buffer,
			 SECRET_BLOCK);
	assert_true(secret_remains(&tenants[0], region));
	kv_close(&tenants[0]);
	region = kv_region(&tenants[1], system_stage_memory(admin, 0).available);
	assert_false(secret_remains(&tenants[1], region));
}

/*
 * BumbleBee and LatticeGen compute on what is encrypted or noised: bytes come back as they were,
 * whatever they are; those of two tenants are never taken for the same, even if they are; what
 * a block has left is overwritten; and what one has written to device memory is not there for
 * the next.
 */
static void test_system_bumblebee(void **state)
{
	(void)state;
	static const char *const sets[] = {"hbmd.socket_mode=0666", "device.lend=8MiB", NULL};
	struct kv tenants[2];
	struct hbm_loan *loans[2];
	hbm_result result;
	unsigned blocks = 0;

	guest_admit(&daemon_);
	system_stage_start(sets);
	secret_open(&tenants[0], GUEST, "one");
	secret_open(&tenants[1], OTHER_GUEST, "two");
	assert_int_equal(kv_store(&tenants[0], 0, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	/* The same bytes under the same name: it is not there, and is stored once more. */
	assert_int_equal(kv_load(&tenants[1], 0, 1, 1, &result), 0);
	assert_int_equal(result.status, HBM_MISS);
	assert_int_equal(kv_store(&tenants[1], 0, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	struct hbm *admin = spawn_connect(&daemon_);

	assert_int_equal(hbm_query(admin, HBM_QUERY_BLOCKS, secret_count, &blocks), 0);
	assert_int_equal(blocks, 2);
	for (size_t i = 0; i < 2; i++) {
		const hbm_key key = kv_key(1);

		assert_int_equal(kv_load(&tenants[i], 0, 1, 1, &result), 0);
		assert_int_equal(result.status, HBM_OK);
		assert_int_equal(hbm_borrow(tenants[i].hbm, tenants[i].ns, 0, 0, &key, 1, &loans[i],
					    &result),
				 0);
	}

	/* Lent twice: neither maps what the other has. */
	assert_int_equal(system_stage_device(admin, 0).replicas, 2);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(hbm_return(tenants[i].hbm, &loans[i], 1), 0);

	for (size_t i = 0; i < 2; i++)
		secret_forget(&tenants[i]);
	kv_await_moves(&(struct kv){.hbm = admin});
	secret_expect_forgotten();
	secret_hand_over(tenants, admin);
	kv_close(&tenants[1]);
	hbm_close(admin);
	system_stage_finish();
}

/* ---- Qualcomm: hybrid AI, devices and cloud ---- */

#define EDGE_BLOCK 65536u
#define EDGE_SECRETS 8u
#define EDGE_OTHERS 96u /* more than fits in memory */
#define EDGE_TOKENS 40u
#define EDGE_REPLY 8u

static const struct hbm_saved_space edge_space = {.model = "edge", .memory_only = true};

/* Whether some bytes are in the NVMe file. */
static bool edge_is_on_disk(const void *bytes, size_t size)
{
	static unsigned char page[32 << 20];
	int fd = open(daemon_.nvme, O_RDONLY | O_CLOEXEC);
	size_t count = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, page + count, sizeof(page) - count)) > 0)
		count += (size_t)n;
	close(fd);
	assert_true(count < sizeof(page));

	return memmem(page, count, bytes, size) != NULL;
}

static bool edge_block_is_on_disk(uint64_t block)
{
	static unsigned char bytes[EDGE_BLOCK];

	kv_fill(block, bytes, EDGE_BLOCK);

	return edge_is_on_disk(bytes, 4096);
}

/* Blocks of others fill all memory, and then all of it is evicted. */
static void edge_press(struct kv *edge, uint64_t first)
{
	hbm_result results[8];

	for (uint64_t i = 0; i < EDGE_OTHERS; i += 8) {
		assert_int_equal(kv_store(edge, 0, first + i, 8, 0, results), 0);
		for (uint64_t k = 0; k < 8; k++)
			assert_int_equal(results[k].status, HBM_OK);
		kv_await_moves(edge);
	}
	kv_push_to_nvme(edge);
}

/* Private blocks, under the pressure of others: in memory, to the byte, or nowhere. */
static void edge_keep(struct kv *edge)
{
	const uint32_t others = edge->ns;
	const struct hbm_namespace_options options = {
		.model = "private", .block_bytes = EDGE_BLOCK, .memory_only = true};
	hbm_result results[EDGE_SECRETS];
	uint32_t private;

	assert_int_equal(hbm_namespace_open(edge->hbm, &options, &private), 0);
	for (uint64_t round = 0; round < 3; round++) {
		const uint64_t first = 1000 + EDGE_SECRETS * round;

		edge->ns = private;
		assert_int_equal(kv_store(edge, 0, first, EDGE_SECRETS, 0, results), 0);
		assert_int_equal(kv_load(edge, 0, first, EDGE_SECRETS, results), 0);
		for (uint64_t i = 0; i < EDGE_SECRETS; i++)
			assert_int_equal(results[i].status, HBM_OK);
		edge->ns = others;
		edge_press(edge, 1 + EDGE_OTHERS * round);
		assert_true(edge_block_is_on_disk(EDGE_OTHERS * (round + 1)));
		edge->ns = private;
		for (uint64_t i = 0; i < EDGE_SECRETS; i++) {
			assert_int_equal(kv_tier(edge, first + i), HBM_TIER_NONE);
			assert_false(edge_block_is_on_disk(first + i));
		}
	}
	edge->ns = others;
}

/* What crosses from one host to the other: the mapped bytes of a sequence, as the layout that
 * both have says where they are. */
static struct hbm_sequence *edge_carry(struct pool_rig *from, struct hbm_sequence *sequence,
				       struct pool_rig *to)
{
	static unsigned char bytes[RIG_SLAB];
	const uint64_t tokens = pool_rig_facts(sequence).tokens,
		       source = pool_rig_facts(sequence).address;
	struct hbm_sequence *out = pool_rig_sequence(to);
	struct hbm_layout_facts layout;

	assert_int_equal(pool_rig_step(to, out, tokens), 0);
	hbm_layout_facts(from->layout, &layout);
	for (uint32_t i = 0; i < layout.buffers; i++) {
		uint64_t offset, size;

		assert_int_equal(hbm_layout_range(from->layout, i, 0, tokens, &offset, &size), 0);
		assert_true(size <= sizeof(bytes));
		kv_read(&from->kv, bytes, source + offset, size);
		kv_write(&to->kv, pool_rig_facts(out).address + offset, bytes, size);
	}

	return out;
}

static void edge_expect(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t tokens)
{
	const struct contents upper = {.kv = &rig->kv, .tag = 7, .first_layer = 2};

	assert_int_equal(pool_rig_facts(sequence).tokens, tokens);
	assert_true(contents_are(&upper, sequence, 0, tokens));
}

/* A context that the device has saved, in memory alone: it is on no disk when memory is short. */
static void edge_save(struct pool_rig *device, struct kv *edge, struct hbm_sequence *sequence)
{
	const struct hbm_save save = {sequence, "talk", 0};
	const struct hbm_save_options options = {.space = edge_space, .tier = HBM_TIER_DDR};
	const uint64_t address = pool_rig_facts(sequence).address;
	unsigned char token[256];
	struct hbm_saved found;
	uint64_t saved = 0;

	kv_read(&device->kv, token, address, sizeof(token));
	for (uint64_t round = 0; round < 2; round++) {
		assert_int_equal(hbm_sequences_save(device->pool, &save, 1, &options, &saved), 0);
		assert_int_equal(saved, EDGE_TOKENS);
		if (round == 0) {
			edge_press(edge, 5000);
			assert_int_equal(hbm_saved_find(device->pool, &edge_space, "talk", &found),
					 HBM_NOT_FOUND);
		}
		assert_false(edge_is_on_disk(token, sizeof(token)));
	}
}

/* The device has all layers, the cloud takes over the upper half, adds a reply, and hands it back. */
static void edge_hand_over(struct spawn *cloud_daemon, struct kv *edge)
{
	const struct hbm_pool_options usual = {.max_sequences = 4, .memory_only = true};
	const struct hbm_slice slice = {.first_layer = 2, .layers = 2};
	static const char half[] = "layers=2 heads=2 dim=64 bytes=2 order=token max=64";
	struct pool_rig device, upper, cloud;
	struct hbm_sequence *here, *there, *back;

	pool_rig_open(&device, &daemon_, "layers=4 heads=2 dim=64 bytes=2 order=token max=64",
		      &usual);
	pool_rig_open(&upper, &daemon_, half, &usual);
	pool_rig_open(&cloud, cloud_daemon, half, &usual);
	const struct contents all = {.kv = &device.kv, .tag = 7};
	const struct contents reply = {.kv = &cloud.kv, .tag = 7, .first_layer = 2};

	here = pool_rig_sequence(&device);
	assert_int_equal(pool_rig_step(&device, here, EDGE_TOKENS), 0);
	contents_write(&all, here, 0, EDGE_TOKENS);
	edge_save(&device, edge, here);

	assert_int_equal(
		hbm_sequence_restore_slice(upper.pool, &edge_space, "talk", &slice, NULL, &here),
		0);
	there = edge_carry(&upper, here, &cloud);
	edge_expect(&cloud, there, EDGE_TOKENS);
	assert_int_equal(pool_rig_step(&cloud, there, EDGE_TOKENS + EDGE_REPLY), 0);
	contents_write(&reply, there, EDGE_TOKENS, EDGE_TOKENS + EDGE_REPLY);
	back = edge_carry(&cloud, there, &upper);
	edge_expect(&upper, back, EDGE_TOKENS + EDGE_REPLY);
	pool_rig_close(&cloud);
	pool_rig_close(&upper);
	pool_rig_close(&device);
}

/*
 * A device with a model of its own hands contexts over to a host and takes them back: the layers
 * that the host computes are exported as a slice and imported there, to the byte, and what it
 * has added comes back. What is private to the device is never written to its disk, saved or
 * not, whatever presses on its memory: it is in memory, or nowhere.
 */
static void test_system_hybrid(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=16MiB",
					   NULL};
	struct spawn cloud_daemon;
	struct kv edge;

	system_stage_start(sets);
	spawn_init(&cloud_daemon);
	spawn_start(&cloud_daemon, NULL, NULL);
	kv_open(&edge, &daemon_, 0, EDGE_BLOCK, EDGE_OTHERS);

	edge_keep(&edge);
	edge_hand_over(&cloud_daemon, &edge);
	kv_close(&edge);
	assert_int_equal(spawn_stop(&cloud_daemon), 0);
	spawn_free(&cloud_daemon);
	system_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_bumblebee),
		TEST(test_system_hybrid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
