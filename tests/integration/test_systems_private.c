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

#include "tests/support/guest.h"
#include "tests/support/system_stage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- BumbleBee, LatticeGen ---- */

#define SECRET_BLOCK 65536u

/* A connection of that user, with a namespace of a salt. */
static void secret_open(struct kv *kv, uid_t uid, const char *salt)
{
	const struct hbm_options options = {.socket = "sock"};
	const struct hbm_namespace_options ns = {
		.model = "private", .salt = salt, .block_bytes = SECRET_BLOCK};
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
 * whatever they are; those of two tenants are never taken for the same, even if they are; and
 * what one has written to device memory is not there for the next.
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

	secret_hand_over(tenants, admin);
	kv_close(&tenants[1]);
	hbm_close(admin);
	system_stage_finish();
}

/* ---- Qualcomm: hybrid AI, devices and cloud ---- */

#define EDGE_BLOCK 65536u
#define EDGE_SECRETS 4u
#define EDGE_OTHERS 96u

/* Whether a block's bytes are in the NVMe file. */
static bool edge_is_on_disk(uint64_t block)
{
	static unsigned char bytes[EDGE_BLOCK], page[1 << 20];
	int fd = open(daemon_.nvme, O_RDONLY | O_CLOEXEC);
	bool found = false;
	ssize_t n;

	assert_true(fd >= 0);
	kv_fill(block, bytes, EDGE_BLOCK);
	while (!found && (n = read(fd, page, sizeof(page))) > 0)
		found = memmem(page, (size_t)n, bytes, 4096) != NULL;
	close(fd);

	return found;
}

/* Private blocks, pinned in DDR from the moment they are stored, under the pressure of others. */
static void edge_keep(struct kv *edge)
{
	hbm_result results[EDGE_OTHERS];
	struct hbm_block blocks[EDGE_SECRETS];
	struct hbm_segment segments[EDGE_SECRETS];

	for (uint64_t i = 0; i < EDGE_SECRETS; i++)
		kv_put(edge, i, 1000 + i);
	kv_blocks(edge, 0, 1000, EDGE_SECRETS, 0, blocks, segments);
	for (uint64_t i = 0; i < EDGE_SECRETS; i++) {
		blocks[i].parent = (hbm_key){0};
		blocks[i].tier = HBM_TIER_DDR;
		blocks[i].pin = true;
	}
	assert_int_equal(hbm_store(edge->hbm, edge->ns, blocks, EDGE_SECRETS, results), 0);
	for (uint64_t i = 0; i < EDGE_SECRETS; i++)
		assert_int_equal(results[i].status, HBM_OK);
	for (uint64_t i = 0; i < EDGE_OTHERS; i += 8) {
		assert_int_equal(kv_store(edge, 0, 1 + i, 8, i, results), 0);
		kv_await_moves(edge);
	}
	kv_push_to_nvme(edge);
	assert_true(edge_is_on_disk(1));
	for (uint64_t i = 0; i < EDGE_SECRETS; i++) {
		assert_int_equal(kv_tier(edge, 1000 + i), HBM_TIER_DDR);
		assert_false(edge_is_on_disk(1000 + i));
	}
	assert_int_equal(kv_load(edge, 0, 1000, EDGE_SECRETS, results), 0);
}

/* Others go to the cloud: read from a region here, written to one there. */
static void edge_export(struct kv *edge, struct kv *cloud)
{
	hbm_result results[8];
	struct hbm_block moved[8];
	struct hbm_segment places[8];

	assert_int_equal(kv_load(edge, 0, 1, 8, results), 0);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		kv_read(edge, edge->buffer, hbm_region_address(edge->region) + i * EDGE_BLOCK,
			EDGE_BLOCK);
		kv_write(cloud, hbm_region_address(cloud->region) + i * EDGE_BLOCK, edge->buffer,
			 EDGE_BLOCK);
	}
	kv_blocks(cloud, 0, 1, 8, 0, moved, places);
	assert_int_equal(hbm_store(cloud->hbm, cloud->ns, moved, 8, results), 0);
	assert_int_equal(kv_load(cloud, 8, 1, 8, results), 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

/*
 * A device with a model of its own hands contexts over to a host and takes them back: what one
 * daemon exports another imports, to the byte. What is private to the device is never written
 * to its disk, whatever presses on its memory.
 */
static void test_system_hybrid(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=16MiB",
					   NULL};
	struct spawn cloud_daemon;
	struct kv edge, cloud;

	system_stage_start(sets);
	spawn_init(&cloud_daemon);
	spawn_start(&cloud_daemon, NULL, NULL);
	kv_open(&edge, &daemon_, 0, EDGE_BLOCK, EDGE_OTHERS);
	kv_open(&cloud, &cloud_daemon, 0, EDGE_BLOCK, EDGE_OTHERS);

	edge_keep(&edge);
	edge_export(&edge, &cloud);
	kv_close(&cloud);
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
