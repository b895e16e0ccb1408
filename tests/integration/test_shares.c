/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one user takes keeps nobody out: sessions, silent connections, descriptors and lines
 * of the log, taken by a user that is no operator while another user and an operator are served.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLAB (2u << 20)
#define ALARM_S 120     /* for a state that never comes */
#define PLACES 20       /* limits.sessions */
#define UNPRIVILEGED 16 /* limits.sessions_unprivileged */
#define OF_ONE 12       /* 75 % of those */
#define SILENT 8        /* limits.silent */
#define SILENT_OF_ONE 4
#define LEFT 16 /* of limits.descriptors_per_user, beside four for each session */
#define OF_ALL (4 * (OF_ONE + 1))
#define DESCRIPTORS "limits.descriptors"
#define GARBAGE 2000
#define FLOOD 300   /* connections that are kept */
#define FEW_FDS 512 /* RLIMIT_NOFILE */

static unsigned fds;
static int sockets[PLACES];

static int setup(void **state)
{
	static const char *const sets[] = {"hbmd.socket_mode=0666",           "limits.sessions=20",
					   "limits.sessions_unprivileged=16", "limits.silent=8",
					   "limits.descriptors_per_user=64",  NULL};

	alarm(ALARM_S);
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	memset(sockets, -1, sizeof(sockets));

	return 0;
}

static void close_all(void)
{
	for (int i = 0; i < PLACES; i++)
		if (sockets[i] >= 0)
			close(sockets[i]);
	memset(sockets, -1, sizeof(sockets));
}

static int teardown(void **state)
{
	close_all();
	stage_finish(fds);
	alarm(0);
	return stage_teardown(state);
}

/* Lines are written a little later. */
static void wait_for_line(const char *text)
{
	while (!spawn_logged(&daemon_, text))
		;
}

static void assert_operators_get_in(void)
{
	hbmctl_expect("sessions", 0);
	hbmctl_expect("verify", 0);
}

static void assert_others_get_in(void)
{
	int socket = -1;
	assert_int_equal(guest_greet(&daemon_, OTHER_GUEST, &socket), HBM_OK);
	close(socket);
}

static void test_sessions(void **state)
{
	(void)state;
	int more = -1;

	guest_admit(&daemon_);
	for (int i = 0; i < OF_ONE; i++)
		assert_int_equal(guest_greet(&daemon_, GUEST, &sockets[i]), HBM_OK);
	assert_int_equal(guest_greet(&daemon_, GUEST, &more), HBM_LIMIT);
	assert_others_get_in();
	assert_operators_get_in();

	/* Several users together leave the places of operators. */
	for (int i = OF_ONE; i < UNPRIVILEGED; i++)
		while (guest_greet(&daemon_, OTHER_GUEST, &sockets[i]) != HBM_OK)
			; /* the one before has not been seen to leave yet */
	assert_int_equal(guest_greet(&daemon_, OTHER_GUEST, &more), HBM_LIMIT);
	assert_operators_get_in();
	assert_int_equal(hbmctl_limit_used("limits.sessions_unprivileged"), UNPRIVILEGED);
}

/* The first session of that user in the list of an operator. */
static uint64_t session_of(uid_t uid)
{
	json_t *document = hbmctl_json("--json sessions");
	const json_t *sessions = hbmctl_array(document, "sessions");
	uint64_t found = 0;

	for (size_t i = json_array_size(sessions); i-- > 0;)
		if (hbmctl_count(json_array_get(sessions, i), "uid") == uid)
			found = hbmctl_count(json_array_get(sessions, i), "session");

	assert_int_not_equal(found, 0);
	json_decref(document);

	return found;
}

