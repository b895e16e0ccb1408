/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boards of sequences against a daemon: what clients write there is shown to those that may see
 * it; whatever they write, the daemon serves on. Operators ask a session for something, and the
 * daemon asks when memory runs short.
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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/raw_board.h"
#include "tests/support/seed.h"
#include "tests/support/two_users.h"

#define MIB (1ull << 20)
#define ALARM_S 120

static unsigned fds;
static int session_; /* a client's */
static uint64_t session_number;

static uint64_t newest_session(int socket)
{
	const struct two_users_records *records = two_users_query(socket, HBM_QUERY_SESSIONS);

	return ((const struct hbm_wire_session *)two_users_record(records, records->count - 1))
		->session;
}

static int setup_with(void **state, const char *const *sets)
{
	alarm(ALARM_S);
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	session_ = raw_greet(&daemon_);
	session_number = newest_session(session_);

	return 0;
}

static int setup(void **state)
{
	static const char *const sets[] = {"limits.sequences=64", "limits.notices=4", NULL};

	return setup_with(state, sets);
}

static int teardown(void **state)
{
	if (session_ >= 0)
		close(session_);
	stage_finish(fds);
	alarm(0);

	return stage_teardown(state);
}

static const struct hbm_wire_sequence *shown(int socket, unsigned expected)
{
	const struct two_users_records *records = two_users_query(socket, HBM_QUERY_SEQUENCES);

	assert_int_equal(records->count, expected);

	return two_users_record(records, 0);
}

/* ---- Boards ---- */

static void test_what_is_written_is_shown(void **state)
{
	(void)state;
	struct raw_board board, second;

	shown(session_, 0);
	raw_board_open(session_, 16, &board);
	raw_board_open(session_, 3, &second);
	shown(session_, 0);
	board.records[15] = (struct hbm_wire_board_record){.number = 7,
							   .tokens = 100,
							   .expected = 200,
							   .max = 300,
							   .own = 4096,
							   .shared = 8192,
							   .priority = -3,
							   .next_use = 55,
							   .name = "request 7"};
	second.records[1] = (struct hbm_wire_board_record){
		.number = 8, .state = HBM_SEQUENCE_SUSPENDED, .suspended = 12288};

	const struct hbm_wire_sequence *first = shown(session_, 2);
	assert_int_equal(first[0].session, session_number);
	assert_int_equal(first[0].sequence, 7);
	assert_int_equal(first[0].tokens, 100);
	assert_int_equal(first[0].shared, 8192);
	assert_int_equal(first[0].priority, -3);
	assert_string_equal(first[0].name, "request 7");
	assert_int_equal(first[1].sequence, 8);
	assert_int_equal(first[1].state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(first[1].suspended, 12288);

	board.records[15].tokens = 101; /* seen without a call */
	assert_int_equal(shown(session_, 2)[0].tokens, 101);

	const struct hbm_wire_board_ref close_ = {.header = RAW_HEADER(BOARD_CLOSE, sizeof(close_)),
						  .board = board.number};
	assert_int_equal(raw_ask(session_, &close_, sizeof(close_)), HBM_OK);
	raw_refused(session_, &close_, HBM_NOT_FOUND, "no board 1 in this session");
	assert_int_equal(shown(session_, 1)[0].sequence, 8);
	raw_board_leave(&board);
	raw_board_leave(&second);
}

static void test_limit(void **state)
{
	(void)state;
	struct hbm_wire_board_open open = {.header = RAW_HEADER(BOARD_OPEN, sizeof(open)),
					   .records = 64};
	struct raw_board board;

	raw_refused(session_, &open, HBM_LIMIT,
		    "limits.sequences = 64: the session has 0, 96 more were asked for");
	raw_board_open(session_, 17, &board); /* one page for the 17th */
	open.records = 1;
	raw_refused(session_, &open, HBM_LIMIT,
		    "limits.sequences = 64: the session has 64, 32 more were asked for");
	assert_true(spawn_balanced(&daemon_));
	raw_board_leave(&board);
}

/* Neither garbage nor holes nor a board whose descriptor is gone do anything to the daemon. */
static void test_hostile_writer(void **state)
{
	(void)state;
	char out[16384];
	struct raw_board board;
	struct seed seed;

	seed_open(&seed, "test_hostile_writer");
	raw_board_open(session_, 48, &board);
	assert_int_equal(ftruncate(board.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(board.fd, 1 << 20), -1);

	for (unsigned round = 0; round < 20; round++) {
		uint64_t *words = (uint64_t *)board.head;
		for (size_t i = 0; i < board.bytes / sizeof(*words); i++)
			words[i] = round % 2 ? UINT64_MAX : seed_next(&seed);
		shown(session_, 48);
		assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"sequences", NULL}, out,
					      sizeof(out)),
				 0);
		assert_int_equal(
			spawn_hbmctl(&daemon_, (const char *[]){"trace", NULL}, out, sizeof(out)),
			0);
		for (const char *c = out; *c; c++)
			assert_true(*c == '\n' || (*c >= 0x20 && *c < 0x7f));
		assert_int_equal(spawn_hbmctl(&daemon_,
					      (const char *[]){"sequences", "--json", NULL}, out,
					      sizeof(out)),
				 0);
	}

	assert_int_equal(fallocate(board.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)board.bytes),
			 0);
	shown(session_, 0);
	raw_board_leave(&board);
	shown(session_, 0);
	assert_true(spawn_balanced(&daemon_));
}

