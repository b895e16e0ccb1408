/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: defaults, every kind of value, files and their folder, and what is
 * said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/config/config.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

static struct config config;
static char error[1024], folder[64], path[128];

static int set_up(void **state)
{
	(void)state;
	error[0] = '\0';
	snprintf(folder, sizeof(folder), "/tmp/hbmd-test-config-XXXXXX");
	if (!mkdtemp(folder))
		return -1;

	snprintf(path, sizeof(path), "%s/hbmd.conf", folder);

	return config_defaults(&config);
}

static void remove_in(const char *name)
{
	char file[256];
	snprintf(file, sizeof(file), "%s/%s", folder, name);
	remove(file);
}

static int tear_down(void **state)
{
	(void)state;
	config_clear(&config);

	for (const char *const *name =
		     (const char *const[]){"hbmd.conf.d/10-a.conf", "hbmd.conf.d/20-b.conf",
					   "hbmd.conf.d/ignored.txt", "hbmd.conf.d", "hbmd.conf",
					   NULL};
	     *name; name++)
		remove_in(*name);

	return rmdir(folder);
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
	char file[256];

	snprintf(file, sizeof(file), "%s/%s", folder, name);
	FILE *out = fopen(file, "we");
	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, size, out), size);
	assert_int_equal(fclose(out), 0);
}

static void write_file(const char *name, const char *text)
{
	write_bytes(name, text, strlen(text));
}

static void make_folder(void)
{
	char name[256];
	snprintf(name, sizeof(name), "%s.d", path);
	assert_int_equal(mkdir(name, 0700), 0);
}

static void good(const char *assignment)
{
	if (config_set(&config, assignment, error, sizeof(error)) < 0)
		fail_msg("%s: %s", assignment, error);
}

/* Refused, with a line that holds `words`. */
static void bad(const char *assignment, const char *words)
{
	error[0] = '\0';
	if (config_set(&config, assignment, error, sizeof(error)) != -EINVAL)
		fail_msg("%s was accepted", assignment);
	if (!strstr(error, words) || strchr(error, '\n'))
		fail_msg("%s: '%s' does not say '%s'", assignment, error, words);
}

static void bad_file(const char *text, const char *words)
{
	char expected[512];

	write_file("hbmd.conf", text);
	error[0] = '\0';
	assert_int_equal(config_read(&config, path, error, sizeof(error)), -EINVAL);
	snprintf(expected, sizeof(expected), "%s:%s", path, words);
	if (strncmp(error, expected, strlen(expected)) != 0)
		fail_msg("'%s' does not begin with '%s'", error, expected);
}

static char *printed(const struct config *from)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);

	if (from)
		config_print(from, out);
	else
		config_print_reference(out);

	fclose(out);

	return text;
}

static void test_defaults(void **state)
{
	(void)state;
	assert_string_equal(config.socket, "/run/hbmd/hbmd.sock");
	assert_int_equal(config.socket_mode, 0660);
	assert_string_equal(config.socket_group, "");
	assert_string_equal(config.state_dir, "/var/lib/hbmd");
	assert_int_equal(config.driver, CONFIG_DRIVER_AUTO);
	assert_int_equal(config.io, CONFIG_IO_AUTO);
	assert_int_equal(config.log_level, LOG_INFO);
	assert_int_equal(config.checksum, CONFIG_CHECKSUM_NVME);
	assert_int_equal(config.checksum_threads, 0);
	assert_int_equal(config.checksum_idle_ms, 100);
	assert_int_equal(config_size_of(config.device_memory, 1000), 500);
	assert_int_equal(config_size_of(config.device_cache, 1000), 0);
	assert_int_equal(config_size_of(config.device_headroom, 1000), 64 * MIB);
	assert_int_equal(config.device_slab, 64 * MIB);
	assert_int_equal(config_size_of(config.ddr_size, 1000), 0);
	assert_int_equal(config.ddr_hugepages, 0);
	assert_int_equal(config.ddr_chunk, 256 * MIB);
	assert_int_equal(config.ddr_headroom, 64 * MIB);
	assert_int_equal(config.ddr_staging, 512 * MIB);
	assert_string_equal(config.nvme_path, "");
	assert_int_equal(config.nvme_size, 0);
	assert_int_equal(config.nvme_depth, 0); /* auto */
	assert_int_equal(config.nvme_merge, 2 * MIB);
	assert_int_equal(config.soft_devices, 1);
	assert_int_equal(config.soft_memory, GIB);
	assert_int_equal(config.limit_address_space, TIB);
	assert_int_equal(config.limit_blocks, 4194304);
	assert_int_equal(config_size_of(config.limit_pinned, 1000), 500);
	assert_int_equal(config.limit_ready_ms, 10000);
	assert_int_equal(config_check(&config, error, sizeof(error)), 0);
}

