/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's folder: made, locked, refused. */
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

#include "daemon/service/state_dir.h"
#include "tests/support/leaks.h"

struct setting {
	struct leaks leaks;
	char folder[32], path[64], lock[80], error[256];
};

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	leaks_begin(&setting->leaks);
	strcpy(setting->folder, "/tmp/hbmd-state-XXXXXX");
	assert_non_null(mkdtemp(setting->folder));
	snprintf(setting->path, sizeof(setting->path), "%s/state", setting->folder);
	snprintf(setting->lock, sizeof(setting->lock), "%s/lock", setting->path);
	*state = setting;

	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	unlink(setting->lock);
	rmdir(setting->path);
	assert_int_equal(rmdir(setting->folder), 0);
	assert_int_equal(leaks_end(&setting->leaks), 0);
	free(setting);

	return 0;
}

static void test_it_is_created_and_locked(void **state)
{
	struct setting *setting = *state;
	int fd = -1, other = -1;

	assert_int_equal(state_dir_lock(setting->path, &fd, setting->error, sizeof(setting->error)),
			 0);
	struct stat st;
	assert_int_equal(stat(setting->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(setting->lock, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(
		state_dir_lock(setting->path, &other, setting->error, sizeof(setting->error)),
		-EBUSY);
	assert_non_null(strstr(setting->error, "in use by another hbmd"));
	assert_int_equal(other, -1);
	close(fd);
	assert_int_equal(state_dir_lock(setting->path, &fd, setting->error, sizeof(setting->error)),
			 0);
	close(fd);
}

static void test_paths_that_cannot_be_a_folder(void **state)
{
	struct setting *setting = *state;
	int fd = -1;

	assert_int_equal(
		state_dir_lock("/no/such/folder", &fd, setting->error, sizeof(setting->error)),
		-ENOENT);
	assert_non_null(strstr(setting->error, "/no/such/folder"));
	int file = open(setting->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(file);
	assert_int_equal(state_dir_lock(setting->path, &fd, setting->error, sizeof(setting->error)),
			 -ENOTDIR);
	assert_non_null(strstr(setting->error, "cannot open"));
	assert_int_equal(fd, -1);
	unlink(setting->path);
}

/* A link in the place of the lock is not followed: what it names is not made. */
static void test_a_link_is_not_followed(void **state)
{
	struct setting *setting = *state;
	char target[64];
	int fd = -1;

	snprintf(target, sizeof(target), "%s/target", setting->folder);
	assert_int_equal(mkdir(setting->path, 0700), 0);
	assert_int_equal(symlink(target, setting->lock), 0);
	assert_int_equal(state_dir_lock(setting->path, &fd, setting->error, sizeof(setting->error)),
			 -ELOOP);
	assert_int_equal(access(target, F_OK), -1);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_is_created_and_locked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths_that_cannot_be_a_folder, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_link_is_not_followed, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