/* The board of a process that is killed is gone, and its charge. */
static void test_killed_writer(void **state)
{
	(void)state;
	int ready[2];

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t child = fork();
	if (child == 0) {
		int socket = raw_greet(&daemon_);
		struct raw_board board;

		raw_board_open(socket, 40, &board);
		board.records[0].number = 1;
		_exit(write(ready[1], "", 1) == 1 && pause());
	}

	assert_int_equal(read(ready[0], &(char){0}, 1), 1);
	shown(session_, 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	while (two_users_query(session_, HBM_QUERY_SEQUENCES)->count > 0)
		poll(NULL, 0, 1);
	assert_true(spawn_balanced(&daemon_));
	close(ready[0]);
	close(ready[1]);
}

/* ---- Asking ---- */

static void test_asking(void **state)
{
	(void)state;
	int operator_ = raw_greet(&daemon_);
	struct raw_board board;
	struct hbm_wire_ask ask = {.header = RAW_HEADER(ASK, sizeof(ask)),
				   .session = session_number,
				   .ask = HBM_ASK_PRESSURE};

	assert_int_equal(raw_board_ask(operator_, session_number, 1, HBM_ASK_SUSPEND, 0),
			 HBM_NOT_FOUND);
	assert_int_equal(raw_board_ask(operator_, 999, 1, HBM_ASK_SUSPEND, 0), HBM_NOT_FOUND);
	raw_board_open(session_, 1, &board);
	raw_refused(operator_, &ask, HBM_UNSUPPORTED, "ask is 3, expected 1 or 2");

	assert_int_equal(
		raw_board_ask(operator_, session_number, 1, HBM_ASK_SUSPEND, HBM_TIER_NVME),
		HBM_OK);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.session, session_number);
	assert_int_equal(ask.sequence, 1);
	assert_int_equal(ask.ask, HBM_ASK_SUSPEND);
	assert_int_equal(ask.tier, HBM_TIER_NVME);
	assert_int_equal(board.head->notices, 1);

	assert_int_equal(raw_board_ask(operator_, session_number, 0, HBM_ASK_RESUME, 0), HBM_OK);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.sequence, 0);
	assert_int_equal(ask.ask, HBM_ASK_RESUME);
	assert_int_equal(ask.tier, HBM_TIER_NONE);
	assert_int_equal(board.head->notices, 2);
	close(operator_);
	raw_board_leave(&board);
}

/* Who never reads what it is sent keeps its own room, and then loses what follows. */
static void test_deaf_client(void **state)
{
	(void)state;
	int operator_ = raw_greet(&daemon_);
	struct hbm_wire_status status;
	struct hbm_wire_ask ask;
	struct raw_board board;
	uint64_t sent = 0;
	int r;

	raw_board_open(session_, 1, &board);
	while ((r = raw_board_ask(operator_, session_number, sent + 1, HBM_ASK_SUSPEND, 0)) ==
	       HBM_OK)
		sent++;
	assert_int_equal(r, HBM_LIMIT);
	assert_int_equal(raw_board_ask(operator_, session_number, 1, HBM_ASK_RESUME, 0), HBM_LIMIT);
	spawn_status(&daemon_, &status);
	assert_int_equal(status.notices, sent);
	assert_int_equal(status.notices_dropped, 2);
	assert_true(spawn_balanced(&daemon_));

	for (uint64_t i = 1; i <= sent; i++) {
		raw_board_hear(session_, &ask);
		assert_int_equal(ask.sequence, i);
	}
	assert_int_equal(raw_board_ask(operator_, session_number, 1, HBM_ASK_SUSPEND, 0), HBM_OK);
	raw_board_hear(session_, &ask);
	close(operator_);
	raw_board_leave(&board);
}

/* ---- Pressure ---- */

static int setup_watermark(void **state)
{
	static const char *const sets[] = {"device.memory=64MiB",   "device.cache=16MiB",
					   "device.headroom=16MiB", "device.slab=2MiB",
					   "device.watermark=8MiB", NULL};

	return setup_with(state, sets);
}

static void change(int socket, unsigned opcode, uint32_t region, uint64_t bytes)
{
	const struct raw_ranges ranges = {
		.head = {.header = {.size = sizeof(ranges), .opcode = (uint16_t)opcode, .id = 1},
			 .count = 1},
		.range = {.region = region, .bytes = bytes},
	};

	assert_int_equal(raw_ask(socket, &ranges, sizeof(ranges)), HBM_OK);
}

static uint32_t make_region(int socket)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = 64 * MIB,
		.slab = 2 * MIB};
	struct hbm_wire_region_create_reply reply;

	raw_call(socket, &create, &reply, sizeof(reply));

	return reply.region;
}