static void test_sizes(void **state)
{
	(void)state;
	const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"4096", 4096},          {"0", 0},
		     {"64KiB", 65536},        {"3MiB", 3 * MIB},
		     {"1.5GiB", 3 * GIB / 2}, {"1TiB", TIB},
		     {"0.001GiB", 1073741},   {"2 MiB", 2 * MIB},
		     {"000012", 12},          {"1.999999999TiB", 2199023254452}};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char assignment[64];
		snprintf(assignment, sizeof(assignment), "ddr.size=%s", sizes[i].text);
		good(assignment);
		assert_int_equal(config.ddr_size.bytes, sizes[i].bytes);
		assert_int_equal(config_size_of(config.ddr_size, 7), sizes[i].bytes);
	}
}

static void test_bad_sizes(void **state)
{
	(void)state;
	static const char *const texts[] = {"",
					    "x",
					    "-1",
					    "+1",
					    " 1",
					    "1 ",
					    "1.5",
					    "0x10",
					    "1e9",
					    "1.GiB",
					    ".5GiB",
					    "1..5GiB",
					    "1,5GiB",
					    "64MiBs",
					    "MiB",
					    "64 MiB x",
					    "1.0000000001GiB",
					    "17TiB",
					    "18446744073709551616",
					    "16777216TiB",
					    "99999999999999999999999999GiB",
					    "nan",
					    "inf"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char assignment[64];
		snprintf(assignment, sizeof(assignment), "ddr.size=%s", texts[i]);
		bad(assignment, "expected a size from 0 to 16TiB, or a percentage up to 100%");
	}

	assert_int_equal(config.ddr_size.bytes, 0);
	static const char *const near[] = {"64GB",  "64gb",  "64G",  "64g", "64Gi",
					   "64gib", "64 MB", "1.5k", "2T"};
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
		char assignment[64];
		snprintf(assignment, sizeof(assignment), "ddr.size=%s", near[i]);
		bad(assignment, "(units are KiB, MiB, GiB and TiB, written just so)");
	}

	bad("ddr.headroom=50%", "expected a size from 0 to 1TiB");
	bad("nvme.size=1000", "in steps of 4KiB");
	bad("device.slab=3MiB", "in steps of 2MiB");
	bad("device.slab=2GiB", "from 2MiB to 1GiB");
}

static void test_shares(void **state)
{
	(void)state;
	good("device.cache=12.5%");
	assert_int_equal(config_size_of(config.device_cache, 8 * GIB), GIB);
	good("device.cache=100%");
	assert_int_equal(config_size_of(config.device_cache, UINT64_MAX), UINT64_MAX);
	good("device.cache=0%");
	assert_int_equal(config_size_of(config.device_cache, GIB), 0);
	good("device.cache=7MiB");
	assert_int_equal(config_size_of(config.device_cache, GIB), 7 * MIB);
	bad("device.cache=100.1%", "up to 100%");
	bad("device.cache=-1%", "up to 100%");
	bad("device.cache=%", "up to 100%");
	bad("device.cache=5%%", "up to 100%");
}

