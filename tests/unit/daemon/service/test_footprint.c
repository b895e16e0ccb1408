/* SPDX-License-Identifier: Apache-2.0 */
/* The figure of what the daemon takes at most beside its tiers: each limit is in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/service/footprint.h"
#include "daemon/tier/hash_pool.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

struct fixture {
	struct config config;
	struct device device[2];
	struct devices devices;
};

static int setup(void **state)
{
	static struct fixture fixture;
	memset(&fixture, 0, sizeof(fixture));
	assert_int_equal(config_defaults(&fixture.config), 0);
	fixture.device[0].total = fixture.device[1].total = 80 * GIB;
	fixture.devices = (struct devices){.count = 1, .list = fixture.device, .numa.count = 1};
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	config_clear(&fixture->config);
	return 0;
}

static void the_parts_are_the_sum(void **state)
{
	struct fixture *fixture = *state;
	struct footprint parts = footprint_of(&fixture->config, &fixture->devices);
	uint64_t sum = 0;

	const uint64_t *part = (const uint64_t *)(const void *)&parts;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*part); i++) {
		assert_true(part[i] > 0);
		sum += part[i];
	}

	assert_int_equal(footprint_total(&parts), sum);
}

/* By default on a device of 80 GiB. */
static void it_is_a_few_gib(void **state)
{
	struct fixture *fixture = *state;
	struct footprint parts = footprint_of(&fixture->config, &fixture->devices);

	assert_in_range(footprint_total(&parts), GIB, 5 * GIB);
}

/* Doubles a limit: by how much the figure grows, without the state. */
static uint64_t growth_of(struct fixture *fixture, uint64_t *limit)
{
	struct footprint before = footprint_of(&fixture->config, &fixture->devices), after;

	*limit *= 2;
	after = footprint_of(&fixture->config, &fixture->devices);
	*limit /= 2;

	return footprint_total(&after) - after.state - (footprint_total(&before) - before.state);
}

/* The least that one more of each costs. */
static void each_limit_drives_it(void **state)
{
	struct fixture *fixture = *state;
	struct config *config = &fixture->config;
	const struct {
		uint64_t *limit, least;
	} cases[] = {
		{&config->limit_blocks, 88 + 4 + 3 * 24},
		{&config->limit_sessions, 2 * MIB},
		{&config->limit_silent, 2 * MIB},
		{&config->limit_request_bytes_total, 2},
		{&config->limit_regions_total, 400},
		{&config->limit_namespaces, 64 + 600},
		{&config->limit_namespace_opens, 1088 * 64},
		{&config->limit_pins_total, 64},
		{&config->limit_moves, 2 * 600},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_in_range(growth_of(fixture, cases[i].limit),
				*cases[i].limit * cases[i].least,
				*cases[i].limit * cases[i].least * 2 + MIB);

	/* 24 bytes and a bit for each slot. */
	assert_int_equal(growth_of(fixture, &config->limit_address_space_total),
			 config->limit_address_space_total / (2 * MIB) * (8 * 24 + 1) / 8);

	/* It counts where it makes a commit the largest request. */
	config->limit_commit_slabs = 1000000;
	assert_true(growth_of(fixture, &config->limit_commit_slabs) > 1088 * MIB);
}

/* Whatever a client can have more of has more records. */
static void each_limit_drives_the_state(void **state)
{
	struct fixture *fixture = *state;
	uint64_t *const limits[] = {&fixture->config.limit_sessions,
				    &fixture->config.limit_regions_total};
	uint64_t before = footprint_of(&fixture->config, &fixture->devices).state;

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		*limits[i] *= 2;
		assert_true(footprint_of(&fixture->config, &fixture->devices).state > before);
		*limits[i] /= 2;
	}
}

/* Each has threads that encode, unless DDR is not divided among them. */
static void each_numa_node_drives_it(void **state)
{
	struct fixture *fixture = *state;
	struct footprint one = footprint_of(&fixture->config, &fixture->devices), two;

	fixture->devices.numa.count = 2;
	two = footprint_of(&fixture->config, &fixture->devices);
	assert_int_equal(two.daemon - one.daemon, hash_pool_bytes(0, 1));
	fixture->config.ddr_numa = CONFIG_NUMA_INTERLEAVE;
	two = footprint_of(&fixture->config, &fixture->devices);
	assert_int_equal(two.daemon, one.daemon);
}

static void each_device_and_tier_drives_it(void **state)
{
	struct fixture *fixture = *state;
	struct footprint one = footprint_of(&fixture->config, &fixture->devices), two;

	fixture->devices.count = 2;
	two = footprint_of(&fixture->config, &fixture->devices);
	assert_int_equal(two.slabs, 2 * one.slabs);
	assert_true(one.slabs >= 80 * GIB / (2 * MIB) * 200);
	assert_true(two.index > one.index);

	free(fixture->config.nvme_path);
	fixture->config.nvme_path = strdup("/nvme");
	assert_true(footprint_of(&fixture->config, &fixture->devices).index > two.index);
}

static void as_people_read_it(void **state)
{
	(void)state;
	const struct footprint parts = {1 * MIB, 2 * MIB, 3 * MIB, 4 * MIB,  5 * MIB, 6 * MIB,
					7 * MIB, 8 * MIB, 9 * MIB, 10 * MIB, 1};
	char text[256];

	assert_string_equal(footprint_text(&parts, text, sizeof(text)),
			    "at most 56 MiB beside the tiers: index 1, requests 2, sessions 3, "
			    "pins 4, regions 5, slabs 6, lent 7, namespaces 8, moves 9, "
			    "state 10, the daemon itself 1");
	assert_int_equal(strlen(footprint_text(&parts, text, 12)), 11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_parts_are_the_sum),       TEST(it_is_a_few_gib),
		TEST(each_limit_drives_it),        TEST(each_device_and_tier_drives_it),
		TEST(each_numa_node_drives_it),    TEST(as_people_read_it),
		TEST(each_limit_drives_the_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
