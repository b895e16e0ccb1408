/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that are encoded on the way to NVMe: what they take there, that every byte comes
 * back, and that what fails half way leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cache/cache.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/tier/nvme_file.h"
#include "daemon/tier/tier.h"
#include "tests/support/traffic.h"

#define BLOCK (64 * KIB)

enum { BLOCKS = 4 }; /* noise, zeros, numbers, alternating bytes */

static const unsigned elements[] = {2, 1, 4, 2};

static struct traffic *traffic_encoded(const char *name)
{
	struct traffic *traffic = traffic_new(name);

	for (unsigned i = 0; i < TRAFFIC_NAMESPACES; i++)
		traffic->encodings[i] = (struct hbm_wire_encoding){
			.encoding = HBM_ENCODING_LOSSLESS, .element_bytes = elements[i]};

	return traffic;
}

static struct cache *cache_of(const struct traffic *traffic)
{
	return traffic->rig.hbmd.cache;
}

static uint64_t bytes_of(const struct traffic *traffic, enum hbm_link kind)
{
	struct hbm_wire_link link;

	link_stats_link(traffic->rig.hbmd.link_stats, kind, &link);

	return link.bytes;
}

static uint64_t stored_bytes(struct traffic *traffic, uint32_t key)
{
	uint32_t number = traffic_find(traffic, 0, key);

	assert_int_not_equal(number, 0);

	return block_stored_bytes(cache_block(cache_of(traffic), number));
}

static void settle(struct traffic *traffic)
{
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	rig_assert_balanced(&traffic->rig);
}

static void use_all(struct traffic *traffic)
{
	traffic_use(traffic, 0, 0, BLOCKS, 0);
	settle(traffic);
}

static void push_down(struct traffic *traffic)
{
	struct cache *cache = cache_of(traffic);

	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	settle(traffic);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	settle(traffic);
}

static void assert_takes(const struct tier *tier, uint64_t blocks, uint64_t bytes)
{
	assert_int_equal(tier->blocks, blocks);
	assert_int_equal(tier->logical_bytes, blocks * BLOCK);
	assert_int_equal(tier->bytes, bytes);
	assert_int_equal(tier->placed, bytes);
	assert_int_equal(tier->moving, 0);
}

/* In memory they are as they were; on the disk each takes what it was encoded into, and noise
 * as much as before. Up again, and down without another encoding: a copy has the size. */
static void test_they_take_less_of_the_disk(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	uint64_t sum = 0;
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = cache_of(traffic);

	use_all(traffic);
	assert_takes(cache_hbm(cache, 0), BLOCKS, BLOCKS * BLOCK);
	push_down(traffic);

	assert_int_equal(stored_bytes(traffic, 0), BLOCK);
	assert_int_equal(stored_bytes(traffic, 1), EXTENT_UNIT);
	assert_in_range(stored_bytes(traffic, 2), BLOCK / 2, BLOCK * 3 / 4);
	assert_int_equal(stored_bytes(traffic, 3), EXTENT_UNIT);
	for (uint32_t i = 0; i < BLOCKS; i++)
		sum += stored_bytes(traffic, i);
	assert_takes(cache->nvme, BLOCKS, sum);
	assert_int_equal(bytes_of(traffic, HBM_LINK_NVME_WRITE), sum);
	assert_int_equal(bytes_of(traffic, HBM_LINK_ENCODE), BLOCKS * BLOCK);

	use_all(traffic);
	assert_takes(cache_hbm(cache, 0), BLOCKS, BLOCKS * BLOCK);
	assert_int_equal(bytes_of(traffic, HBM_LINK_NVME_READ), sum);
	assert_int_equal(bytes_of(traffic, HBM_LINK_DECODE), (BLOCKS - 1) * BLOCK);
	assert_int_equal(cache->nvme->copies, sum);

	push_down(traffic);
	assert_takes(cache->nvme, BLOCKS, sum);
	assert_int_equal(bytes_of(traffic, HBM_LINK_ENCODE), BLOCKS * BLOCK);
	assert_int_equal(cache->nvme->reused_blocks, BLOCKS);
	use_all(traffic);
	traffic_end(traffic);
}

