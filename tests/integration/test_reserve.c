/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients reserve of a device's memory before they commit it: a commit within it never
 * lacks budget, one beyond it takes what nobody was promised, and a reservation that waits is
 * served when memory comes free, in order, or ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/leaks.h"
#include "tests/support/raw.h"
#include "tests/support/spawn.h"
#include "tests/support/system_calls.h"

#define SLAB (2ll << 20)
#define LONG_MS 60000u

static struct spawn daemon_;
static struct hbm *one, *two;
static uint64_t capacity;
static struct leaks leaks;

static struct hbm_device_memory memory(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(one, 0, &memory), 0);

	return memory;
}

static int setup(void **state)
{
	static const char *const sets[] = {"hbmd.socket_mode=0666", NULL};

	(void)state;
	leaks_begin(&leaks);
	spawn_init(&daemon_);
	spawn_start(&daemon_, sets, NULL);
	one = spawn_connect(&daemon_);
	two = spawn_connect(&daemon_);
	capacity = memory().capacity;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	one = hbm_close(one);
	two = hbm_close(two);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_free(&daemon_);
	assert_int_equal(leaks_end(&leaks), 0);

	return 0;
}

static int reserve(struct hbm *hbm, int64_t bytes)
{
	struct hbm_reserve_change change = {.bytes = bytes};

	return hbm_reserve(hbm, &change, 1, 0);
}

static hbm_ticket begin_reserve(struct hbm *hbm, int64_t bytes, uint32_t timeout_ms)
{
	struct hbm_reserve_change change = {.bytes = bytes};
	hbm_ticket ticket;

	assert_int_equal(hbm_submit_reserve(hbm, &change, 1, timeout_ms, &ticket), 0);

	return ticket;
}

/* Waits until so many reservations wait. */
static void await_waiting(uint64_t count)
{
	while (memory().waiting != count)
		assert_int_equal(poll(NULL, 0, 1), 0);
}

static struct hbm_region *make_region(struct hbm *hbm)
{
	struct hbm_region_options options = {.address_space = capacity, .slab = (uint64_t)SLAB};
	struct hbm_region *region;

	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);

	return region;
}

static int commit(struct hbm_region *region, struct hbm *hbm, uint64_t at, uint64_t bytes)
{
	return hbm_commit(hbm, &(struct hbm_range){region, at, bytes}, 1);
}

static int decommit(struct hbm_region *region, struct hbm *hbm, uint64_t at, uint64_t bytes)
{
	return hbm_decommit(hbm, &(struct hbm_range){region, at, bytes}, 1);
}

/* ---- What a reservation keeps ---- */

static void test_a_commit_takes_only_what_nobody_was_promised(void **state)
{
	uint64_t part = capacity / 4;
	char reason[256];

	(void)state;
	assert_int_equal(reserve(one, (int64_t)(3 * part)), 0);
	assert_int_equal(memory().promised, 3 * part);
	assert_int_equal(memory().available, part);

	struct hbm_region *mine = make_region(one), *theirs = make_region(two);
	assert_int_equal(commit(theirs, two, 0, part + (uint64_t)SLAB), HBM_NO_SPACE);
	snprintf(reason, sizeof(reason),
		 "device 0: %llu of %llu bytes for regions are free, %llu reserved by others",
		 (unsigned long long)capacity, (unsigned long long)capacity,
		 (unsigned long long)(3 * part));
	assert_non_null(strstr(hbm_error(two), reason));
	assert_int_equal(commit(theirs, two, 0, part), 0);
	assert_int_equal(commit(theirs, two, part, (uint64_t)SLAB), HBM_NO_SPACE);

	assert_int_equal(commit(mine, one, 0, 3 * part), 0);
	assert_int_equal(memory().promised, 0);
	assert_int_equal(memory().free, 0);

	/* What is decommitted is promised again, and the other still cannot have it. */
	assert_int_equal(decommit(mine, one, 0, part), 0);
	while (memory().returning > 0)
		assert_int_equal(poll(NULL, 0, 1), 0);
	assert_int_equal(memory().promised, part);
	assert_int_equal(commit(theirs, two, part, (uint64_t)SLAB), HBM_NO_SPACE);
	assert_int_equal(commit(mine, one, 0, part), 0);
}

