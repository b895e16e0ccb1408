/* SPDX-License-Identifier: Apache-2.0 */
/* How host memory is divided, and that what cannot be had is refused with both numbers,
 * to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/config.h"
#include "daemon/tier/ddr_size.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)

static struct config config;
static struct ddr_size size;
static char error[512];

static int setup(void **state)
{
	(void)state;
	config = (struct config){.ddr_size = {.bytes = 100 * MIB},
				 .ddr_headroom = 10 * MIB,
				 .ddr_staging = 20 * MIB};
	error[0] = '\0';
	return 0;
}

static int check(uint64_t host, uint64_t bytes)
{
	struct memory_limit limit = {.host = host, .bytes = bytes};

	if (bytes < host)
		snprintf(limit.cgroup, sizeof(limit.cgroup), "/sys/fs/cgroup/x");
	ddr_size_of(&size, &config, &limit);
	return ddr_size_check(&size, &config, &limit, error, sizeof(error));
}

static void assert_says(const char *words)
{
	if (!strstr(error, words) || strchr(error, '\n'))
		fail_msg("'%s' does not say '%s'", error, words);
}

static void test_division(void **state)
{
	(void)state;
	assert_int_equal(check(MIB << 10, MIB << 10), 0);
	assert_int_equal(size.staging, 20 * MIB);
	assert_int_equal(size.headroom, 10 * MIB);
	assert_int_equal(size.size, 100 * MIB);
	assert_int_equal(size.bytes, 130 * MIB);

	config.ddr_size.bytes = 4 * KIB + 1;
	config.ddr_headroom = 4 * KIB - 1;
	config.ddr_staging = MIB + 1;
	assert_int_equal(check(MIB << 10, MIB << 10), 0);
	assert_int_equal(size.staging, MIB + 4 * KIB);
	assert_int_equal(size.headroom, 0);
	assert_int_equal(size.size, 4 * KIB);
	assert_int_equal(size.bytes, MIB + 8 * KIB);
}

static void test_without_a_tier_there_is_no_reserve(void **state)
{
	(void)state;
	config.ddr_size.bytes = 0;
	assert_int_equal(check(MIB << 10, MIB << 10), 0);
	assert_int_equal(size.bytes, 20 * MIB);
}

static void test_the_host(void **state)
{
	(void)state;
	assert_int_equal(check(130 * MIB, 130 * MIB), 0);
	assert_int_equal(check(130 * MIB - 1, 130 * MIB - 1), -EINVAL);
	assert_says("136314880 bytes are needed, this host has 136314879: lower ddr.size");
}

static void test_the_cgroup(void **state)
{
	(void)state;
	assert_int_equal(check(MIB << 10, 130 * MIB + DDR_SIZE_OWN), 0);
	assert_int_equal(check(MIB << 10, 130 * MIB + DDR_SIZE_OWN - 1), -EINVAL);
	assert_says("169869312 bytes are needed, the memory cgroup /sys/fs/cgroup/x allows "
		    "169869311: lower ddr.size");
}

static void test_a_percentage_is_of_what_can_be_had(void **state)
{
	(void)state;
	config.ddr_size = (struct config_size){.percent = 50};
	assert_int_equal(check(MIB << 10, 400 * MIB), 0);
	assert_int_equal(size.size, 200 * MIB);
	assert_int_equal(check(MIB << 10, MIB << 10), 0);
	assert_int_equal(size.size, 512 * MIB);
	assert_int_equal(check(MIB << 10, 100 * MIB), -EINVAL);
}

/* They come on top, in whole slabs, and are never huge pages. */
static void test_regions(void **state)
{
	(void)state;
	config.ddr_regions.bytes = 50 * MIB + MIB;
	assert_int_equal(check(180 * MIB, 180 * MIB), 0);
	assert_int_equal(size.bytes, 130 * MIB);
	assert_int_equal(size.regions, 50 * MIB);
	assert_int_equal(check(180 * MIB - 1, 180 * MIB - 1), -EINVAL);
	assert_says("with ddr.regions, ddr.headroom and ddr.staging 188743680 bytes are needed");
	assert_says("lower ddr.size or ddr.regions");
	assert_int_equal(check(MIB << 10, 180 * MIB + DDR_SIZE_OWN), 0);
	assert_int_equal(check(MIB << 10, 180 * MIB + DDR_SIZE_OWN - 1), -EINVAL);

	/* a memory cgroup is charged for them alone, then */
	config.ddr_hugepages = true;
	config.ddr_size.bytes = config.ddr_staging = config.ddr_headroom = 0;
	assert_int_equal(check(MIB << 10, 50 * MIB + DDR_SIZE_OWN), 0);
	assert_int_equal(check(MIB << 10, 50 * MIB + DDR_SIZE_OWN - 1), -EINVAL);

	config.ddr_regions = (struct config_size){.percent = 25};
	assert_int_equal(check(MIB << 10, 400 * MIB), 0);
	assert_int_equal(size.regions, 100 * MIB);
}

/* No memory cgroup is charged for them; there have to be some. */
static void test_huge_pages(void **state)
{
	(void)state;
	uint64_t pages = ddr_size_huge_pages();

	config.ddr_hugepages = true;
	config.ddr_size.bytes = (pages + 1) * DDR_SIZE_HUGE_PAGE;
	assert_int_equal(check(UINT64_MAX, 1), -ENOMEM);
	assert_int_equal(size.bytes % DDR_SIZE_HUGE_PAGE, 0);
	assert_says("vm.nr_hugepages");

	char words[64];

	snprintf(words, sizeof(words), "are needed, %llu are free", (unsigned long long)pages);
	assert_says(words);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_division),
		TEST(test_without_a_tier_there_is_no_reserve),
		TEST(test_the_host),
		TEST(test_the_cgroup),
		TEST(test_a_percentage_is_of_what_can_be_had),
		TEST(test_regions),
		TEST(test_huge_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