/* Zeros are encoded into less than a hundred bytes, and what follows them is no memory of
 * another block. */
static void assert_padded(struct traffic *traffic)
{
	const struct block *block = cache_block(cache_of(traffic), traffic_find(traffic, 0, 1));
	unsigned char bytes[EXTENT_UNIT];
	int fd = open(traffic->rig.file, O_RDONLY | O_CLOEXEC);

	assert_in_range(fd, 0, INT32_MAX);
	assert_int_equal(
		pread(fd, bytes, sizeof(bytes), (off_t)(NVME_HEAD + tier_offset(block->unit))),
		sizeof(bytes));
	close(fd);
	for (size_t i = 100; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], 0);
}

/* Without copies it is encoded again, into an extent of the size that is known; unless it did
 * not shrink, which is known too. */
static void test_the_size_is_known_the_second_time(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic->rig.config.nvme_copies = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct tier *nvme = cache_of(traffic)->nvme;

	use_all(traffic);
	push_down(traffic);
	uint64_t bytes = nvme->bytes;
	for (unsigned round = 0; round < 3; round++) {
		use_all(traffic);
		assert_takes(nvme, 0, 0);
		push_down(traffic);
		assert_takes(nvme, BLOCKS, bytes);
		assert_padded(traffic);
	}

	assert_int_equal(bytes_of(traffic, HBM_LINK_ENCODE), (BLOCKS + 3 * (BLOCKS - 1)) * BLOCK);
	traffic_end(traffic);
}

/* Pinned bytes are what they take where they are to be. */
static void test_pinned_bytes_follow(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = cache_of(traffic);

	use_all(traffic);
	push_down(traffic);
	traffic_pin(traffic, 0, 2);
	assert_int_equal(ledger_used(&cache->pinned[cache->nvme->number], LEDGER_PINNED),
			 stored_bytes(traffic, 2) + stored_bytes(traffic, 1) +
				 stored_bytes(traffic, 0));
	settle(traffic);
	traffic_unpin(traffic, 0, 2);
	assert_int_equal(ledger_used(&cache->pinned[cache->nvme->number], LEDGER_PINNED), 0);
	use_all(traffic);
	traffic_end(traffic);
}

/* Straight to the disk, and from there to a client: staging has both. */
static void test_without_tiers_above(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);

	use_all(traffic);
	assert_int_equal(cache_of(traffic)->nvme->blocks, BLOCKS);
	assert_true(cache_of(traffic)->nvme->bytes < 3 * BLOCK);
	use_all(traffic);
	assert_int_equal(traffic->loads, BLOCKS);
	traffic_end(traffic);
}

/* ---- whatever happens ---- */

static void everything(struct traffic *traffic, unsigned operations)
{
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
	do
		traffic_random(traffic, operations);
	while (traffic->loads == 0 || bytes_of(traffic, HBM_LINK_DECODE) == 0);
	assert_true(bytes_of(traffic, HBM_LINK_ENCODE) > 0);
	traffic_end(traffic);
}

static void test_mixed_sizes_and_checksums(void **state)
{
	(void)state;
	static const enum config_checksum checksums[] = {CONFIG_CHECKSUM_NVME, CONFIG_CHECKSUM_OFF,
							 CONFIG_CHECKSUM_ALWAYS};

	for (unsigned i = 0; i < 3; i++) {
		struct traffic *traffic = traffic_encoded(__func__);
		traffic->rig.config.ddr_staging = 2 * MIB;
		traffic->rig.config.checksum = checksums[i];
		everything(traffic, 400);
	}
}