static void test_a_session_that_ends_reserves_nothing(void **state)
{
	(void)state;
	assert_int_equal(reserve(two, (int64_t)capacity), 0);
	assert_int_equal(reserve(one, SLAB), HBM_NO_SPACE);
	two = hbm_close(two);
	while (memory().promised > 0)
		assert_int_equal(poll(NULL, 0, 1), 0);
	assert_int_equal(reserve(one, (int64_t)capacity), 0);
}

static void test_less_is_always_granted(void **state)
{
	(void)state;
	assert_int_equal(reserve(one, -SLAB), 0);
	assert_int_equal(reserve(one, INT64_MIN), 0);
	assert_int_equal(reserve(one, 3 * SLAB), 0);
	assert_int_equal(reserve(one, -SLAB), 0);
	assert_int_equal(memory().promised, 2 * SLAB);
	assert_int_equal(reserve(one, INT64_MIN), 0);
	assert_int_equal(memory().promised, 0);
}

static void test_hostile_numbers(void **state)
{
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change changes[2];
	} message = {.head = {.header = RAW_HEADER(RESERVE, sizeof(message)), .count = 2}};
	int socket = raw_greet(&daemon_);

	(void)state;
	assert_int_equal(reserve(one, INT64_MAX), HBM_NO_SPACE);
	assert_int_equal(reserve(one, (int64_t)capacity + 1), HBM_NO_SPACE);
	assert_int_equal(reserve(one, 5), 0);
	assert_int_equal(reserve(one, INT64_MAX), HBM_NO_SPACE);

	raw_refused(socket, &message, HBM_INVALID, "changes[1].device is 0, which is named twice");
	message.changes[1].device = 64;
	raw_refused(socket, &message, HBM_INVALID, "changes[1].device is 64, expected 0 to 63");
	message.changes[1].device = 63;
	raw_refused(socket, &message, HBM_INVALID, "changes[1].device is 63: there are 1");
	message.head.count = 1;
	message.head.header.size = sizeof(message) - sizeof(message.changes[0]);
	message.changes[0] = (struct hbm_wire_reserve_change){.zero = 1};
	raw_refused(socket, &message, HBM_INVALID, "changes[0].zero is 1, expected 0");
	message.changes[0] = (struct hbm_wire_reserve_change){.bytes = SLAB};
	message.head.timeout_ms = UINT32_MAX;
	assert_int_equal(raw_ask(socket, &message, message.head.header.size), HBM_LIMIT);
	assert_int_equal(memory().promised, 5);
	close(socket);
}

/* ---- What waits ---- */

static void test_one_that_waits_is_served_when_another_decommits(void **state)
{
	struct hbm_region *theirs = make_region(two);

	(void)state;
	assert_int_equal(commit(theirs, two, 0, capacity), 0);
	hbm_ticket ticket = begin_reserve(one, 2 * SLAB, LONG_MS);
	await_waiting(1);
	assert_int_equal(hbm_poll(one, ticket), -EAGAIN);

	assert_int_equal(decommit(theirs, two, 0, (uint64_t)SLAB), 0);
	assert_int_equal(decommit(theirs, two, (uint64_t)SLAB, (uint64_t)SLAB), 0);
	assert_int_equal(hbm_wait(one, ticket, -1), 0);
	assert_int_equal(memory().promised, 2 * SLAB);
	assert_int_equal(memory().waiting, 0);
	assert_int_equal(commit(theirs, two, 0, (uint64_t)SLAB), HBM_NO_SPACE);
}

