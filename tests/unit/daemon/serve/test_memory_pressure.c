/* SPDX-License-Identifier: Apache-2.0 */
/* The DDR tier while the host is short of memory, which a FIFO tells here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/serve/memory_pressure.h"
#include "daemon/serve/resize.h"
#include "tests/support/traffic.h"

#define SIZE (16 * MIB)
#define STEP (4 * MIB)
#define LEAST (6 * MIB)
#define NEVER UINT64_C(86400000) /* ms */

static char fifo[96];
static uint64_t wanted;

static struct traffic *open_traffic(const char *name, uint64_t quiet_ms)
{
	struct traffic *traffic = traffic_new(name);
	struct config *config = &traffic->rig.config;

	snprintf(fifo, sizeof(fifo), "%s/pressure", traffic->rig.folder);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	config->ddr_size.bytes = SIZE;
	config->ddr_chunk = GRANULE;
	config->ddr_pressure_ms = 150;
	config->ddr_pressure_least = (struct config_size){.bytes = LEAST};
	config->ddr_pressure_step = (struct config_size){.percent = 25};
	config->ddr_pressure_quiet_ms = quiet_ms;
	free(config->ddr_pressure_path);
	config->ddr_pressure_path = strdup(fifo);
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);

	return traffic;
}

static void end_traffic(struct traffic *traffic)
{
	unlink(fifo);
	traffic_end(traffic);
}

static void press(void)
{
	int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	assert_in_range(fd, 0, INT32_MAX);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

static bool has_size(void *arg)
{
	const struct traffic *traffic = arg;
	const struct tier *tier = traffic->rig.hbmd.cache->ddr;

	return tier->capacity == wanted && tier->usable == wanted &&
	       !resize_is_on(&traffic->rig.hbmd, tier);
}

static void await_size(struct traffic *traffic, uint64_t bytes)
{
	wanted = bytes;
	rig_run(&traffic->rig, has_size, traffic);
	rig_assert_balanced(&traffic->rig);
}

/* By steps down to the least, and no further. */
static void test_it_shrinks_to_the_least(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__, NEVER);

	traffic_random(traffic, 200);
	press();
	await_size(traffic, SIZE - STEP);
	press();
	await_size(traffic, SIZE - 2 * STEP);
	press();
	await_size(traffic, LEAST);
	traffic_random(traffic, 200);
	assert_int_equal(memory_pressure_events(&traffic->rig.hbmd), 3);
	press();
	traffic_random(traffic, 50);
	await_size(traffic, LEAST);
	assert_int_equal(memory_pressure_events(&traffic->rig.hbmd), 4);
	end_traffic(traffic);
}

static uint64_t unregistered; /* before */

static bool has_been_smaller(void *arg)
{
	const struct traffic *traffic = arg;

	return traffic->rig.call.calls("cuMemHostUnregister") > unregistered && has_size(arg);
}

/* It grows back by steps as long as it is quiet. */
static void test_it_grows_back(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__, 1);

	for (unsigned round = 0; round < 3; round++) {
		unregistered = traffic->rig.call.calls("cuMemHostUnregister");
		wanted = SIZE;
		press();
		rig_run(&traffic->rig, has_been_smaller, traffic);
		rig_assert_balanced(&traffic->rig);
		traffic_random(traffic, 60);
	}
	end_traffic(traffic);
}

/* Until then it is not quiet. */
static bool was_undone(void *arg)
{
	const struct traffic *traffic = arg;
	bool undone = resize_was_undone(&traffic->rig.hbmd, traffic->rig.hbmd.cache->ddr);

	if (!undone)
		press();

	return undone;
}

/* A step that is undone, as something has failed where the tier would have ended, is no operator's
 * size: it grows back to what it had. */
static void test_a_step_that_is_undone(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__, 100);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	uint32_t low = tier_alloc(tier, SIZE - 2 * STEP + tier->headroom);
	uint32_t unit = tier_alloc(tier, EXTENT_UNIT);

	tier_free(tier, low, SIZE - 2 * STEP + tier->headroom);
	tier_fail(tier, unit, EXTENT_UNIT);
	rig_run(&traffic->rig, was_undone, traffic);
	assert_int_equal(tier->capacity, SIZE - STEP);
	await_size(traffic, SIZE);
	end_traffic(traffic);
}

static void ignore(void *arg, int status, const char *why)
{
	(void)arg;
	(void)status;
	(void)why;
}

/* What an operator says meanwhile is the size that it has afterwards. */
static void test_an_operators_size(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__, NEVER);
	struct tier *tier = traffic->rig.hbmd.cache->ddr;
	const struct reason none = {NULL, 0};

	press();
	await_size(traffic, SIZE - STEP);
	assert_int_equal(resize_begin(&traffic->rig.hbmd, tier, 10 * MIB, ignore, NULL, &none),
			 HBM_OK);
	await_size(traffic, 10 * MIB);
	press();
	await_size(traffic, LEAST);
	press();
	end_traffic(traffic);
}

static void open_and_end(struct traffic *traffic, bool watched)
{
	traffic_open(traffic, 1, traffic_one_size);
	assert_int_equal(traffic->rig.hbmd.memory_pressure != NULL, watched);
	assert_int_equal(memory_pressure_events(&traffic->rig.hbmd), 0);
	traffic_end(traffic);
}

/* Without the key, with a file that cannot be watched, or where the service manager says so: the
 * daemon starts all the same. */
static void test_not_watched(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);

	open_and_end(traffic, false);

	traffic = traffic_new(__func__);
	traffic->rig.config.ddr_pressure_ms = 150;
	free(traffic->rig.config.ddr_pressure_path);
	traffic->rig.config.ddr_pressure_path = strdup("/nonexistent/pressure");
	open_and_end(traffic, false);

	setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
	traffic = traffic_new(__func__);
	traffic->rig.config.ddr_pressure_ms = 150;
	open_and_end(traffic, false);
	unsetenv("MEMORY_PRESSURE_WATCH");
}

/* What the service manager names is watched, and gets what it says, in base64. */
static void test_of_the_service_manager(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	char path[96];

	snprintf(path, sizeof(path), "%s/pressure", traffic->rig.folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	setenv("MEMORY_PRESSURE_WATCH", path, 1);
	setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=", 1);
	traffic->rig.config.ddr_pressure_ms = 150;
	traffic_open(traffic, 1, traffic_one_size);
	assert_non_null(traffic->rig.hbmd.memory_pressure);
	unlink(path);
	unsetenv("MEMORY_PRESSURE_WATCH");
	unsetenv("MEMORY_PRESSURE_WRITE");
	traffic_end(traffic);
}

/* The kernel takes the trigger, as an unprivileged user's, too: where it has such a file. */
static void test_of_the_kernel(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	int fd = open("/proc/pressure/memory", O_RDWR | O_CLOEXEC);

	if (fd < 0 || write(fd, "some 150000 2000000", 20) < 0) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		traffic_free(traffic);
		print_message("skipped: /proc/pressure/memory: %s\n", strerror(error));
		skip();
	}

	close(fd);
	traffic->rig.config.ddr_pressure_ms = 150;
	open_and_end(traffic, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_shrinks_to_the_least),
		cmocka_unit_test(test_it_grows_back),
		cmocka_unit_test(test_a_step_that_is_undone),
		cmocka_unit_test(test_an_operators_size),
		cmocka_unit_test(test_not_watched),
		cmocka_unit_test(test_of_the_service_manager),
		cmocka_unit_test(test_of_the_kernel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
