/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of an HBM tier of one daemon after another: what it has is there again, as far as it
 * is that of the same device and size; and what it has no more is the device's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"
#include "daemon/tier/hbm_kept.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/tier_resize.h"
#include "tests/support/soft_pool.h"
#include "tests/support/store_rig.h"

enum { PIECES = 6 };
#define PIECE (2 * GRANULE)
#define WHOLE (PIECES * PIECE)
#define WORD 0x1234567812345600u

/* One life of a daemon after the other. */
struct lives {
	struct soft_pool pool;
	struct leaks leaks;
	struct hbm_kept_place place;
	struct device *device;
	struct tier tier;
	struct hbm_memory *hbm;
	uint64_t before[PIECES + 2]; /* hbm_memory_of_before(), whenever the tier has grown */
	unsigned grown;
};

static struct lives lives;
static char folder[] = "/dev/shm/test-kept-XXXXXX";

static void shapes_of(struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1};
	shapes[STATE_TIER_PIECES] = (struct state_shape){sizeof(struct hbm_kept_record), 16};
}

static void grown(void *arg)
{
	(void)arg;
	assert_in_range(lives.grown, 0, PIECES + 1);
	lives.before[lives.grown++] = hbm_memory_of_before(lives.hbm);
}

static bool is_settled(void *arg)
{
	(void)arg;
	return hbm_memory_settled(lives.hbm);
}

/* A tier that is to have so many bytes, in new pieces of that size. */
static void open_tier(uint32_t device, uint64_t bytes, uint64_t piece)
{
	lives.device = &lives.pool.devices->list[device];
	lives.grown = 0;
	assert_int_equal(tier_init(&lives.tier, HBM_TIER_HBM, 1, bytes, 0, 16), 0);

	const struct hbm_memory_options options = {.tier = &lives.tier,
						   .device = lives.device,
						   .loop = lives.pool.loop,
						   .bytes = bytes,
						   .most = WHOLE,
						   .slab = piece,
						   .kept = lives.place,
						   .progress = grown};
	assert_int_equal(hbm_memory_open(&lives.hbm, &options), CUDA_SUCCESS);
}

static void settle(void)
{
	pool_run(&lives.pool, is_settled, NULL);
	assert_null(extent_check(lives.tier.extents));
}

static void begin_without_tier(void)
{
	pool_begin(&lives.pool, 0, NULL);
	assert_int_equal(parking_open(&lives.place.parking), 0);
}

static void begin(uint64_t bytes)
{
	begin_without_tier();
	open_tier(1, bytes, PIECE);
}

static void end(void)
{
	lives.hbm = hbm_memory_close(lives.hbm);
	tier_clear(&lives.tier);
	pool_end(&lives.pool);
	lives.place.parking = parking_close(lives.place.parking);
}

/* It is killed, and what it had is there for the next one. */
static void die(void)
{
	struct state_shape shapes[STATE_TABLES];
	char error[256] = "";
	int fd = dup(state_fd(lives.place.state));

	shapes_of(shapes);
	end();
	state_free(lives.place.state);
	if (state_adopt(&lives.place.state, fd, shapes, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	store_rig_settle();
	store_rig_next();
}

static void die_and_begin(uint64_t bytes)
{
	die();
	begin(bytes);
}

static int set_up(void **state)
{
	struct state_shape shapes[STATE_TABLES];
	char words[128];

	(void)state;
	memset(&lives, 0, sizeof(lives));
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(folder));
	snprintf(words, sizeof(words), "card=%s", folder);
	setenv("HBM_SOFT", words, 1);
	leaks_begin(&lives.leaks);
	store_rig_open();
	shapes_of(shapes);
	assert_int_equal(state_new(&lives.place.state, shapes), 0);
	begin(WHOLE);

	return 0;
}

/* With what is kept the device's memory goes. */
static int tear_down(void **state)
{
	(void)state;
	end();
	lives.place.state = state_free(lives.place.state);
	store_rig_close();
	keep_forget();
	assert_int_equal(leaks_end(&lives.leaks), 0);
	unsetenv("HBM_SOFT");

	return rmdir(folder);
}

static void write_word(uint64_t offset, uint64_t word)
{
	assert_int_equal(device_enter(lives.device), CUDA_SUCCESS);
	assert_int_equal(lives.device->driver->cuMemcpyHtoD(lives.tier.base + offset, &word, 8),
			 CUDA_SUCCESS);
}

static uint64_t read_word(uint64_t offset)
{
	uint64_t word = 1;

	assert_int_equal(device_enter(lives.device), CUDA_SUCCESS);
	assert_int_equal(lives.device->driver->cuMemcpyDtoH(&word, lives.tier.base + offset, 8),
			 CUDA_SUCCESS);

	return word;
}

/* At both ends of each granule. */
static void mark(uint64_t from, uint64_t to)
{
	for (; from < to; from += GRANULE) {
		write_word(from, WORD + from / GRANULE);
		write_word(from + GRANULE - 8, WORD + from / GRANULE);
	}
}

static void expect_marks(uint64_t from, uint64_t to)
{
	for (; from < to; from += GRANULE) {
		assert_int_equal(read_word(from), WORD + from / GRANULE);
		assert_int_equal(read_word(from + GRANULE - 8), WORD + from / GRANULE);
	}
}

static void expect_kept(size_t pieces)
{
	assert_int_equal(parking_count(lives.place.parking), pieces);
	assert_int_equal(state_count(lives.place.state, STATE_TIER_PIECES), pieces);
}

static uint64_t free_bytes(void)
{
	size_t free, total;

	assert_int_equal(device_enter(lives.device), CUDA_SUCCESS);
	assert_int_equal(lives.device->driver->cuMemGetInfo(&free, &total), CUDA_SUCCESS);

	return free;
}

/* ---- the same tier ---- */

static void test_it_is_there_again(void **state)
{
	(void)state;
	settle();
	uint32_t number = hbm_memory_number(lives.hbm);
	uint64_t free = free_bytes();

	assert_in_range(number, HBM_KEPT_FIRST, UINT32_MAX);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 0);
	expect_kept(PIECES);
	mark(0, WHOLE);
	for (unsigned round = 0; round < 3; round++) {
		die_and_begin(WHOLE);
		assert_int_equal(hbm_memory_of_before(lives.hbm), WHOLE);
		assert_int_equal(hbm_memory_number(lives.hbm), number);
		settle();
		assert_int_equal(lives.grown, PIECES);
		assert_int_equal(lives.tier.usable, WHOLE);
		assert_int_equal(lives.pool.call.calls("cuMemCreate"), 0);
		assert_true(hbm_memory_rate(lives.hbm) > 0); /* measured on what is there */
		expect_marks(0, WHOLE);
		expect_kept(PIECES);
		assert_int_equal(free_bytes(), free);
	}
}

