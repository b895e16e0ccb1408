/* SPDX-License-Identifier: Apache-2.0 */
/* Which reads and writes fail on purpose, and how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/tier/nvme_faults.h"

static char error[256];

static int parse(struct nvme_faults *faults, const char *text)
{
	error[0] = '\0';
	return nvme_faults_parse(faults, text, &(struct reason){error, sizeof(error)});
}

static void test_what_cannot_be_parsed(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"read",          "read:0:EIO",  "read:1:EPERM", "reed:1:EIO",
		"read:1",        "read:1:ms",   "read:1:0ms",   "read:1:5s",
		"read:2-1:EIO",  "read:0+:EIO", "read:1++:EIO", "read:1-:EIO",
		"read:1-2+:EIO", "read:-1:EIO", "read:x:EIO",   "read:1:EIO,write",
		":1:EIO"};
	struct nvme_faults faults;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(&faults, bad[i]), -EINVAL);
		assert_non_null(strstr(error, bad[i]));
	}
}

static void test_as_many_as_there_is_room_for(void **state)
{
	(void)state;
	struct nvme_faults faults;
	char text[16 * (NVME_FAULTS_MAX + 1)] = "";
	for (unsigned i = 1; i <= NVME_FAULTS_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "read:%u:EIO,", i);
	assert_int_equal(parse(&faults, text), 0);
	assert_int_equal(faults.count, NVME_FAULTS_MAX);
	strcat(text, "read:99:EIO");
	assert_int_equal(parse(&faults, text), -EINVAL);
}

static void test_each_kind(void **state)
{
	(void)state;
	struct nvme_faults faults;

	assert_int_equal(parse(&faults, "read:2:EIO,write:1:short,,write:2:ENOSPC,read:3:EINTR,"),
			 0);
	assert_int_equal(error[0], '\0');
	assert_int_equal(nvme_faults_apply(&faults, false, 8192).result, 8192);
	assert_int_equal(nvme_faults_apply(&faults, true, 16384).result, 8192);
	assert_int_equal(nvme_faults_apply(&faults, false, 8192).result, -EIO);
	assert_int_equal(nvme_faults_apply(&faults, true, 4096).result, -ENOSPC);
	assert_int_equal(nvme_faults_apply(&faults, false, 4096).result, -EINTR);
	assert_int_equal(nvme_faults_apply(&faults, false, -EBADF).result, -EBADF);
}

/* However small it is, a short I/O moves something, and not all. */
static void test_short_of_one_block(void **state)
{
	(void)state;
	struct nvme_faults faults;
	assert_int_equal(parse(&faults, "read:1:short"), 0);
	assert_int_equal(nvme_faults_apply(&faults, false, 4096).result, 512);
}

/* The n-th alone, from the n-th on, and from the n-th to the m-th. */
static void test_ranges(void **state)
{
	(void)state;
	struct nvme_faults faults;
	assert_int_equal(parse(&faults, "read:2-3:EIO,write:2+:ENOSPC"), 0);
	for (int nth = 1; nth <= 5; nth++) {
		assert_int_equal(nvme_faults_apply(&faults, false, 4096).result,
				 nth == 2 || nth == 3 ? -EIO : 4096);
		assert_int_equal(nvme_faults_apply(&faults, true, 4096).result,
				 nth >= 2 ? -ENOSPC : 4096);
	}
}

/* What happens to an I/O adds up. */
static void test_answers_that_come_late(void **state)
{
	(void)state;
	struct nvme_faults faults;
	assert_int_equal(parse(&faults, "write:1+:20ms,write:2:hang,write:2:EIO"), 0);
	struct nvme_outcome first = nvme_faults_apply(&faults, true, 4096);
	struct nvme_outcome second = nvme_faults_apply(&faults, true, 4096);
	assert_int_equal(first.result, 4096);
	assert_int_equal(first.delay_ns, 20000000);
	assert_false(first.hangs);
	assert_int_equal(second.result, -EIO);
	assert_int_equal(second.delay_ns, 20000000);
	assert_true(second.hangs);
}

static void test_none(void **state)
{
	(void)state;
	struct nvme_faults faults;
	assert_int_equal(parse(&faults, ""), 0);
	assert_int_equal(faults.count, 0);
	assert_int_equal(nvme_faults_apply(&faults, true, 4096).result, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_cannot_be_parsed),
		cmocka_unit_test(test_as_many_as_there_is_room_for),
		cmocka_unit_test(test_each_kind),
		cmocka_unit_test(test_short_of_one_block),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_answers_that_come_late),
		cmocka_unit_test(test_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