static void test_an_operator_ends_a_session(void **state)
{
	(void)state;
	struct hbm_wire_session_ref ref = {.header = RAW_HEADER(SESSION_END, sizeof(ref))};
	struct hbm_wire_header header;
	char line[64];

	guest_admit(&daemon_);
	assert_int_equal(guest_greet(&daemon_, GUEST, &sockets[0]), HBM_OK);
	assert_int_equal(guest_greet(&daemon_, OTHER_GUEST, &sockets[1]), HBM_OK);
	ref.session = session_of(GUEST);
	raw_refused(sockets[1], &ref, HBM_DENIED,
		    "only uid 0 and the daemon's uid end other sessions");

	snprintf(line, sizeof(line), "--json sessions end %u", (unsigned)ref.session);
	json_t *ended = hbmctl_json(line);
	assert_int_equal(json_array_size(hbmctl_array(ended, "ended")), 1);
	json_decref(ended);
	assert_false(raw_receive(sockets[0], &header));
	wait_for_line("an operator has ended it");
	while (hbmctl_limit_used("limits.sessions_unprivileged") > 1)
		;
	hbmctl_expect_refusal("sessions end 99999", 1, "no session 99999");
	hbmctl_expect("sessions end", 2);
	hbmctl_expect("sessions stop 1", 2);
}

/* Of a session with device memory there is no more to end than its process. */
static void test_a_session_that_waits_for_its_process(void **state)
{
	(void)state;
	char line[64];

	guest_admit(&daemon_);
	assert_int_equal(guest_greet(&daemon_, GUEST, &sockets[0]), HBM_OK);
	raw_region(sockets[0], 0, SLAB, SLAB);
	snprintf(line, sizeof(line), "sessions end %u", (unsigned)session_of(GUEST));
	hbmctl_expect(line, 0);
	hbmctl_expect_refusal(line, 1, "when process");
	assert_int_equal(hbmctl_limit_used("limits.sessions_unprivileged"), 1);
	spawn_stop(&daemon_);
	spawn_start(&daemon_, NULL, NULL);
}

/* A region without memory: its number. */
static uint32_t reserve(int socket, uint64_t slabs)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = slabs * SLAB,
		.slab = SLAB,
	};
	struct hbm_wire_region_create_reply reply;

	raw_call(socket, &create, &reply, sizeof(reply));

	return reply.region;
}

/* A COMMIT needs a descriptor for each slab, until its reply has been sent. */
static void test_descriptors_of_commits(void **state)
{
	(void)state;
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range.bytes = (uint64_t)SLAB * (LEFT + 1),
	};

	guest_admit(&daemon_);
	for (int i = 0; i < OF_ONE; i++)
		assert_int_equal(guest_greet(&daemon_, GUEST, &sockets[i]), HBM_OK);
	assert_int_equal(guest_greet(&daemon_, OTHER_GUEST, &sockets[OF_ONE]), HBM_OK);

	commit.range.region = reserve(sockets[0], LEFT + 1);
	raw_refused(sockets[0], &commit, HBM_LIMIT,
		    "limits.descriptors_per_user = 64: the user has 48, 17 more were asked for");
	assert_int_equal(hbmctl_limit_used(DESCRIPTORS), OF_ALL);

	/* Nothing has changed: another user has its own share, this one the rest of its own. */
	uint32_t region = commit.range.region;
	commit.range.region = reserve(sockets[OF_ONE], LEFT + 1);
	assert_int_equal(raw_ask(sockets[OF_ONE], &commit, sizeof(commit)), HBM_OK);
	commit.range.region = region;
	commit.range.bytes -= SLAB;
	assert_int_equal(raw_ask(sockets[0], &commit, sizeof(commit)), HBM_OK);
	assert_int_equal(hbmctl_limit_used(DESCRIPTORS), OF_ALL);
	hbmctl_expect("verify", 0);

	/* Its slabs come back with the process that has them, which is this one. */
	spawn_stop(&daemon_);
	spawn_start(&daemon_, NULL, NULL);
}

/* Sessions without device memory end with their socket, though the process lives. */
static void test_sessions_that_left_a_region(void **state)
{
	(void)state;
	guest_admit(&daemon_);
	for (int i = 0; i < 3 * PLACES; i++) {
		int socket = -1;

		while (guest_greet(&daemon_, GUEST, &socket) != HBM_OK)
			; /* those before are on their way */
		(void)reserve(socket, 1);
		close(socket);
	}

	spawn_settle(&daemon_);
	while (hbmctl_limit_used("limits.sessions_unprivileged") > 0)
		;
	assert_int_equal(hbmctl_limit_used("limits.regions"), 0);
	assert_operators_get_in();
}

