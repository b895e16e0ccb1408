/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that lie in sockets which are kept: found again by the next one, each once, whenever
 * the first was killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"
#include "tests/support/store_rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IDS = 300, KILLS = 200, FEW = 30 };

static struct seed seed;
static struct leaks leaks;

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	store_rig_open();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_rig_close();
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static struct parking *open_parking(void)
{
	struct parking *parking = NULL;
	assert_int_equal(parking_open(&parking), 0);
	return parking;
}

/* As the next process finds it. */
static struct parking *reopen(struct parking *parking)
{
	parking_close(parking);
	store_rig_settle();
	store_rig_next();
	return open_parking();
}

/* A memfd that knows its id. */
static int thing(uint64_t id)
{
	int fd = memfd_create("thing", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &id, sizeof(id), 0), sizeof(id));
	return fd;
}

static void put(struct parking *parking, uint64_t id)
{
	int fd = thing(id);
	assert_int_equal(parking_put(parking, id, fd), 0);
	close(fd);
}

/* Whether it came back; fails if it is another's. */
static bool claim(struct parking *parking, uint64_t id)
{
	uint64_t written = 0;
	int fd = parking_claim(parking, id);
	if (fd < 0)
		return false;

	assert_int_equal(pread(fd, &written, sizeof(written), 0), sizeof(written));
	assert_int_equal(written, id);
	close(fd);

	return true;
}

static void test_what_is_parked_comes_back(void **state)
{
	(void)state;
	struct parking *parking = open_parking();

	for (uint64_t i = 0; i < IDS; i++)
		put(parking, parking_id(PARK_SLAB, i));
	put(parking, parking_id(PARK_FENCE, 7));

	for (int round = 0; round < 3; round++) {
		parking = reopen(parking);
		assert_int_equal(parking_count(parking), IDS + 1);
		for (uint64_t i = 0; i < IDS; i++)
			assert_true(claim(parking, parking_id(PARK_SLAB, i)));
		assert_true(claim(parking, parking_id(PARK_FENCE, 7)));
		assert_int_equal(claim(parking, parking_id(PARK_FENCE, 8)), false);
		assert_int_equal(claim(parking, parking_id(PARK_FENCE, 7)), false); /* once */
		assert_int_equal(parking_let_go(parking), 0);
	}

	parking_close(parking);
}

static void test_what_is_dropped_does_not(void **state)
{
	(void)state;
	struct parking *parking = open_parking();
	uint64_t many[IDS];
	size_t count = 0;

	for (uint64_t i = 0; i < IDS; i++)
		put(parking, i);
	for (uint64_t i = 0; i < IDS; i += 3)
		many[count++] = i;
	parking_drop_many(parking, many, count);
	for (uint64_t i = 1; i < IDS; i += 3)
		parking_drop(parking, i);
	parking_drop(parking, IDS); /* which there is not */

	for (uint64_t i = 0; i < 2; i++) {
		parking = reopen(parking);
		assert_int_equal(parking_count(parking), IDS / 3);
		for (uint64_t k = 0; k < IDS; k++)
			assert_int_equal(claim(parking, k), k % 3 == 2);
	}

	parking_close(parking);
}

/* Dropped means that the memory is free: the last descriptor of it is closed. */
static void test_what_is_dropped_is_closed(void **state)
{
	(void)state;
	struct parking *parking = open_parking();
	int ends[2];
	char byte;

	for (uint64_t i = 0; i < 10; i++)
		put(parking, i);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(parking_put(parking, 10, ends[1]), 0);
	close(ends[1]);
	put(parking, 11);
	parking_drop(parking, 10);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	parking_close(parking);
}

static void test_what_is_not_claimed_is_dropped(void **state)
{
	(void)state;
	struct parking *parking = open_parking();

	for (uint64_t i = 0; i < IDS; i++)
		put(parking, i);

	parking = reopen(parking);
	for (uint64_t i = 0; i < IDS; i += 2)
		assert_true(claim(parking, i));
	assert_int_equal(parking_let_go(parking), IDS / 2);
	assert_int_equal(parking_count(parking), IDS / 2);

	parking = reopen(parking);
	for (uint64_t i = 0; i < IDS; i++)
		assert_int_equal(claim(parking, i), i % 2 == 0);
	parking_close(parking);
}

/* A manager that is busy is not waited for. */
static void test_a_manager_that_does_not_answer(void **state)
{
	(void)state;
	struct parking *parking = open_parking();
	uint64_t i = 0;

	for (; i < PARKING_GROUP; i++)
		put(parking, i);
	store_rig_settle();
	store_rig_pause(true);
	for (; i < 2 * PARKING_GROUP; i++)
		put(parking, i);
	store_rig_pause(false);
	for (; i < 3 * PARKING_GROUP; i++)
		put(parking, i);
	assert_int_equal(store_rig_count(), 8);

	/* It comes back, whether or not it was answered for. */
	parking_close(parking);
	store_rig_next();
	parking = open_parking();
	assert_int_equal(parking_count(parking), 3 * PARKING_GROUP);
	for (i = 0; i < 3 * PARKING_GROUP; i++)
		parking_drop(parking, i);
	assert_int_equal(store_rig_count(), 2);
	parking_close(parking);
}

/* As many groups are kept as have something in them, and one that has room. */
static void test_groups_come_and_go(void **state)
{
	(void)state;
	struct parking *parking = open_parking();

	assert_int_equal(store_rig_count(), 2);
	for (uint64_t i = 0; i < 4 * PARKING_GROUP; i++)
		put(parking, i);
	assert_int_equal(store_rig_count(), 8 + 2);
	for (uint64_t i = 0; i < 4 * PARKING_GROUP; i++)
		parking_drop(parking, i);
	assert_int_equal(store_rig_count(), 2);
	put(parking, 1);
	assert_int_equal(store_rig_count(), 2);
	parking_close(parking);
}

