/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One user takes all there is a number of: sessions, connections, namespaces. Another user
 * still gets some, and an operator sees who it is and ends it. What clients make the
 * daemon say in its log is bounded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_job.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ATTACKER 65534 /* attack_job's */
#define ANOTHER 65533
#define SESSIONS 64
#define SERVED 500 /* answers, or connections, before anybody else is looked at */
#define TIMES 5
#define BLOCK 4096u

static const char *const sets[] = {"limits.sessions=48", "limits.namespaces=16",
				   "limits.hello_ms=300", NULL};
static unsigned fds;
static struct attack_job job;

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	return 0;
}

static int teardown(void **state)
{
	stage_finish(fds);
	return stage_teardown(state);
}

static void begin(const char *name, uint64_t served)
{
	if (geteuid() != 0) {
		print_message("SKIP: only root can be several users\n");
		skip();
	}

	attack_start(&job, attack_find(name), &daemon_, SESSIONS, ATTACK_BRIEF);
	attack_await(&job, served);
}

/* A session of another user, who is no operator either. Nothing fails before the process
 * is root's again, for the attack ends with it. */
static void greet_as_another(struct attacker *another)
{
	another->number = 0;

	assert_int_equal(seteuid(ANOTHER), 0);
	int status = attacker_open(another, &daemon_, false);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(status, 0);
}

/* Once more after each, for what it takes may be what the other one has given back. */
static void assert_others_get_in(void)
{
	const char *const sessions[] = {"sessions", NULL};
	const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
	struct attacker another;
	char out[65536];

	for (int i = 0; i < TIMES; i++) {
		greet_as_another(&another);
		assert_int_equal(raw_ask(another.socket, &ping, sizeof(ping)), HBM_OK);
		attacker_close(&another);
		assert_int_equal(spawn_hbmctl(&daemon_, sessions, out, sizeof(out)), 0);
	}

	attack_await(&job, attack_served(&job) + 1);
}

static void test_sessions_that_are_held(void **state)
{
	(void)state;
	begin("hold", SERVED);
	assert_true(attack_counts(&job).refused > 0);
	assert_others_get_in();
	attack_end(&job);
}

static void test_sessions_of_a_process_that_has_closed_them(void **state)
{
	(void)state;
	begin("zombies", SERVED);
	assert_others_get_in();
	attack_end(&job);
}

static void test_connections_that_say_nothing(void **state)
{
	(void)state;
	begin("silent", SERVED);
	assert_others_get_in();
	attack_end(&job);
}

/* It is a line for each connection that fills a log. */
static void test_connections_that_send_a_byte(void **state)
{
	(void)state;
	begin("garbage", 4 * SERVED);
	assert_others_get_in();
	uint64_t connections = attack_served(&job);
	attack_end(&job);
	assert_in_range(spawn_log_lines(&daemon_, "warning"), 0, connections / 4);
}

static void test_namespaces_that_are_left_behind(void **state)
{
	struct attacker another;

	(void)state;
	begin("spaces", SERVED);
	assert_true(attack_counts(&job).refused > 0 || attack_counts(&job).done > 16);

	greet_as_another(&another);
	raw_namespace(another.socket, BLOCK);
	raw_namespace(another.socket, 2 * BLOCK);
	attacker_close(&another);
	attack_await(&job, attack_served(&job) + 1);
	attack_end(&job);
}

/* One that has got in, and not one that is about to be refused. */
static int find_attacker(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_session *session = record;
	uint64_t *id = arg;

	assert_int_equal(bytes, sizeof(*session));
	if (*id == 0 && session->uid == ATTACKER && session->requests > 1)
		*id = session->session;

	return 0;
}

static void test_an_operator_ends_who_holds_sessions(void **state)
{
	struct hbm *hbm;
	uint64_t id = 0;
	char number[24], out[1024];
	const char *const end[] = {"sessions", "end", number, NULL};

	(void)state;
	begin("hold", SERVED);
	hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_SESSIONS, find_attacker, &id), 0);
	hbm_close(hbm);
	assert_int_not_equal(id, 0);

	uint64_t dropped = attack_counts(&job).dropped;
	snprintf(number, sizeof(number), "%" PRIu64, id);
	assert_int_equal(spawn_hbmctl(&daemon_, end, out, sizeof(out)), 0);
	attack_await(&job, attack_served(&job) + 2 * SESSIONS);
	assert_true(attack_counts(&job).dropped > dropped);
	attack_end(&job);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct child_part parts[] = {{"attack", attack_play}, {NULL, NULL}};
	const struct CMUnitTest tests[] = {
		TEST(test_sessions_that_are_held),
		TEST(test_sessions_of_a_process_that_has_closed_them),
		TEST(test_connections_that_say_nothing),
		TEST(test_connections_that_send_a_byte),
		TEST(test_namespaces_that_are_left_behind),
		TEST(test_an_operator_ends_who_holds_sessions),
	};

	child_main(argc, argv, parts);
	alarm(400);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