static void test_small_ones_do_not_pass_a_large_one(void **state)
{
	(void)state;
	assert_int_equal(reserve(two, (int64_t)capacity), 0);
	hbm_ticket large = begin_reserve(one, 4 * SLAB, LONG_MS);
	hbm_ticket small = begin_reserve(one, SLAB, LONG_MS);
	await_waiting(2);

	assert_int_equal(reserve(two, -2 * SLAB), 0);
	assert_int_equal(reserve(one, SLAB), HBM_NO_SPACE); /* nor does what does not wait */
	assert_int_equal(memory().waiting, 2);
	assert_int_equal(reserve(two, -2 * SLAB), 0);
	assert_int_equal(hbm_wait(one, large, -1), 0);
	assert_int_equal(hbm_poll(one, small), -EAGAIN);
	assert_int_equal(memory().waiting, 1);
	assert_int_equal(reserve(two, -SLAB), 0);
	assert_int_equal(hbm_wait(one, small, -1), 0);
}

static void test_the_timeout(void **state)
{
	(void)state;
	assert_int_equal(reserve(two, (int64_t)capacity), 0);
	hbm_ticket ticket = begin_reserve(one, SLAB, 1);
	assert_int_equal(hbm_wait(one, ticket, -1), HBM_TIMEOUT);
	assert_int_equal(memory().waiting, 0);
	assert_int_equal(reserve(two, INT64_MIN), 0);
	assert_int_equal(memory().promised, 0);
}

static void test_it_is_cancelled(void **state)
{
	(void)state;
	assert_int_equal(reserve(two, (int64_t)capacity), 0);
	hbm_ticket ticket = begin_reserve(one, SLAB, LONG_MS);
	await_waiting(1);
	assert_int_equal(hbm_cancel(one, ticket), 0);
	assert_int_equal(hbm_wait(one, ticket, -1), HBM_CANCELLED);
	assert_int_equal(memory().waiting, 0);
}

static void live(const struct spawn *spawn, uint64_t bytes)
{
	struct hbm *hbm = spawn_connect(spawn);

	if (bytes > 0)
		(void)begin_reserve(hbm, (int64_t)bytes, LONG_MS);
	else
		assert_int_equal(reserve(hbm, SLAB), 0);
	child_tell();
	(void)hbm_dispatch(hbm, -1);
}

static void test_killed_while_it_waits(void **state)
{
	struct child waiting, holding;

	(void)state;
	child_start(&holding, "live", &daemon_, 0);
	child_await(&holding);
	child_start(&waiting, "live", &daemon_, capacity);
	child_await(&waiting);
	await_waiting(1);

	hbm_ticket ticket = begin_reserve(one, (int64_t)capacity, LONG_MS);
	await_waiting(2);
	assert_int_equal(child_kill(&waiting), 128 + SIGKILL);
	await_waiting(1);
	assert_int_equal(hbm_poll(one, ticket), -EAGAIN);
	assert_int_equal(child_kill(&holding), 128 + SIGKILL);
	assert_int_equal(hbm_wait(one, ticket, -1), 0);
}

static void test_the_daemon_stops(void **state)
{
	(void)state;
	assert_int_equal(reserve(two, (int64_t)capacity), 0);
	hbm_ticket ticket = begin_reserve(one, SLAB, LONG_MS);
	await_waiting(1);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(hbm_wait(one, ticket, -1), HBM_SHUTDOWN);
	one = hbm_close(one);
	two = hbm_close(two);
	spawn_start(&daemon_, (const char *const[]){NULL}, NULL);
}

/* A user that is no operator reserves its share, used or not, and no more. */
static void test_the_share_of_a_user(void **state)
{
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change change;
	} message = {.head = {.header = RAW_HEADER(RESERVE, sizeof(message)), .count = 1},
		     .change.bytes = (int64_t)(capacity / 2)};
	int socket, again;

	(void)state;
	guest_admit(&daemon_);
	assert_int_equal(guest_greet(&daemon_, GUEST, &socket), HBM_OK);
	assert_int_equal(guest_greet(&daemon_, GUEST, &again), HBM_OK);
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
	message.head.timeout_ms = LONG_MS; /* it does not wait for its own share */
	assert_int_equal(raw_ask(again, &message, sizeof(message)), HBM_LIMIT);
	assert_int_equal(memory().promised, capacity / 2);
	assert_int_equal(reserve(one, (int64_t)(capacity / 2)), 0);
	close(socket);
	close(again);
}