/* The one who is killed before all of it is there again has kept all. */
static void test_killed_while_it_comes_back(void **state)
{
	(void)state;
	settle();
	mark(0, WHOLE);
	die_and_begin(WHOLE);
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), WHOLE);
	settle();
	expect_marks(0, WHOLE);
	expect_kept(PIECES);
}

/* ---- another size ---- */

static void test_smaller_and_larger(void **state)
{
	(void)state;
	settle();
	uint32_t number = hbm_memory_number(lives.hbm);
	uint64_t free = free_bytes();

	mark(0, WHOLE);
	die_and_begin(WHOLE / 2 + GRANULE); /* half of a piece is none */
	assert_int_equal(hbm_memory_of_before(lives.hbm), WHOLE / 2);
	settle();
	expect_marks(0, WHOLE / 2);
	assert_int_equal(read_word(WHOLE / 2), 0);
	expect_kept(PIECES / 2 + 1);
	assert_int_equal(free_bytes(), free + WHOLE / 2 - GRANULE);

	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), WHOLE / 2 + GRANULE);
	assert_int_equal(hbm_memory_number(lives.hbm), number);
	settle();
	expect_marks(0, WHOLE / 2);
	for (uint64_t at = WHOLE / 2; at < WHOLE; at += GRANULE)
		assert_int_equal(read_word(at), 0);
	assert_int_equal(lives.tier.usable, WHOLE);
	assert_int_equal(free_bytes(), free);
}

static void given_back(void *arg, uint64_t bytes)
{
	*(uint64_t *)arg = bytes;
}

static bool is_given_back(void *arg)
{
	return *(uint64_t *)arg != 0;
}

/* What is given back while it serves is the device's at once. */
static void test_resized(void **state)
{
	(void)state;
	uint64_t bytes = 0;

	settle();
	uint64_t free = free_bytes();
	mark(0, WHOLE);
	assert_int_equal(tier_retire_to(&lives.tier, WHOLE - 2 * PIECE), 0);
	while (tier_sort_some(&lives.tier, 16))
		;
	hbm_memory_give_back(lives.hbm, given_back, &bytes);
	pool_run(&lives.pool, is_given_back, &bytes);
	assert_int_equal(bytes, 2 * PIECE);
	expect_kept(PIECES - 2);
	assert_int_equal(free_bytes(), free + 2 * PIECE);

	hbm_memory_grow(lives.hbm, PIECE);
	settle();
	expect_kept(PIECES - 1);
	mark(WHOLE - 2 * PIECE, WHOLE - PIECE);
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), WHOLE - PIECE);
	settle();
	expect_marks(0, WHOLE - PIECE);
}

/* ---- what cannot be taken over ---- */

static void test_another_device(void **state)
{
	uint32_t numbers[1];

	(void)state;
	settle();
	uint32_t number = hbm_memory_number(lives.hbm);
	mark(0, WHOLE);
	die();
	begin_without_tier();
	open_tier(0, WHOLE, PIECE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 0);
	numbers[0] = hbm_memory_number(lives.hbm);
	assert_true(numbers[0] > number);
	hbm_kept_let_go(&lives.place, numbers, 1);
	expect_kept(0);
	settle();
	assert_int_equal(read_word(0), 0);
	expect_kept(PIECES);
}