static void test_silent_connections(void **state)
{
	(void)state;
	int many[16 * SILENT], waits;
	struct hbm_wire_hello hello;

	guest_admit(&daemon_);
	waits = guest_connect(&daemon_, OTHER_GUEST);
	for (size_t i = 0; i < 16 * SILENT; i++) {
		many[i] = guest_connect(&daemon_, GUEST);
		if (i % SILENT == 0)
			assert_others_get_in();
	}

	assert_operators_get_in();
	assert_int_equal(hbmctl_limit_used("limits.silent"), 1 + SILENT_OF_ONE);

	/* That one is not of the user that has too many. */
	raw_hello_fill(&hello);
	assert_int_equal(raw_ask(waits, &hello, sizeof(hello)), HBM_OK);
	close(waits);
	for (size_t i = 0; i < 16 * SILENT; i++)
		close(many[i]);
}

/* Users that have no more than their share each: the one with the most loses its oldest. */
static void test_silent_connections_of_all(void **state)
{
	(void)state;
	static const uid_t uids[SILENT] = {GUEST,           OTHER_GUEST,     OTHER_GUEST,
					   OTHER_GUEST,     OTHER_GUEST - 1, OTHER_GUEST - 1,
					   OTHER_GUEST - 1, OTHER_GUEST - 1};
	struct hbm_wire_header header;
	struct hbm_wire_hello hello;

	guest_admit(&daemon_);
	raw_hello_fill(&hello);
	for (int i = 0; i < SILENT; i++)
		sockets[i] = guest_connect(&daemon_, uids[i]);
	sockets[SILENT] = guest_connect(&daemon_, OTHER_GUEST - 2);

	assert_false(raw_receive(sockets[4], &header));
	for (int i = 0; i < SILENT + 1; i++)
		if (i != 4)
			assert_int_equal(raw_ask(sockets[i], &hello, sizeof(hello)), HBM_OK);
	assert_operators_get_in();
}

/* While another user connects as fast as it can. */
static void test_floods(void **state)
{
	(void)state;
	guest_admit(&daemon_);
	for (int greets = 0; greets < 2; greets++) {
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			guest_flood(&daemon_, GUEST, FLOOD, greets);

		for (int i = 0; i < 8; i++) {
			assert_operators_get_in();
			assert_others_get_in();
		}

		assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, NULL, 0), child);
	}
}

/* As many sessions as the daemon has descriptors for, and no more; operators get in. The
 * last one: a limit cannot be raised again. */
static void test_few_descriptors(void **state)
{
	(void)state;
	static const char *const sets[] = {"hbmd.socket_mode=0666", NULL};
	int many[FEW_FDS], count = 0, status;

	guest_admit(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW_FDS, FEW_FDS}), 0);
	spawn_start(&daemon_, sets, NULL);
	wait_for_line("sessions of clients fit");
	fds = spawn_fds(&daemon_);

	while ((status = guest_greet(&daemon_, GUEST, &many[count])) == HBM_OK)
		assert_true(++count < FEW_FDS / 4);
	assert_int_equal(status, HBM_LIMIT);
	assert_in_range(count, 1, FEW_FDS / 4);
	assert_others_get_in();
	assert_operators_get_in();
	while (count-- > 0)
		close(many[count]);
}

static void test_lines_of_the_log(void **state)
{
	(void)state;
	guest_admit(&daemon_);
	for (int i = 0; i < GARBAGE; i++) {
		int socket = guest_connect(&daemon_, GUEST);
		assert_int_equal(raw_ask(socket, "x", 1), RAW_DROPPED);
		close(socket);
	}

	int socket = guest_connect(&daemon_, OTHER_GUEST);
	assert_int_equal(raw_ask(socket, "x", 1), RAW_DROPPED);
	close(socket);
	wait_for_line("uid 65533): dropped");
	assert_in_range(spawn_log_lines(&daemon_, "uid 65534): dropped"), 1, GARBAGE / 4);
	assert_int_equal(spawn_log_lines(&daemon_, "uid 65533): dropped"), 1);
	assert_operators_get_in();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sessions),
		TEST(test_an_operator_ends_a_session),
		TEST(test_a_session_that_waits_for_its_process),
		TEST(test_descriptors_of_commits),
		TEST(test_sessions_that_left_a_region),
		TEST(test_silent_connections),
		TEST(test_silent_connections_of_all),
		TEST(test_floods),
		TEST(test_lines_of_the_log),
		TEST(test_few_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