/* Staging for one of the largest at a time; extents of raw blocks between those of others. */
static void test_no_more_staging_than_one_needs(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic->rig.config.ddr_staging = MIB;
	traffic->encodings[1] = (struct hbm_wire_encoding){0};
	everything(traffic, 600);
}

static void test_no_copies_and_no_headroom_to_speak_of(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic->rig.config.ddr_staging = MIB;
	traffic->rig.config.nvme_copies = (struct config_size){0};
	everything(traffic, 600);
}

/* ---- what fails ---- */

/* Wrong bytes are a miss, whether they can be decoded or not; without checksums those that
 * cannot be are. */
static void test_spoilt_bytes_are_a_miss(void **state)
{
	(void)state;
	enum { END = 36000 }; /* what follows may be padding */

	for (uint64_t at = 0; at < END; at += 4999) {
		struct traffic *traffic = traffic_encoded(__func__);
		traffic_open(traffic, 1, traffic_one_size);
		use_all(traffic);
		push_down(traffic);
		assert_true(stored_bytes(traffic, 2) > END + EXTENT_UNIT);
		traffic_corrupt_file(traffic, traffic_find(traffic, 0, 2), at);

		traffic->faulty = true;
		traffic_use(traffic, 0, 2, 1, 0);
		settle(traffic);
		assert_int_equal(cache_of(traffic)->counters.checksum_failures, 1);
		assert_int_equal(traffic->failed_loads, 1);
		traffic_close(traffic);
		traffic_free(traffic);
	}
}

static void test_what_cannot_be_decoded_is_a_miss(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_encoded(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_OFF;
	traffic_open(traffic, 1, traffic_one_size);
	use_all(traffic);
	push_down(traffic);
	for (uint64_t at = 0; at < 16; at++) /* the sizes of planes */
		traffic_corrupt_file(traffic, traffic_find(traffic, 0, 2), at);

	traffic->faulty = true;
	traffic_use(traffic, 0, 2, 1, 0);
	settle(traffic);
	assert_int_equal(traffic->failed_loads, 1);
	traffic_close(traffic);
	traffic_free(traffic);
}

/* The n-th read or write, for every n until a run passes. */
static void every_io_fails_once(const char *name, const char *way, const char *what)
{
	bool failed = true;

	for (unsigned nth = 1; failed; nth++) {
		struct traffic *traffic = traffic_encoded(name);
		char fail[64];
		snprintf(fail, sizeof(fail), "%s:%u:%s", way, nth, what);
		free(traffic->rig.config.nvme_fail);
		traffic->rig.config.nvme_fail = strdup(fail);
		traffic->faulty = true;
		traffic_open(traffic, 1, traffic_one_size);
		struct cache *cache = cache_of(traffic);

		use_all(traffic);
		push_down(traffic);
		use_all(traffic);
		push_down(traffic);
		failed = cache->counters.io_errors > 0;
		assert_in_range(nth, 1, 200);
		traffic_close(traffic);
		traffic_free(traffic);
	}
}

static void test_every_read_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(__func__, "read", "EIO");
}

static void test_every_write_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(__func__, "write", "EIO");
}

static void test_every_write_is_short_once(void **state)
{
	(void)state;
	every_io_fails_once(__func__, "write", "short");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_they_take_less_of_the_disk),
		cmocka_unit_test(test_the_size_is_known_the_second_time),
		cmocka_unit_test(test_pinned_bytes_follow),
		cmocka_unit_test(test_without_tiers_above),
		cmocka_unit_test(test_mixed_sizes_and_checksums),
		cmocka_unit_test(test_no_more_staging_than_one_needs),
		cmocka_unit_test(test_no_copies_and_no_headroom_to_speak_of),
		cmocka_unit_test(test_spoilt_bytes_are_a_miss),
		cmocka_unit_test(test_what_cannot_be_decoded_is_a_miss),
		cmocka_unit_test(test_every_read_fails_once),
		cmocka_unit_test(test_every_write_fails_once),
		cmocka_unit_test(test_every_write_is_short_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