/* ---- What operators and others see ---- */

static void test_it_is_shown(void **state)
{
	static char out[1 << 17];

	(void)state;
	assert_int_equal(reserve(two, 6 * SLAB), 0);
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"--json", "sessions", NULL}, out,
				      sizeof(out)),
			 0);
	assert_non_null(strstr(out, "\"reserved\": 12582912"));
	assert_int_equal(
		spawn_hbmctl(&daemon_, (const char *[]){"metrics", NULL}, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "hbmd_device_promised_bytes{device=\"0\""));
}

/* Whatever a client tries, what others read is what the daemon wrote. */
static void test_a_client_cannot_write_the_page(void **state)
{
	struct hbm_wire_header header = RAW_HEADER(MEMORY, sizeof(header));
	char control[CMSG_SPACE(sizeof(int))], path[64];
	struct iovec iov = {&header, sizeof(header)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	int socket = raw_greet(&daemon_), fd;

	(void)state;
	assert_true(raw_send(socket, &header, sizeof(header), 0));
	assert_int_equal(recvmsg(socket, &message, 0), sizeof(header));
	assert_int_equal(header.status, HBM_OK);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));

	for (int again = 0; again < 2; again++) {
		assert_ptr_equal(mmap(NULL, HBM_WIRE_MEMORY_BYTES, PROT_READ | PROT_WRITE,
				      MAP_SHARED, fd, 0),
				 MAP_FAILED);
		void *page = mmap(NULL, HBM_WIRE_MEMORY_BYTES, PROT_READ, MAP_SHARED, fd, 0);
		assert_ptr_not_equal(page, MAP_FAILED);
		assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_WRITE), -1);
		assert_int_equal(madvise(page, 4096, MADV_REMOVE), -1);
		assert_int_equal(pwrite(fd, "x", 1, 0), -1);
		assert_int_equal(ftruncate(fd, 0), -1);
		assert_int_equal(ftruncate(fd, 1 << 20), -1);
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
				 -1);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, 0), -1);
		munmap(page, HBM_WIRE_MEMORY_BYTES);

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		int reopened = open(path, O_RDWR | O_CLOEXEC);
		close(fd);
		fd = reopened;
		if (fd < 0)
			break;
	}

	if (fd >= 0)
		close(fd);
	close(socket);
	assert_int_equal(memory().capacity, capacity);
}

/* The counter sees a call, and reading the page makes none. */
static void test_it_is_read_without_a_system_call(void **state)
{
	struct hbm_device_memory before = memory(), after;

	(void)state;
	if (!system_calls_begin())
		skip();
	pid_t pid = getppid();
	uint64_t calls = system_calls_end();
	assert_int_equal(pid, getppid());
	assert_int_equal(calls, 1);

	assert_true(system_calls_begin());
	int status = 0;
	for (unsigned i = 0; i < 1000; i++)
		status |= hbm_device_memory(one, 0, &after);
	calls = system_calls_end();
	assert_int_equal(calls, 0);
	assert_int_equal(status, 0);
	assert_int_equal(after.capacity, before.capacity);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"live", live}, {NULL, NULL}};
	child_main(argc, argv, parts);

	const struct CMUnitTest tests[] = {
		TEST(test_a_commit_takes_only_what_nobody_was_promised),
		TEST(test_a_session_that_ends_reserves_nothing),
		TEST(test_less_is_always_granted),
		TEST(test_hostile_numbers),
		TEST(test_one_that_waits_is_served_when_another_decommits),
		TEST(test_small_ones_do_not_pass_a_large_one),
		TEST(test_the_timeout),
		TEST(test_it_is_cancelled),
		TEST(test_killed_while_it_waits),
		TEST(test_the_daemon_stops),
		TEST(test_the_share_of_a_user),
		TEST(test_it_is_shown),
		TEST(test_a_client_cannot_write_the_page),
		TEST(test_it_is_read_without_a_system_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
