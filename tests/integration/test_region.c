/* SPDX-License-Identifier: Apache-2.0 */
/* Regions end to end: memory that comes and goes under an address that stays, requests
 * that are all or nothing, and bytes that client and daemon see alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/device_record.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLAB (2ull << 20)
#define POOL (168ull << 20) /* of regions: 192 MiB less cache and reserve */

static unsigned fds;
static struct hbm *hbm;

static void start(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	hbm = spawn_connect(&daemon_);
}

static int setup(void **state)
{
	stage_setup(state);
	return 0;
}

static int teardown(void **state)
{
	hbm = hbm_close(hbm);
	if (daemon_.pid > 0) {
		stage_finish(fds);
	}
	return stage_teardown(state);
}

static struct hbm_region *create(uint64_t address_space, uint64_t slab)
{
	const struct hbm_region_options options = {.address_space = address_space, .slab = slab};
	struct hbm_region *region = NULL;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	return region;
}

static uint64_t leased(void)
{
	const struct hbm_wire_device device = device_record(hbm);

	assert_int_equal(device.regions, POOL);
	assert_int_equal(device.leased + device.quarantined + device.retiring + device.ready +
				 device.uncreated + device.held,
			 POOL);

	return device.leased;
}

/* ---- Life of a region ---- */

static void test_memory_comes_and_goes_under_one_address(void **state)
{
	(void)state;
	start(NULL);
	struct hbm_region *region = create(7 * SLAB + 1, 0);
	uint64_t address = hbm_region_address(region);
	assert_int_equal(hbm_region_bytes(region), 8 * SLAB);
	assert_int_equal(hbm_region_slab(region), SLAB);
	assert_int_equal(leased(), 0);
	struct kv kv = {0};
	kv_enter(&kv, hbm, 0);

	for (uint64_t round = 1; round <= 5; round++) {
		const struct hbm_range parts[] = {{region, 0, 2 * SLAB}, {region, 5 * SLAB, SLAB}};

		assert_int_equal(hbm_commit(hbm, parts, 2), 0);
		assert_int_equal(leased(), 3 * SLAB);
		assert_int_equal(hbm_region_address(region), address);
		uint64_t word = 0, written = 0x1234567890ull * round;
		kv_read(&kv, &word, address + 5 * SLAB, sizeof(word));
		assert_int_equal(word, 0); /* nobody sees what was there */
		kv_write(&kv, address + 5 * SLAB, &written, sizeof(written));
		kv_read(&kv, &word, address + 5 * SLAB, sizeof(word));
		assert_int_equal(word, written);
		assert_int_equal(hbm_decommit(hbm, parts + 1, 1), 0);
		assert_int_equal(leased(), 2 * SLAB);
		assert_int_equal(hbm_decommit(hbm, parts, 1), 0);
		assert_int_equal(leased(), 0);
	}

	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	kv_leave(&kv);
}

static void test_slab_sizes(void **state)
{
	(void)state;
	start(NULL);
	struct hbm_region *regions[5];
	for (unsigned k = 0; k < 5; k++) {
		regions[k] = create(32ull << 20, SLAB << k);
		const struct hbm_range all = {regions[k], 0, 32ull << 20};
		assert_int_equal(hbm_commit(hbm, &all, 1), 0);
		assert_int_equal(leased(), (k + 1) * (32ull << 20));
	}

	for (unsigned k = 0; k < 5; k++)
		assert_int_equal(hbm_region_destroy(hbm, regions[k]), 0);
	assert_int_equal(leased(), 0);
	const uint64_t bad[] = {1, SLAB - 1, SLAB + 1, 3 * SLAB, SLAB << 10, UINT64_MAX};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct hbm_region_options options = {.address_space = SLAB, .slab = bad[i]};
		struct hbm_region *region = NULL;
		assert_int_equal(hbm_region_create(hbm, &options, &region), HBM_INVALID);
		assert_null(region);
	}
}

static void test_one_commit_of_more_slabs_than_a_message_takes(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.memory=1GiB", "device.memory=700MiB", NULL};
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	hbm = spawn_connect(&daemon_);
	struct hbm_region *region = create(300 * SLAB, SLAB);
	const struct hbm_range all = {region, 0, 300 * SLAB};
	for (int round = 0; round < 2; round++) {
		assert_int_equal(hbm_commit(hbm, &all, 1), 0);
		assert_int_equal(hbm_decommit(hbm, &all, 1), 0);
	}

	assert_int_equal(hbm_commit(hbm, &all, 1), 0);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
}

/* ---- All or none ---- */

static struct hbm_region *one, *two;

/* Refused with that status, and as if it had never been asked. */
static void refuse(const struct hbm_range *ranges, size_t count, int status)
{
	uint64_t before = leased();
	assert_int_equal(hbm_commit(hbm, ranges, count), status);
	assert_string_not_equal(hbm_error(hbm), "");
	assert_int_equal(leased(), before);
}