static uint64_t free_bytes(int socket)
{
	const struct two_users_records *records = two_users_query(socket, HBM_QUERY_DEVICES);
	const struct hbm_wire_device *device = two_users_record(records, 0);

	return device->ready + device->uncreated;
}

static void test_pressure(void **state)
{
	(void)state;
	int other_ = raw_greet(&daemon_), late = raw_greet(&daemon_), user = raw_greet(&daemon_);
	struct raw_board one, two, three;
	struct hbm_wire_ask ask;
	uint32_t region = make_region(user);
	const uint64_t most = free_bytes(user);

	raw_board_open(session_, 1, &one);
	raw_board_open(other_, 1, &two);

	change(user, HBM_WIRE_COMMIT, region, most - 8 * MIB); /* just enough is left */
	change(user, HBM_WIRE_DECOMMIT, region, most - 8 * MIB);
	while (free_bytes(user) < most)
		poll(NULL, 0, 1);
	assert_int_equal(raw_board_has_heard(session_), false);

	change(user, HBM_WIRE_COMMIT, region, most - 6 * MIB);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.ask, HBM_ASK_PRESSURE);
	assert_int_equal(ask.device, 0);
	assert_int_equal(ask.bytes, 2 * MIB);
	assert_int_equal(ask.sequence, 0);
	raw_board_hear(other_, &ask);

	/* who comes later is told, too; and nobody twice */
	raw_board_open(late, 1, &three);
	raw_board_hear(late, &ask);
	uint32_t another = make_region(user);
	change(user, HBM_WIRE_COMMIT, another, 2 * MIB);
	assert_int_equal(raw_board_ask(user, session_number, 9, HBM_ASK_RESUME, 0), HBM_OK);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.sequence, 9);

	change(user, HBM_WIRE_DECOMMIT, region, most - 6 * MIB);
	while (free_bytes(user) < most - 2 * MIB)
		poll(NULL, 0, 1);
	change(user, HBM_WIRE_COMMIT, region, most - 4 * MIB);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.ask, HBM_ASK_PRESSURE);
	assert_int_equal(ask.bytes, 6 * MIB);

	/* before its end: its process, which is the test's, lives on */
	change(user, HBM_WIRE_DECOMMIT, region, most - 4 * MIB);
	change(user, HBM_WIRE_DECOMMIT, another, 2 * MIB);
	close(user);
	close(late);
	close(other_);
	raw_board_leave(&one);
	raw_board_leave(&two);
	raw_board_leave(&three);
}

/* A reservation makes it short as well; a session without a board is told nothing. */
static void test_pressure_by_reservation(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change change;
	} reserve = {.head = {.header = RAW_HEADER(RESERVE, sizeof(reserve)), .count = 1}};
	int user = raw_greet(&daemon_);
	struct hbm_wire_ask ask;
	struct raw_board board;

	raw_board_open(session_, 1, &board);
	reserve.change.bytes = (int64_t)free_bytes(user) - (int64_t)(4 * MIB);
	assert_int_equal(raw_ask(user, &reserve, sizeof(reserve)), HBM_OK);
	raw_board_hear(session_, &ask);
	assert_int_equal(ask.ask, HBM_ASK_PRESSURE);
	assert_int_equal(ask.bytes, 4 * MIB);
	assert_int_equal(raw_board_has_heard(user), false);
	close(user);
	raw_board_leave(&board);
}

/* ---- Users ---- */

static void test_sequences_of_others(void **state)
{
	(void)state;
	two_users_needed();
	struct raw_board mine, theirs;
	struct hbm_wire_ask ask = {
		.header = RAW_HEADER(ASK, sizeof(ask)), .session = 1, .ask = HBM_ASK_SUSPEND};

	raw_board_open(tenant, 1, &theirs);
	raw_board_open(other, 1, &mine);
	theirs.records[0].number = 11;
	mine.records[0].number = 22;
	assert_int_equal(shown(tenant, 1)->sequence, 11);
	assert_int_equal(shown(other, 1)->sequence, 22);

	int second = two_users_greet(TENANT), operator_ = raw_greet(&daemon_);
	assert_int_equal(shown(second, 1)->sequence, 11);
	shown(operator_, 2);

	raw_refused(other, &ask, HBM_DENIED, "only uid 0 and the daemon's uid ask other sessions");
	raw_refused(second, &ask, HBM_DENIED, "only uid 0 and the daemon's uid ask other sessions");
	assert_int_equal(raw_board_has_heard(tenant), false);
	close(operator_);
	close(second);
	raw_board_leave(&mine);
	raw_board_leave(&theirs);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define PRESSURE(name) cmocka_unit_test_setup_teardown(name, setup_watermark, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_written_is_shown),
		TEST(test_limit),
		TEST(test_hostile_writer),
		TEST(test_killed_writer),
		TEST(test_asking),
		TEST(test_deaf_client),
		PRESSURE(test_pressure),
		PRESSURE(test_pressure_by_reservation),
		cmocka_unit_test_setup_teardown(test_sequences_of_others, two_users_setup,
						two_users_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