static void test_a_store_that_is_full(void **state)
{
	(void)state;
	store_rig_limit(4);
	struct parking *parking = open_parking();
	int fd = thing(0);

	for (uint64_t i = 0; i < 2 * PARKING_GROUP; i++)
		assert_int_equal(parking_put(parking, i, fd), 0);
	assert_int_equal(parking_put(parking, 1000, fd), -ENOSPC);
	assert_int_equal(parking_count(parking), 2 * PARKING_GROUP);
	parking_drop(parking, 5);
	assert_int_equal(parking_put(parking, 1000, fd), 0);
	close(fd);
	parking_close(parking);
}

static void test_without_a_keeper_nothing_is_parked(void **state)
{
	(void)state;
	store_rig_limit(0);
	struct parking *parking = open_parking();
	int fd = thing(0);

	assert_int_equal(parking_put(parking, 1, fd), 0);
	assert_int_equal(parking_count(parking), 0);
	parking_drop(parking, 1);
	assert_int_equal(parking_claim(parking, 1), -1);
	close(fd);
	parking_close(parking);
}

/* A process without a free descriptor cannot rotate; it drops what it should later. */
static void test_a_drop_without_descriptors(void **state)
{
	(void)state;
	struct parking *parking = open_parking();
	struct rlimit limit, low;

	for (uint64_t i = 0; i < 10; i++)
		put(parking, i);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	parking_drop(parking, 5);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(parking_count(parking), 10);
	put(parking, 10);
	assert_int_equal(parking_count(parking), 10);

	parking = reopen(parking);
	assert_int_equal(claim(parking, 5), false);
	assert_int_equal(parking_count(parking), 10);
	parking_close(parking);
}

/* ---- killed ---- */

/* What the process that is killed has said: before it begins, and when it is done. */
struct journal {
	uint64_t began[IDS], ended[IDS]; /* odd: put; even: dropped; how many times */
};

static void play(struct journal *journal, struct parking *parking, uint64_t random, uint64_t steps)
{
	struct seed own = {random};

	while (steps-- > 0) {
		uint64_t id = seed_below(&own, steps < FEW ? FEW / 3 : IDS);
		uint64_t is = journal->ended[id];
		journal->began[id] = is + 1;
		if (is % 2 == 0)
			put(parking, id);
		else
			parking_drop(parking, id);
		journal->ended[id] = is + 1;
	}
}

/* What was put is there, what was dropped is not, and what was in between is either. */
static void look(struct journal *journal, struct parking *parking)
{
	for (uint64_t id = 0; id < IDS; id++) {
		bool is_there = claim(parking, id);
		if (journal->began[id] == journal->ended[id])
			assert_int_equal(is_there, journal->ended[id] % 2 == 1);
		journal->began[id] = journal->ended[id] = is_there;
	}
}

/* The next process finds what the journal says, after what was killed. */
static struct parking *look_again(struct journal *journal)
{
	store_rig_settle();
	store_rig_next();
	struct parking *parking = open_parking();
	look(journal, parking);
	return parking;
}

static struct journal *new_journal(void)
{
	struct journal *journal = mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(journal, MAP_FAILED);
	return journal;
}

static void test_killed_at_any_moment(void **state)
{
	(void)state;
	struct journal *journal = new_journal();
	struct parking *parking = open_parking();

	for (int i = 0; i < KILLS; i++) {
		uint64_t random = seed_next(&seed);
		useconds_t moment = (useconds_t)seed_below(&seed, 3000);
		parking_close(parking);
		store_rig_settle();
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			store_rig_next();
			play(journal, open_parking(), random,
			     UINT64_MAX); /* killed while it opens, too */
		}

		usleep(moment);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		parking = look_again(journal);
	}

	parking_close(parking);
	munmap(journal, sizeof(*journal));
}

/* Runs until that many of its calls of the system have begun or ended, and is killed. False: it
 * has ended before. */
static bool kill_at(pid_t pid, unsigned stops)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (unsigned i = 0; i < stops && WIFSTOPPED(status); i++) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}

	if (!WIFSTOPPED(status)) {
		assert_int_equal(status, 0);
		return false;
	}

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);

	return true;
}

/* Only calls of the system change what the next process finds: each place between two of them. */
static void test_killed_between_any_two_calls(void **state)
{
	(void)state;
	struct journal *journal = new_journal();
	uint64_t random = seed_next(&seed);
	bool killed = true;

	for (unsigned stops = 0; killed; stops++) {
		struct parking *parking = parking_close(open_parking());
		store_rig_settle();
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
				_exit(0);
			raise(SIGSTOP);
			store_rig_next();
			play(journal, open_parking(), random, FEW);
			_exit(0);
		}

		killed = kill_at(pid, stops);
		parking = look_again(journal);
		for (uint64_t id = 0; id < IDS; id++)
			parking_drop(parking, id);
		memset(journal, 0, sizeof(*journal));
		parking_close(parking);
		store_rig_settle();
		store_rig_next();
		assert_true(killed || stops > 100);
	}

	munmap(journal, sizeof(*journal));
}

int main(void)
{
	seed_open(&seed, "parking");
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_parked_comes_back),
		TEST(test_what_is_dropped_does_not),
		TEST(test_what_is_dropped_is_closed),
		TEST(test_what_is_not_claimed_is_dropped),
		TEST(test_groups_come_and_go),
		TEST(test_a_manager_that_does_not_answer),
		TEST(test_a_store_that_is_full),
		TEST(test_without_a_keeper_nothing_is_parked),
		TEST(test_a_drop_without_descriptors),
		TEST(test_killed_at_any_moment),
		TEST(test_killed_between_any_two_calls),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
