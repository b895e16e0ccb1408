/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that runs out of file descriptors. A connection waits until there are some
 * again, a COMMIT is refused with HBM_LIMIT, and nothing is lost by either. The limit is
 * lowered while the daemon runs, to each number of free descriptors in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define COMPLAINT "cannot accept connections, retrying"
#define SLAB (2ull << 20)
#define SESSION_FDS 4 /* the socket, the process, the fence page, the doorbell */

static unsigned fds;
static struct hbm *hbm;
static struct rlimit usual;

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	hbm = spawn_connect(&daemon_);
	assert_int_equal(prlimit(daemon_.pid, RLIMIT_NOFILE, NULL, &usual), 0);

	return 0;
}

static void leave_enough(void)
{
	assert_int_equal(prlimit(daemon_.pid, RLIMIT_NOFILE, &usual, NULL), 0);
}

static int teardown(void **state)
{
	leave_enough();
	assert_int_equal(hbm_ping(hbm), 0);
	hbm = hbm_close(hbm);
	stage_finish(fds);
	return stage_teardown(state);
}

/* Which descriptor numbers of the daemon are in use. */
static void numbers_in_use(bool *used, size_t count)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon_.pid);
	DIR *folder = opendir(path);
	assert_non_null(folder);
	memset(used, 0, count * sizeof(*used));
	for (struct dirent *entry; (entry = readdir(folder));) {
		size_t number = strtoul(entry->d_name, NULL, 10);
		if (entry->d_name[0] != '.' && number < count)
			used[number] = true;
	}

	closedir(folder);
}

/* Leaves the daemon so many descriptors to open. */
static void leave(unsigned free_fds)
{
	bool used[4096];

	numbers_in_use(used, 4096);
	size_t limit = 0;
	for (unsigned found = 0; used[limit] || found < free_fds; limit++)
		found += !used[limit];
	const struct rlimit few = {limit, usual.rlim_max};
	assert_int_equal(prlimit(daemon_.pid, RLIMIT_NOFILE, &few, NULL), 0);
}

static void greet(int socket)
{
	struct hbm_wire_hello hello;
	raw_hello_fill(&hello);
	assert_true(raw_send(socket, &hello, sizeof(hello), 0));
}

/* Until the daemon has complained so often. */
static void await_complaints(unsigned count)
{
	while (spawn_log_lines(&daemon_, COMPLAINT) < count)
		assert_int_equal(hbm_ping(hbm), 0);
}

static void test_connections_wait_for_descriptors(void **state)
{
	(void)state;
	for (unsigned room = 0; room <= SESSION_FDS; room++) {
		unsigned lines = spawn_log_lines(&daemon_, COMPLAINT);

		leave(room);
		int first = raw_connect(&daemon_), second = raw_connect(&daemon_);
		greet(first);
		greet(second);
		await_complaints(lines + 1);
		leave_enough();

		struct hbm_wire_header header;
		assert_true(raw_receive(first, &header));
		assert_int_equal(header.status, HBM_OK);
		assert_true(raw_receive(second, &header));
		assert_int_equal(header.status, HBM_OK);
		assert_int_equal(spawn_log_lines(&daemon_, COMPLAINT), lines + 1);
		close(first);
		close(second);
		hbm = hbm_close(hbm);
		spawn_expect_fds(&daemon_, fds);
		hbm = spawn_connect(&daemon_);
	}
}

/* The daemon stops in time, and a client that it could not admit sees the end. */
static void test_stopping_with_a_connection_that_waits(void **state)
{
	(void)state;
	unsigned lines = spawn_log_lines(&daemon_, COMPLAINT);
	leave(1);
	int socket = raw_connect(&daemon_);
	greet(socket);
	await_complaints(lines + 1);
	hbm = hbm_close(hbm);
	assert_int_equal(spawn_stop(&daemon_), 0);
	struct hbm_wire_header header;
	assert_false(raw_receive(socket, &header));
	close(socket);
	spawn_start(&daemon_, NULL, NULL);
	hbm = spawn_connect(&daemon_);
}

static int of_device(const void *record, size_t bytes, void *arg)
{
	(void)bytes;
	memcpy(arg, record, sizeof(struct hbm_wire_device));
	return 1;
}

static struct hbm_wire_device look_at_device(void)
{
	struct hbm_wire_device device;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, of_device, &device), 1);
	return device;
}

/* With slabs that lie ready, and with such as have to be made first. */
static void test_a_commit_without_descriptors_is_refused(void **state)
{
	(void)state;
	static const uint64_t slabs[] = {SLAB, 4 * SLAB};
	for (size_t i = 0; i < 2; i++) {
		const struct hbm_region_options options = {.address_space = 8 * slabs[i],
							   .slab = slabs[i]};
		struct hbm_region *region = NULL;

		hbm = hbm_close(hbm);
		(void)spawn_fds(&daemon_); /* it closes none from here on that a COMMIT could use */
		hbm = spawn_connect(&daemon_);
		assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
		const struct hbm_range all = {region, 0, 8 * slabs[i]};
		unsigned refused = 0;
		int status = HBM_LIMIT;
		for (unsigned room = 0; status == HBM_LIMIT; room++) {
			leave(room);
			status = hbm_commit(hbm, &all, 1);
			leave_enough();
			refused += status == HBM_LIMIT;
			if (status == HBM_LIMIT)
				assert_non_null(strstr(hbm_error(hbm), "no file descriptors left"));
			assert_int_equal(look_at_device().leased, status == HBM_OK ? all.bytes : 0);
			assert_int_equal(look_at_device().lost, 0);
		}

		assert_int_equal(status, HBM_OK);
		/* The second gives back slabs of the first's size, and their descriptors, before
		 * it needs any: it may be refused or not. */
		assert_in_range(refused, slabs[i] == SLAB, 64);
		assert_true(spawn_logged(&daemon_, "raise LimitNOFILE="));
		assert_int_equal(hbm_region_destroy(hbm, region), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connections_wait_for_descriptors, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stopping_with_a_connection_that_waits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_commit_without_descriptors_is_refused, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