static void test_whole_numbers(void **state)
{
	(void)state;
	good("nvme.depth=1");
	good("nvme.depth=4096");
	assert_int_equal(config.nvme_depth, 4096);
	static const char *const texts[] = {
		"0", "4097", "", "-1", "1.0", "0x10", "8 ", "18446744073709551617", "8K"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char assignment[64];
		snprintf(assignment, sizeof(assignment), "nvme.depth=%s", texts[i]);
		bad(assignment, "expected a whole number from 1 to 4096");
	}

	assert_int_equal(config.nvme_depth, 4096);
}

/* A word stands for a number that is none of those that can be written. */
static void test_a_number_or_a_word(void **state)
{
	(void)state;
	good("nvme.depth=8");
	assert_int_equal(config_nvme_depth_max(&config), 8);
	bad("nvme.depth=Auto", "expected a whole number from 1 to 4096, or auto");
	bad("nvme.depth_max=auto", "expected a whole number from 1 to 4096");
	assert_int_equal(config.nvme_depth, 8);

	good("nvme.depth=auto");
	good("nvme.depth_max=100");
	assert_int_equal(config.nvme_depth, 0);
	assert_int_equal(config_nvme_depth_max(&config), 100);

	char *text = printed(&config);
	assert_non_null(strstr(text, "\ndepth = auto\ndepth_max = 100\n"));
	free(text);
}

static void test_decimals(void **state)
{
	(void)state;
	good("soft.latency_us=2.25");
	assert_true(config.soft_latency_us == 2.25);
	good("soft.d2h_gib_s=12");
	assert_true(config.soft_d2h_gib_s == 12);
	bad("soft.latency_us=1e3", "expected a number from 0 to 1000000");
	bad("soft.latency_us=nan", "expected a number");
	bad("soft.latency_us=-1", "expected a number");
	bad("soft.latency_us=1000000.1", "expected a number");
	bad("soft.latency_us=", "expected a number");
}

static void test_modes(void **state)
{
	(void)state;
	good("hbmd.socket_mode=0600");
	assert_int_equal(config.socket_mode, 0600);
	good("hbmd.socket_mode=777");
	assert_int_equal(config.socket_mode, 0777);
	bad("hbmd.socket_mode=1777", "expected an octal mode from 00 to 0777");
	bad("hbmd.socket_mode=0668", "octal");
	bad("hbmd.socket_mode=", "octal");
	bad("hbmd.socket_mode=rw", "octal");
	bad("hbmd.socket_mode=7777777777777777777777777", "octal");
}

static void test_choices_and_bools(void **state)
{
	(void)state;
	good("hbmd.driver=soft");
	assert_int_equal(config.driver, CONFIG_DRIVER_SOFT);
	good("hbmd.io=threads");
	assert_int_equal(config.io, CONFIG_IO_THREADS);
	good("hbmd.log_level=debug");
	assert_int_equal(config.log_level, LOG_DEBUG);
	bad("hbmd.driver=Soft", "got 'Soft', expected one of auto cuda soft");
	bad("hbmd.io=", "expected one of auto io_uring threads");
	static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false",
									       "off"};
	for (size_t i = 0; i < 3; i++) {
		char assignment[64];

		snprintf(assignment, sizeof(assignment), "ddr.hugepages=%s", yes[i]);
		good(assignment);
		assert_int_equal(config.ddr_hugepages, 1);
		snprintf(assignment, sizeof(assignment), "ddr.hugepages=%s", no[i]);
		good(assignment);
		assert_int_equal(config.ddr_hugepages, 0);
	}

	bad("ddr.hugepages=1", "expected one of yes no");
	bad("ddr.hugepages=YES", "expected one of yes no");
}

