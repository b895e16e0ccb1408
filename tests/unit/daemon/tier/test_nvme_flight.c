/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the NVMe tier may be in flight: by number, by bytes, and how either follows a
 * disk that is made up. Time passes as that says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/nvme_flight.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define SECOND UINT64_C(1000000000)

static uint64_t now_ns;

static void fill(struct nvme_flight *flight, uint64_t bytes)
{
	while (nvme_flight_has_room(flight))
		nvme_flight_begin(flight, bytes);
}

/* A disk that moves so much in a second for each I/O in flight, and at most `most`. */
static void run(struct nvme_flight *flight, uint64_t bytes, uint64_t each, uint64_t most)
{
	for (uint64_t end = now_ns + 20 * SECOND; now_ns < end;) {
		fill(flight, bytes);
		nvme_flight_look(flight, now_ns);
		uint64_t rate = flight->ios * each < most ? flight->ios * each : most;
		now_ns += bytes * SECOND / rate;
		nvme_flight_end(flight, bytes, bytes, now_ns);
	}

	while (flight->ios > 0)
		nvme_flight_end(flight, bytes, bytes, now_ns);
}

static void test_so_many_and_so_much(void **state)
{
	(void)state;
	struct nvme_flight flight;

	nvme_flight_open(&flight, 5, 0, 2 * MIB);
	fill(&flight, MIB);
	assert_int_equal(flight.ios, 5);
	nvme_flight_end(&flight, MIB, MIB, 0);
	assert_true(nvme_flight_has_room(&flight));

	nvme_flight_open(&flight, 100, 0, 64 * KIB);
	fill(&flight, 64 * KIB);
	assert_int_equal(flight.ios, 100);
	nvme_flight_open(&flight, 1000, 0, 64 * KIB);
	fill(&flight, 64 * KIB);
	assert_int_equal(flight.bytes, 8 * MIB);

	nvme_flight_open(&flight, 100, 0, 4 * MIB);
	nvme_flight_begin(&flight, MIB);
	fill(&flight, 4 * MIB);
	assert_int_equal(flight.bytes, 17 * MIB);
	nvme_flight_shorten(&flight, 3 * MIB);
	assert_true(nvme_flight_has_room(&flight));
}

/* Large ones: the bytes are what limits, and what is tried. */
static void test_the_window_follows_the_disk(void **state)
{
	(void)state;
	struct nvme_flight flight;

	nvme_flight_open(&flight, 0, 64, 2 * MIB);
	assert_int_equal(nvme_flight_depth(&flight), 16);
	assert_int_equal(nvme_flight_window(&flight), 8 * MIB);
	run(&flight, 2 * MIB, 100 * MIB, 1000 * MIB);
	assert_in_range(nvme_flight_window(&flight), 16 * MIB, 26 * MIB);
	assert_int_equal(nvme_flight_depth(&flight), 16);

	run(&flight, 2 * MIB, 100 * MIB, 100000 * MIB);
	assert_in_range(nvme_flight_window(&flight), 24 * MIB, 32 * MIB);
	run(&flight, 2 * MIB, 1000 * MIB, 1000 * MIB);
	assert_in_range(nvme_flight_window(&flight), 2 * MIB, 4 * MIB);
}

/* Small ones: their number is. */
static void test_the_depth_follows_the_disk(void **state)
{
	(void)state;
	struct nvme_flight flight;

	nvme_flight_open(&flight, 0, 64, 2 * MIB);
	run(&flight, 64 * KIB, 30 * MIB, 100000 * MIB);
	assert_in_range(nvme_flight_depth(&flight), 45, 64);
	assert_int_equal(nvme_flight_window(&flight), 8 * MIB);
	run(&flight, 64 * KIB, 100 * MIB, 800 * MIB);
	assert_in_range(nvme_flight_depth(&flight), 6, 12);
	assert_int_equal(nvme_flight_window(&flight), 8 * MIB);
}

/* A fixed depth, and the bytes that go with it, stay whatever the disk does. */
static void test_a_fixed_depth(void **state)
{
	(void)state;
	struct nvme_flight flight;

	nvme_flight_open(&flight, 12, 64, 2 * MIB);
	run(&flight, 64 * KIB, 100 * MIB, 100 * MIB);
	run(&flight, 2 * MIB, 100 * MIB, 100 * MIB);
	assert_int_equal(nvme_flight_depth(&flight), 12);
	assert_int_equal(nvme_flight_window(&flight), 8 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_so_many_and_so_much),
		cmocka_unit_test(test_the_window_follows_the_disk),
		cmocka_unit_test(test_the_depth_follows_the_disk),
		cmocka_unit_test(test_a_fixed_depth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
