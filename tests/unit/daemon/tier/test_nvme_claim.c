/* SPDX-License-Identifier: Apache-2.0 */
/* A path that does not answer while the NVMe tier is opened: given up in time, and given back
 * when it answers later. A lease on the file keeps open(2) from returning. What is claimed
 * and what is refused: test_nvme_file.c, test_nvme_device.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/tier/nvme_claim.h"
#include "tests/support/nvme_file_rig.h"

static char error[512];
static const struct reason reason = {error, sizeof(error)};

static int lease_file(struct nvme_file_rig *rig)
{
	signal(SIGIO, SIG_IGN); /* it says that somebody waits */
	int fd = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_in_range(fd, 0, INT32_MAX);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
		close(fd);
		print_message("SKIP: no file can be leased here\n");
		skip();
	}
	return fd;
}

static uint64_t length_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* A claim that holds the file from its opening on. */
static void test_a_claim(void **state)
{
	struct nvme_file_rig *rig = *state;
	struct nvme_claim *claim = NULL;
	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	assert_true(claim->created);
	assert_false(claim->formatted);
	assert_int_equal(claim->size, rig->config.nvme_size);
	assert_int_equal(length_of(rig->path), NVME_HEAD + rig->config.nvme_size);
	assert_int_equal(nvme_claim_label(claim, claim->size), 0);
	nvme_claim_free(claim);

	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	assert_false(claim->created);
	assert_true(claim->formatted);
	nvme_claim_withdraw(claim); /* it did not create the file */
	assert_int_equal(access(rig->path, F_OK), 0);
	assert_int_equal(unlink(rig->path), 0);

	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	nvme_claim_withdraw(claim);
	assert_int_equal(access(rig->path, F_OK), -1);
	assert_null(nvme_claim_free(NULL));
}

/* A start that finds no room for more leaves what is there, and so does one that is killed while
 * it makes more. */
static void test_a_larger_size_that_fails(void **state)
{
	struct nvme_file_rig *rig = *state;
	struct nvme_claim *claim = NULL;
	uint64_t size = rig->config.nvme_size;
	const struct rlimit tight = {NVME_HEAD + size + (1 << 20), RLIM_INFINITY};
	struct rlimit before;
	uint8_t id[NVME_ID_BYTES];

	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	assert_int_equal(nvme_claim_label(claim, size), 0);
	memcpy(id, claim->id, sizeof(id));
	nvme_claim_free(claim);

	rig->config.nvme_size = 2 * size;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	assert_int_not_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(length_of(rig->path), NVME_HEAD + size);

	for (int i = 0; i < 2; i++) { /* the first is killed */
		assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
		assert_int_equal(claim->filled, size);
		assert_memory_equal(claim->id, id, sizeof(id));
		nvme_claim_free(claim);
	}

	rig->config.nvme_size = size;
	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	assert_int_equal(claim->filled, size);
	assert_memory_equal(claim->id, id, sizeof(id));
	nvme_claim_free(claim);
}

static void test_no_answer(void **state)
{
	struct nvme_file_rig *rig = *state;
	struct nvme_claim *claim = NULL;
	int lease = lease_file(rig);
	rig->config.nvme_timeout_ms = 1;
	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), -ETIMEDOUT);
	assert_null(claim);
	assert_non_null(strstr(error, "has had no answer for more than 1 ms"));
	assert_non_null(strstr(error, rig->path));
	assert_int_equal(length_of(rig->path), 0);

	/* Nothing of it is left in the end: the teardown looks at descriptors and threads. */
	assert_int_equal(fcntl(lease, F_SETLEASE, F_UNLCK), 0);
	while (length_of(rig->path) == 0)
		;
	assert_int_equal(flock(lease, LOCK_EX), 0);
	close(lease);
	rig->config.nvme_timeout_ms = 10000;
	assert_int_equal(nvme_claim_new(&claim, &rig->config, 0, &reason), 0);
	nvme_claim_free(claim);
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, nvme_file_rig_setup, nvme_file_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_claim),
		TEST(test_a_larger_size_that_fails),
		TEST(test_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