static void test_a_commit_is_all_or_none(void **state)
{
	(void)state;
	start(NULL);
	one = create(16 * SLAB, SLAB);
	two = create(256 * SLAB, SLAB);
	const struct hbm_range taken = {one, 4 * SLAB, SLAB};
	assert_int_equal(hbm_commit(hbm, &taken, 1), 0);

	refuse((const struct hbm_range[]){{two, 0, SLAB}, {one, 4 * SLAB, SLAB}}, 2, HBM_EXISTS);
	refuse((const struct hbm_range[]){{two, 0, SLAB}, {one, 3 * SLAB, 2 * SLAB}}, 2,
	       HBM_EXISTS);
	refuse((const struct hbm_range[]){{one, 0, 2 * SLAB}, {one, SLAB, SLAB}}, 2, HBM_INVALID);
	refuse((const struct hbm_range[]){{two, 0, 256 * SLAB}}, 1, HBM_NO_SPACE);
	refuse((const struct hbm_range[]){{one, 0, SLAB}, {two, 0, 256 * SLAB}}, 2, HBM_NO_SPACE);
	refuse((const struct hbm_range[]){{one, 0, SLAB}, {one, SLAB / 2, SLAB}}, 2, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, 0, SLAB - 4096}}, 1, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, 0, 0}}, 1, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, 15 * SLAB, 2 * SLAB}}, 1, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, 16 * SLAB, SLAB}}, 1, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, SLAB, 0 - SLAB}}, 1, HBM_INVALID);
	refuse((const struct hbm_range[]){{one, 0 - SLAB, 2 * SLAB}}, 1, HBM_INVALID);

	/* Everything that was refused is still free. */
	const struct hbm_range rest[] = {
		{one, 0, 4 * SLAB}, {one, 5 * SLAB, 11 * SLAB}, {two, 0, 68 * SLAB}};
	assert_int_equal(hbm_commit(hbm, rest, 3), 0);
	assert_int_equal(leased(), POOL);
}

/* A client that may open too few descriptors is told so, again and again, and loses
 * nothing by it: neither its connection nor any of the memory, though its process goes
 * on. */
static void test_a_client_short_of_descriptors(void **state)
{
	(void)state;
	start(NULL);
	struct hbm_region *region = create(128ull << 20, SLAB);
	const struct hbm_range most = {region, 0, 120ull << 20};
	struct rlimit old, few;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(0);
	close(next);
	few = (struct rlimit){(rlim_t)next + 20, old.rlim_max};
	for (int i = 0; i < 4; i++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		int r = hbm_commit(hbm, &most, 1);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(r, -EMFILE);
		assert_int_equal(leased(), 0);
	}

	assert_int_equal(hbm_commit(hbm, &most, 1), 0);
	assert_int_equal(leased(), 120ull << 20);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
}

static void test_a_decommit_is_all_or_none(void **state)
{
	(void)state;
	start(NULL);
	one = create(16 * SLAB, SLAB);
	const struct hbm_range half = {one, 0, 8 * SLAB};
	assert_int_equal(hbm_commit(hbm, &half, 1), 0);
	const struct hbm_range too_much[] = {{one, 0, 2 * SLAB}, {one, 6 * SLAB, 3 * SLAB}};
	assert_int_equal(hbm_decommit(hbm, too_much, 2), HBM_NOT_FOUND);
	const struct hbm_range twice[] = {{one, 0, 2 * SLAB}, {one, SLAB, SLAB}};
	assert_int_equal(hbm_decommit(hbm, twice, 2), HBM_INVALID);
	assert_int_equal(leased(), 8 * SLAB);
	assert_int_equal(hbm_decommit(hbm, &half, 1), 0);
	assert_int_equal(hbm_decommit(hbm, &half, 1), HBM_NOT_FOUND);
	assert_int_equal(leased(), 0);
}

/* ---- Limits ---- */

