/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The depth that the NVMe tier finds for itself, on disks that are made up: each says how many
 * bytes a second it moves with so many I/Os in flight, and time passes as it says. No clock
 * is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/nvme_depth.h"
#include "tests/support/seed.h"

#define MIB (1ull << 20)
#define SECOND UINT64_C(1000000000)

enum { FIRST = 16, MOST = 64 };

/* A disk, and what keeps it busy. */
struct disk {
	double (*mib_s)(const struct disk *disk, unsigned in_flight);
	struct nvme_depth depth;
	uint64_t now_ns;
	uint64_t bytes; /* of an I/O */
	unsigned in_flight;
	struct seed seed;
};

static void disk_open(struct disk *disk, double (*mib_s)(const struct disk *, unsigned))
{
	*disk = (struct disk){.mib_s = mib_s, .bytes = MIB / 4};
	nvme_depth_open(&disk->depth, FIRST, MOST);
}

/* There is always more to do: as many are begun as may be, and one ends. */
static void disk_step(struct disk *disk)
{
	if (disk->in_flight < disk->depth.now)
		disk->in_flight = disk->depth.now;

	double seconds = (double)disk->bytes / MIB / disk->mib_s(disk, disk->in_flight);
	disk->now_ns += (uint64_t)(seconds * SECOND);
	disk->in_flight--;
	nvme_depth_ended(&disk->depth, disk->bytes, disk->in_flight, disk->now_ns);
}

static void disk_run(struct disk *disk, unsigned seconds)
{
	for (uint64_t end = disk->now_ns + seconds * SECOND; disk->now_ns < end;)
		disk_step(disk);
}

/* For a while the depth stays within these, whatever it tries. */
static void assert_stays(struct disk *disk, unsigned least, unsigned most)
{
	for (uint64_t end = disk->now_ns + 20 * SECOND; disk->now_ns < end;) {
		disk_step(disk);
		assert_in_range(disk->depth.now, least, most);
	}
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* ---- disks ---- */

static double eight_at_once(const struct disk *disk, unsigned in_flight)
{
	(void)disk;
	return least(in_flight, 8) * 250;
}

static double as_many_as_there_are(const struct disk *disk, unsigned in_flight)
{
	(void)disk;
	return in_flight * 20.0;
}

static double one_at_a_time(const struct disk *disk, unsigned in_flight)
{
	(void)disk;
	(void)in_flight;
	return 200;
}

/* As some virtual disks are: more than it takes at once slow it down. */
static double slowed_by_many(const struct disk *disk, unsigned in_flight)
{
	(void)disk;
	return in_flight <= 6 ? in_flight * 200.0 : 1200.0 - 10 * (in_flight - 6);
}

/* A fifth slower after each second, until it is a tenth; whatever is in flight beyond eight. */
static double tiring(const struct disk *disk, unsigned in_flight)
{
	double rate = eight_at_once(disk, in_flight);

	for (uint64_t s = disk->now_ns / SECOND; s > 0 && rate > 100; s--)
		rate *= 0.8;

	return rate;
}

/* Each I/O takes up to a third more or less than it should. */
static double noisy(const struct disk *disk, unsigned in_flight)
{
	struct seed *seed = (struct seed *)&disk->seed;

	return eight_at_once(disk, in_flight) * (0.75 + (double)seed_below(seed, 500) / 1000);
}

/* ---- ---- */

static void test_it_finds_what_the_disk_takes(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, eight_at_once);
	assert_int_equal(disk.depth.now, FIRST);
	disk_run(&disk, 5);
	assert_stays(&disk, 7, 11);

	disk_open(&disk, slowed_by_many);
	disk_run(&disk, 5);
	assert_stays(&disk, 5, 8);
}

static void test_it_goes_to_the_ends(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, as_many_as_there_are);
	disk_run(&disk, 10);
	assert_stays(&disk, MOST * 3 / 4, MOST);
	assert_int_equal(disk.depth.present, MOST);

	disk_open(&disk, one_at_a_time);
	disk_run(&disk, 10);
	assert_stays(&disk, 1, 2);
	assert_int_equal(disk.depth.present, 1);
}

/* Another disk, or other I/Os: what was found does not hold for ever. */
static void test_it_follows_a_change(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, one_at_a_time);
	disk_run(&disk, 10);
	disk.mib_s = as_many_as_there_are;
	disk_run(&disk, 10);
	assert_in_range(disk.depth.present, MOST * 15 / 16, MOST);
	disk.mib_s = eight_at_once;
	disk_run(&disk, 10);
	assert_stays(&disk, 6, 11);
}

/* A disk that gets slower by itself is not taken for one that another depth slows down. */
static void test_a_disk_that_tires(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, tiring);
	disk_run(&disk, 5);
	assert_stays(&disk, 6, 12);
}

static void test_a_noisy_disk(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, noisy);
	seed_open(&disk.seed, "a noisy disk");
	disk_run(&disk, 5);
	assert_stays(&disk, 5, 24);
}

/* What does not wait for the depth says nothing about it. */
static void test_little_to_do(void **state)
{
	(void)state;
	struct disk disk;

	disk_open(&disk, eight_at_once);
	for (unsigned i = 0; i < 100000; i++) {
		disk_step(&disk);
		if (i % 50 == 0) {
			disk.in_flight /= 2;
			nvme_depth_unused(&disk.depth, disk.in_flight, disk.now_ns);
		}
		assert_int_equal(disk.depth.now, FIRST);
	}
}

static void test_a_fixed_number(void **state)
{
	(void)state;
	struct disk disk;

	for (unsigned fixed = 0; fixed < 40; fixed += 13) {
		disk_open(&disk, one_at_a_time);
		if (fixed > 0)
			nvme_depth_open_fixed(&disk.depth, fixed);
		else
			nvme_depth_open(&disk.depth, FIRST, 1);
		for (unsigned i = 0; i < 100000; i++) {
			disk_step(&disk);
			assert_int_equal(disk.depth.now, fixed > 0 ? fixed : 1);
		}
	}
}

/* Fewer than it would begin with. */
static void test_a_low_maximum(void **state)
{
	(void)state;
	struct disk disk;

	for (unsigned most = 2; most < FIRST; most++) {
		disk_open(&disk, as_many_as_there_are);
		nvme_depth_open(&disk.depth, FIRST, most);
		assert_int_equal(disk.depth.now, most);
		assert_stays(&disk, most > 2 ? most * 3 / 4 : 1, most);
		disk.mib_s = one_at_a_time;
		disk_run(&disk, 5);
		assert_stays(&disk, 1, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_finds_what_the_disk_takes),
		cmocka_unit_test(test_it_goes_to_the_ends),
		cmocka_unit_test(test_it_follows_a_change),
		cmocka_unit_test(test_a_disk_that_tires),
		cmocka_unit_test(test_a_noisy_disk),
		cmocka_unit_test(test_little_to_do),
		cmocka_unit_test(test_a_fixed_number),
		cmocka_unit_test(test_a_low_maximum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