static void test_text_and_paths(void **state)
{
	(void)state;
	good("hbmd.socket_group=hbm");
	assert_string_equal(config.socket_group, "hbm");
	good("hbmd.socket_group=");
	assert_string_equal(config.socket_group, "");
	bad("hbmd.socket_group=a\nb", "expected text");
	bad("hbmd.socket_group= a", "expected text");
	bad("hbmd.socket_group=a;b", "expected text");
	good("nvme.path=/var/a=b");
	assert_string_equal(config.nvme_path, "/var/a=b");
	good("nvme.path=");
	bad("nvme.path=relative", "expected an absolute path");
	bad("hbmd.socket=", "expected an absolute path of less than 108 bytes");
	bad("hbmd.socket=/run/hbmd.sock # here", "expected an absolute path");
	char assignment[256] = "hbmd.socket=/";
	size_t length = strlen(assignment);
	memset(assignment + length, 'x', 106);
	good(assignment);
	assignment[length + 106] = 'x';
	bad(assignment, "less than 108 bytes");
	assert_int_equal(strlen(config.socket), 107);
}

static void test_set_refuses(void **state)
{
	(void)state;
	bad("", "expected section.key=value");
	bad("ddr.size", "expected section.key=value");
	bad("size=1", "expected section.key=value");
	bad("=1", "expected section.key=value");
	bad("size=a.b", "expected section.key=value");
	bad("ddr.seize=1", "--set: unknown key 'seize' in section [ddr], expected one of: size, "
			   "hugepages, numa, chunk, headroom");
	bad("dddr.size=1",
	    "unknown section 'dddr', expected one of: hbmd, device, ddr, nvme, soft, limits");
	bad("ddr.size=x", "--set: ddr.size: got 'x', expected");
	char assignment[300];
	memset(assignment, 'a', sizeof(assignment));
	memcpy(assignment + 280, ".b=1", 5);
	bad(assignment, "expected section.key=value");
}

static void test_file(void **state)
{
	(void)state;
	write_file(
		"hbmd.conf",
		"\xef\xbb\xbf# a comment\n\n[hbmd]\nsocket = /tmp/s ; where\r\n  log_level=debug\n"
		"[nvme]\n; another\npath: /tmp/file\n\tdepth = 8");
	assert_int_equal(config_read(&config, path, error, sizeof(error)), 0);
	assert_string_equal(config.socket, "/tmp/s");
	assert_int_equal(config.log_level, LOG_DEBUG);
	assert_string_equal(config.nvme_path, "/tmp/file");
	assert_int_equal(config.nvme_depth, 8);
	assert_int_equal(config.nvme_merge, 2 * MIB);
}

static void test_bad_files(void **state)
{
	(void)state;
	bad_file("[ddr]\nsize = 1GiB\nsize = 2GiB\n", "3: ddr.size is given a second time");
	bad_file("[ddr]\nsize = 1GiB\n[nvme]\n[ddr]\nsize = 1GiB\n",
		 "5: ddr.size is given a second time");
	bad_file("\n\n[ddr]\n\nsize = 1GB\n", "5: ddr.size: got '1GB', expected a size");
	bad_file("[ddr]\nsize\n", "2: expected [section], key = value");
	bad_file("[ddr\nsize = 1\n", "1: expected [section], key = value");
	bad_file("[ddr]\nseize = 1\n", "2: unknown key 'seize' in section [ddr]");
	bad_file("[dram]\n", "1: unknown section 'dram'");
	bad_file("[DDR]\nsize = 1\n", "1: unknown section 'DDR'");
	bad_file("socket = /tmp/s\n", "1: 'socket' stands before any [section]");
	bad_file("[hbmd]\nlog_level = info\nlog_level = debug\n[x]\n",
		 "3: hbmd.log_level is given a second time");
	char text[600] = "[nvme]\npath = /";
	memset(text + strlen(text), 'x', 400);
	bad_file(text, "2: got a longer line, expected at most ");

	/* The config is as it was. */
	assert_int_equal(config.ddr_size.bytes, 0);
	assert_int_equal(config.log_level, LOG_INFO);
}