static void test_what_is_to_be_overwritten(void **state)
{
	(void)state;
	settle();
	uint32_t number = hbm_memory_number(lives.hbm);
	uint64_t free = free_bytes();

	mark(0, WHOLE);
	lives.place.without = true;
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 0);
	assert_true(hbm_memory_number(lives.hbm) > number);
	settle();
	for (uint64_t at = 0; at < WHOLE; at += GRANULE)
		assert_int_equal(read_word(at), 0);
	expect_kept(PIECES);
	assert_int_equal(free_bytes(), free);
}

static uint64_t piece_at(uint64_t offset)
{
	const struct state *state = lives.place.state;

	for (uint32_t i = 0; (i = state_next(state, STATE_TIER_PIECES, i)) != STATE_NONE; i++) {
		const struct hbm_kept_record *record = state_body(state, STATE_TIER_PIECES, i);
		if (record->offset == offset)
			return record->piece;
	}
	fail_msg("no piece at %llu", (unsigned long long)offset);
	return 0;
}

static void test_a_piece_without_a_descriptor(void **state)
{
	(void)state;
	settle();
	uint64_t free = free_bytes();

	mark(0, WHOLE);
	parking_drop(lives.place.parking, parking_id(PARK_TIER, piece_at(2 * PIECE)));
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 2 * PIECE);
	settle();
	expect_marks(0, 2 * PIECE);
	assert_int_equal(read_word(2 * PIECE), 0);
	assert_int_equal(read_word(5 * PIECE), 0);
	expect_kept(PIECES);
	assert_int_equal(free_bytes(), free);
}

/* Known before what is new takes its place. */
static void try_failure(const char *call, unsigned nth, bool stays)
{
	settle();
	mark(0, WHOLE);
	die();
	begin_without_tier();
	assert_int_equal(lives.pool.call.fail_nth(call, nth, CUDA_ERROR_UNKNOWN), 0);
	open_tier(1, WHOLE, PIECE);
	settle();
	lives.pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(lives.before[1], WHOLE);
	assert_int_equal(lives.before[2], 2 * PIECE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 2 * PIECE);
	assert_int_equal(lives.tier.usable, stays ? 2 * PIECE : WHOLE);
	expect_marks(0, 2 * PIECE);
	if (!stays)
		assert_int_equal(read_word(2 * PIECE), 0);
	expect_kept(stays ? 2 : PIECES);
}

static void test_an_import_that_fails(void **state)
{
	(void)state;
	try_failure("cuMemImportFromShareableHandle", 3, false);
}

static void test_a_mapping_that_fails(void **state)
{
	(void)state;
	try_failure("cuMemMap", 3, false);
}

static void test_access_that_fails(void **state)
{
	(void)state;
	try_failure("cuMemSetAccess", 3, true);
}

/* ---- what cannot be kept ---- */

/* With a state that has room for so many pieces, and nothing that was before. */
static void begin_anew_without_tier(uint32_t pieces)
{
	struct state_shape shapes[STATE_TABLES];

	end();
	state_free(lives.place.state);
	shapes_of(shapes);
	shapes[STATE_TIER_PIECES].capacity = pieces;
	assert_int_equal(state_new(&lives.place.state, shapes), 0);
	store_rig_settle();
	store_rig_next();
	begin_without_tier();
	parking_let_go(lives.place.parking);
}

static void test_no_room_to_keep(void **state)
{
	(void)state;
	begin_anew_without_tier(4);
	open_tier(1, WHOLE, PIECE);
	settle();
	assert_int_equal(lives.tier.usable, WHOLE);
	expect_kept(4);
	mark(0, WHOLE);
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 4 * PIECE);
	settle();
	expect_marks(0, 4 * PIECE);
	assert_int_equal(read_word(4 * PIECE), 0);
}

static void test_an_export_that_fails(void **state)
{
	(void)state;
	begin_anew_without_tier(16);
	assert_int_equal(lives.pool.call.fail_nth("cuMemExportToShareableHandle", 3,
						  CUDA_ERROR_OPERATING_SYSTEM),
			 0);
	open_tier(1, WHOLE, PIECE);
	settle();
	lives.pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(lives.tier.usable, WHOLE);
	expect_kept(2); /* none behind it */
	mark(0, WHOLE);
	die_and_begin(WHOLE);
	assert_int_equal(hbm_memory_of_before(lives.hbm), 2 * PIECE);
	settle();
	expect_marks(0, 2 * PIECE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_it_is_there_again),
		TEST(test_killed_while_it_comes_back),
		TEST(test_smaller_and_larger),
		TEST(test_resized),
		TEST(test_another_device),
		TEST(test_what_is_to_be_overwritten),
		TEST(test_a_piece_without_a_descriptor),
		TEST(test_an_import_that_fails),
		TEST(test_a_mapping_that_fails),
		TEST(test_access_that_fails),
		TEST(test_no_room_to_keep),
		TEST(test_an_export_that_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