static void test_limits(void **state)
{
	(void)state;
	static const char *const sets[] = {"limits.regions=3", "limits.address_space=64MiB",
					   "limits.commit_slabs=4", NULL};
	start(sets);
	struct hbm_region *region = NULL;
	const struct hbm_region_options large = {.address_space = 66ull << 20},
					huge = {.address_space = UINT64_MAX},
					small = {.address_space = SLAB},
					none = {.address_space = 0},
					elsewhere = {.device = 1, .address_space = SLAB};
	assert_int_equal(hbm_region_create(hbm, &large, &region), HBM_LIMIT);
	assert_int_equal(hbm_region_create(hbm, &huge, &region), HBM_INVALID);
	assert_int_equal(hbm_region_create(hbm, &none, &region), HBM_INVALID);
	assert_int_equal(hbm_region_create(hbm, &elsewhere, &region), HBM_INVALID);
	assert_null(region);
	assert_int_equal(hbm_info(hbm)->regions, 3);
	one = create(5 * SLAB, 0);
	create(SLAB, 0);
	two = create(SLAB, 0);
	assert_int_equal(hbm_region_create(hbm, &small, &region), HBM_LIMIT);
	assert_int_equal(hbm_region_destroy(hbm, two), 0);
	create(SLAB, 0);
	refuse((const struct hbm_range[]){{one, 0, 5 * SLAB}}, 1, HBM_LIMIT);
	assert_int_equal(hbm_commit(hbm, &(const struct hbm_range){one, 0, 4 * SLAB}, 1), 0);
}

/* ---- Bytes ---- */

static void test_one_client_loads_what_another_wrote(void **state)
{
	(void)state;
	start(NULL);
	struct kv writer, reader;
	kv_open(&writer, &daemon_, 0, 65536, 64);
	kv_open(&reader, &daemon_, 0, 65536, 64);
	assert_int_equal(writer.ns, reader.ns);
	hbm_result results[64];
	assert_int_equal(kv_store(&writer, 0, 1, 64, 0, results), 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(results[i].status, HBM_OK);
	assert_int_equal(kv_load(&reader, 0, 1, 64, results), 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(results[i].status, HBM_OK);
	kv_close(&writer);
	kv_close(&reader);
}

static void test_decommitted_memory_cannot_be_stored_from(void **state)
{
	(void)state;
	start(NULL);
	struct kv kv;
	kv_open(&kv, &daemon_, 0, 65536, 64);
	const struct hbm_range all = {kv.region, 0, hbm_region_bytes(kv.region)};
	assert_int_equal(hbm_decommit(kv.hbm, &all, 1), 0);
	struct hbm_block block;
	struct hbm_segment segment;
	kv_blocks(&kv, 0, 1, 1, 0, &block, &segment);
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), HBM_NOT_FOUND);
	kv_close(&kv);
}

/* ---- What an operator sees ---- */

static void test_hbmctl_shows_regions_and_sessions(void **state)
{
	(void)state;
	char out[8192];
	start(NULL);
	one = create(16 * SLAB, SLAB);
	assert_int_equal(hbm_commit(hbm, &(const struct hbm_range){one, 0, 3 * SLAB}, 1), 0);
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"--json", "regions", NULL}, out,
				      sizeof(out)),
			 0);
	assert_non_null(strstr(out, "33554432")); /* reserved */
	assert_non_null(strstr(out, "6291456"));  /* committed */
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"--json", "sessions", NULL}, out,
				      sizeof(out)),
			 0);
	assert_non_null(strstr(out, "\"test\""));
	assert_non_null(strstr(out, "6291456"));
}

static int count_session(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_session *session = record;
	uint64_t *of = arg; /* the session that is looked for, and its leased bytes */

	assert_int_equal(bytes, sizeof(*session));
	if (session->session == of[0])
		of[1] = session->leased;

	return 0;
}

/* By the number that HELLO told it. */
static void test_a_client_finds_its_session_among_others(void **state)
{
	(void)state;
	start(NULL);
	struct hbm *other = spawn_connect(&daemon_);
	uint64_t own[] = {hbm_info(hbm)->session, 1}, others[] = {hbm_info(other)->session, 1};

	one = create(16 * SLAB, SLAB);
	assert_int_equal(hbm_commit(hbm, &(const struct hbm_range){one, 0, 3 * SLAB}, 1), 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_SESSIONS, count_session, own), 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_SESSIONS, count_session, others), 0);
	assert_int_equal(own[1], 3 * SLAB);
	assert_int_equal(others[1], 0);

	/* Both are told of the same start of the daemon. */
	static const uint8_t none[sizeof(hbm_info(hbm)->boot_id)];
	assert_memory_not_equal(hbm_info(hbm)->boot_id, none, sizeof(none));
	assert_memory_equal(hbm_info(hbm)->boot_id, hbm_info(other)->boot_id, sizeof(none));
	hbm_close(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory_comes_and_goes_under_one_address),
		TEST(test_slab_sizes),
		TEST(test_one_commit_of_more_slabs_than_a_message_takes),
		TEST(test_a_commit_is_all_or_none),
		TEST(test_a_client_short_of_descriptors),
		TEST(test_a_decommit_is_all_or_none),
		TEST(test_limits),
		TEST(test_one_client_loads_what_another_wrote),
		TEST(test_decommitted_memory_cannot_be_stored_from),
		TEST(test_hbmctl_shows_regions_and_sessions),
		TEST(test_a_client_finds_its_session_among_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