static void test_zero_byte_in_file(void **state)
{
	(void)state;
	write_bytes("hbmd.conf", "[ddr]\nsize = 1\0GiB\n", 19);
	assert_int_equal(config_read(&config, path, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, ":2: got a longer line"));
}

static void test_missing_file(void **state)
{
	(void)state;
	assert_int_equal(config_read(&config, path, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "No such file"));
	assert_int_equal(config_read(&config, folder, error, sizeof(error)), -EIO);
	assert_non_null(strstr(error, "cannot be read"));
}

static void test_folder(void **state)
{
	(void)state;
	make_folder();
	write_file("hbmd.conf", "[nvme]\ndepth = 1\nmerge = 4KiB\n");
	write_file("hbmd.conf.d/20-b.conf", "[nvme]\ndepth = 20\n");
	write_file("hbmd.conf.d/10-a.conf", "[nvme]\ndepth = 10\n[ddr]\nsize = 10MiB\n");
	write_file("hbmd.conf.d/ignored.txt", "nonsense\n");
	assert_int_equal(config_read(&config, path, error, sizeof(error)), 0);
	assert_int_equal(config.nvme_depth, 20);
	assert_int_equal(config.nvme_merge, 4096);
	assert_int_equal(config.ddr_size.bytes, 10 * MIB);
	good("nvme.depth=30");
	assert_int_equal(config.nvme_depth, 30);
	write_file("hbmd.conf.d/20-b.conf", "[nvme]\n\ndepth = none\n");
	assert_int_equal(config_read(&config, path, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "hbmd.conf.d/20-b.conf:3: nvme.depth: got 'none'"));
	assert_int_equal(config.nvme_depth, 30);
}

static void test_reference_is_the_defaults(void **state)
{
	(void)state;
	char *reference = printed(NULL), *defaults = printed(&config);
	good("nvme.depth=7");
	write_file("hbmd.conf", reference);
	if (config_read(&config, path, error, sizeof(error)) < 0)
		fail_msg("%s", error);

	char *again = printed(&config);
	assert_string_equal(again, defaults);
	assert_int_equal(config.nvme_depth, 0); /* auto */
	free(reference);
	free(defaults);
	free(again);
}

/* In the order of the lines, over all files, and what holds between keys. */
static void test_all_errors_are_told(void **state)
{
	(void)state;
	static const char *const told[] = {
		"hbmd.conf:2: unknown key 'siz'",  "hbmd.conf:3: unknown section 'foo'",
		"hbmd.conf:6: expected [section]", "hbmd.conf:7: device.slab: got 'x'",
		"hbmd.conf:8: expected [section]", "10-a.conf:2: ddr.hugepages: got '2'",
		"20-b.conf:1: unknown section '",
	};
	make_folder();
	write_file("hbmd.conf", "[ddr]\nsiz = 1\n[foo]\na = 1\n[device]\nno\nslab = x\n[hbmd\n");
	write_file("hbmd.conf.d/10-a.conf", "[ddr]\nhugepages = 2\n");
	write_file("hbmd.conf.d/20-b.conf", "[bar]\n");
	error[0] = '\0';
	assert_int_equal(config_read(&config, path, error, sizeof(error)), -EINVAL);

	size_t lines = 1;
	for (const char *at = error; (at = strchr(at, '\n')); at++)
		lines++;
	assert_int_equal(lines, sizeof(told) / sizeof(told[0]));
	const char *at = error;
	for (size_t i = 0; i < lines; i++) {
		at = strstr(at, told[i]);
		if (!at)
			fail_msg("no \"%s\", or not in its place: %s", told[i], error);
	}

	good("device.memory=1GiB");
	good("device.cache=2GiB");
	good("device.slab=6MiB");
	good("nvme.size=1MiB");
	error[0] = '\0';
	assert_int_equal(config_check(&config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "device.memory: "));
	assert_non_null(strstr(error, "device.slab: "));
	assert_non_null(strstr(error, "nvme.size: "));
}

