/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of tenants: read, printed, copied, and refused with one line for each mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/config/config.h"
#include "daemon/config/config_tenant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config config;
static char error[4096], path[] = "/tmp/hbmd-tenant.XXXXXX";

static int setup(void **state)
{
	(void)state;
	strcpy(path, "/tmp/hbmd-tenant.XXXXXX");
	close(mkstemp(path));
	error[0] = '\0';

	return config_defaults(&config);
}

static int teardown(void **state)
{
	(void)state;
	config_clear(&config);

	return unlink(path);
}

/* Reads these lines and checks what they are. */
static int read_lines(const char *lines)
{
	FILE *file = fopen(path, "we");

	fputs(lines, file);
	fclose(file);
	error[0] = '\0';
	int r = config_read(&config, path, error, sizeof(error));

	return r < 0 ? r : config_check(&config, error, sizeof(error));
}

/* The only line, behind the name of the file, if it says that. */
static void wrong(const char *lines, const char *expected)
{
	assert_int_equal(read_lines(lines), -EINVAL);

	const char *said = strstr(error, path) == error ? error + strlen(path) : error;
	assert_string_equal(said, expected);
}

static void sections(void **state)
{
	(void)state;
	assert_int_equal(read_lines("[tenant a]\n"
				    "match = uid:0 unit:a.service\n"
				    "sessions = 3\n"
				    "memory = 1.5GiB\n"
				    "memory@0 = 1GiB\n"
				    "memory@63 = 2GiB\n"
				    "[ddr]\n"
				    "size = 1GiB\n"
				    "[tenant b-2_C]\n"
				    "match = any\n"
				    "weight = 10\n"
				    "share = both\n"),
			 0);
	assert_int_equal(config.tenant_count, 2);
	assert_string_equal(config.tenants[0].name, "a");
	assert_string_equal(config.tenants[0].match, "uid:0 unit:a.service");
	assert_string_equal(config.tenants[0].share, "");
	assert_int_equal(config.tenants[0].sessions, 3);
	assert_int_equal(config.tenants[0].memory, UINT64_C(3) << 29);
	assert_int_equal(config.tenants[0].memory_on[0], UINT64_C(1) << 30);
	assert_true(config.tenants[0].memory_on[1] == CONFIG_DEFAULT);
	assert_int_equal(config.tenants[0].memory_on[63], UINT64_C(2) << 30);
	assert_true(config.tenants[1].memory_on[0] == CONFIG_DEFAULT);
	assert_true(config.tenants[0].regions == CONFIG_DEFAULT);
	assert_int_equal(config.tenants[0].weight, 1);
	assert_string_equal(config.tenants[1].name, "b-2_C");
	assert_string_equal(config.tenants[1].share, "both");
	assert_int_equal(config.tenants[1].weight, 10);

	/* a later one of that name changes it, and leaves what it does not say */
	assert_int_equal(config_set(&config, "tenant a.sessions=default", error, sizeof(error)), 0);
	assert_int_equal(config.tenant_count, 2);
	assert_true(config.tenants[0].sessions == CONFIG_DEFAULT);
	assert_int_equal(config.tenants[0].memory, UINT64_C(3) << 29);
}

static void printed_and_copied(void **state)
{
	(void)state;
	char *first, *second;
	size_t size;
	struct config copy;

	assert_int_equal(read_lines("[tenant a]\nmatch = any\npins = 0\nlent = 8MiB\n"
				    "memory@3 = 0\n"),
			 0);
	FILE *out = open_memstream(&first, &size);
	config_print(&config, out);
	fclose(out);

	assert_int_equal(config_copy(&copy, &config), 0);
	assert_ptr_not_equal(copy.tenants, config.tenants);
	assert_ptr_not_equal(copy.tenants[0].match, config.tenants[0].match);
	config_clear(&config);
	assert_int_equal(config.tenant_count, 0);

	/* what is printed is read as the same again */
	assert_int_equal(config_defaults(&config), 0);
	assert_int_equal(read_lines(first), 0);
	out = open_memstream(&second, &size);
	config_print(&copy, out);
	fclose(out);
	assert_string_equal(first, second);
	assert_non_null(strstr(first, "\n[tenant a]\nmatch = any\n"));
	assert_non_null(strstr(first, "\npins = 0\n"));
	assert_non_null(strstr(first, "\nlent = 8MiB\n"));
	assert_non_null(strstr(first, "\nloans = default\n"));
	assert_non_null(strstr(first, "\nmemory@0 = default\nmemory@3 = 0\n"));

	config_clear(&copy);
	free(first);
	free(second);
}