static void test_errors_that_do_not_fit_are_cut(void **state)
{
	(void)state;
	char small[32] = "";
	for (int i = 0; i < 4; i++)
		assert_int_equal(config_set(&config, "ddr.size=x", small, sizeof(small)), -EINVAL);
	assert_int_equal(strlen(small), sizeof(small) - 1);
}

static void test_printed_config_reads_back(void **state)
{
	(void)state;
	static const char *const assignments[] = {"hbmd.socket=/tmp/s",
						  "hbmd.driver=soft",
						  "hbmd.log_level=error",
						  "hbmd.socket_mode=0600",
						  "device.cache=33.3%",
						  "device.memory=1025",
						  "ddr.hugepages=on",
						  "ddr.size=1.5GiB",
						  "soft.latency_us=0.1",
						  "soft.h2d_gib_s=99999.9",
						  "soft.fail=cuMemCreate:3,cuMemMap:1:2",
						  "limits.pinned=12345",
						  "nvme.fail=read:3:EIO,write:1:short"};
	for (size_t i = 0; i < sizeof(assignments) / sizeof(assignments[0]); i++)
		good(assignments[i]);
	char *before = printed(&config);
	write_file("hbmd.conf", before);
	config_clear(&config);
	assert_int_equal(config_defaults(&config), 0);
	if (config_read(&config, path, error, sizeof(error)) < 0)
		fail_msg("%s", error);

	char *after = printed(&config);
	assert_string_equal(before, after);
	assert_int_equal(config.device_memory.bytes, 1025);
	assert_true(config.soft_latency_us == 0.1);
	assert_string_equal(config.soft_fail, "cuMemCreate:3,cuMemMap:1:2");
	free(before);
	free(after);
}

static void unsound(const char *assignment, const char *words)
{
	good(assignment);
	assert_int_equal(config_check(&config, error, sizeof(error)), -EINVAL);
	if (!strstr(error, words))
		fail_msg("'%s' does not say '%s'", error, words);

	config_clear(&config);
	assert_int_equal(config_defaults(&config), 0);
}

static void test_check(void **state)
{
	(void)state;
	unsound("device.slab=6MiB", "device.slab");
	unsound("nvme.size=1GiB", "nvme.path");
	unsound("limits.request_bytes_total=15MiB", "limits.request_bytes_total");
	good("device.cache=50%");
	unsound("device.memory=100MiB", "device.memory");
	good("device.cache=60%");
	unsound("device.headroom=41%", "at most 100% together");
	good("device.memory=1GiB");
	unsound("device.cache=1GiB", "device.memory");
	good("nvme.path=/tmp/file");
	bad("ddr.staging=0", "expected a size from 1MiB");
	good("nvme.path=/tmp/file");
	good("nvme.size=1GiB");
	good("device.memory=1GiB");
	good("device.cache=960MiB");
	good("device.slab=1GiB");
	assert_int_equal(config_check(&config, error, sizeof(error)), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_sizes),
		TEST(test_bad_sizes),
		TEST(test_shares),
		TEST(test_whole_numbers),
		TEST(test_a_number_or_a_word),
		TEST(test_decimals),
		TEST(test_modes),
		TEST(test_choices_and_bools),
		TEST(test_text_and_paths),
		TEST(test_set_refuses),
		TEST(test_file),
		TEST(test_bad_files),
		TEST(test_zero_byte_in_file),
		TEST(test_missing_file),
		TEST(test_folder),
		TEST(test_reference_is_the_defaults),
		TEST(test_all_errors_are_told),
		TEST(test_errors_that_do_not_fit_are_cut),
		TEST(test_printed_config_reads_back),
		TEST(test_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