static void mistakes(void **state)
{
	(void)state;
	wrong("[tenant a]\n", "tenant a.match: got '', expected unit:PATTERN, uid:NAME, gid:NAME "
			      "or any, 1 to 16 of them, of users and groups that exist");
	wrong("[tenant a]\nmatch = any\nsession = 1\n",
	      ":3: unknown key 'session' in section [tenant a], expected one of: match, share, "
	      "weight, sessions, requests_in_flight, request_bytes, regions, address_space, "
	      "memory, memory@0, host_memory, reserved, published, lent, loans, sequences, "
	      "namespaces, pins, "
	      "silent, "
	      "descriptors, unread_descriptors, held, reserves_waiting, publications, replicas, "
	      "notices, namespace_opens, watched, blocks, pinned, retained, retained_blocks, "
	      "hbm_max, hbm_min, ddr_max, ddr_min, nvme_max, nvme_min, guesses, log_lines");
	wrong("[tenant a]\nmatch = any\nmatch = any\n",
	      ":3: tenant a.match is given a second time");
	wrong("[tenant a]\nmatch = any\nsessions = many\n",
	      ":3: tenant a.sessions: got 'many', expected a whole number from 0 to 1000000, or "
	      "default");
	wrong("[tenant a]\nmatch = any\nmemory = 1GB\n",
	      ":3: tenant a.memory: got '1GB', expected a size from 0 to 16TiB, or default (units "
	      "are KiB, MiB, GiB and TiB, written just so)");
	wrong("[tenant a]\nmatch = any\nmemory@1 = 0\nmemory@2 = 0\nmemory@1 = 0\n",
	      ":5: tenant a.memory@1 is given a second time");
	wrong("[tenant a]\nmatch = any\nmemory@7 = some\n",
	      ":3: tenant a.memory@7: got 'some', expected a size from 0 to 16TiB, or default");
	wrong("[tenant a]\nmatch = any\nweight = 0\n",
	      ":3: tenant a.weight: got '0', expected a whole number from 1 to 1000");
	wrong("[tenant a]\nmatch = any\nnvme_max = 1GiB\nnvme_min = 2GiB\n",
	      "tenant a.nvme_min: expected at most nvme_max");
	wrong("[tenant a b]\nmatch = any\n",
	      ":1: section [tenant a b]: got the name 'a b', expected at most 31 letters, digits, "
	      "'-' and '_'");
	wrong("[tenants]\nmatch = any\n",
	      ":1: unknown section 'tenants', expected one of: hbmd, device, ddr, nvme, soft, "
	      "limits, tenant NAME");
	assert_int_equal(config_set(&config, "tenant x.y=1", error, sizeof(error)), -EINVAL);
	assert_int_equal(config_set(&config, "tenant x.memory@64=0", error, sizeof(error)),
			 -EINVAL);
}

static void as_many_as_there_may_be(void **state)
{
	(void)state;
	char section[64];

	for (unsigned i = 0; i < CONFIG_TENANTS_MAX; i++) {
		snprintf(section, sizeof(section), "tenant t%u.match=any", i);
		assert_int_equal(config_set(&config, section, error, sizeof(error)), 0);
	}
	assert_int_equal(config_check(&config, error, sizeof(error)), 0);
	assert_int_equal(config_set(&config, "tenant more.match=any", error, sizeof(error)),
			 -EINVAL);
	assert_string_equal(error, "--set: section [tenant more]: expected at most 256 tenants");
	assert_int_equal(config.tenant_count, CONFIG_TENANTS_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(sections),
		TEST(printed_and_copied),
		TEST(mistakes),
		TEST(as_many_as_there_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
