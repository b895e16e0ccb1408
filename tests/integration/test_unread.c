/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that one user leaves unread in its sockets keep nobody else from getting any:
 * those of its sessions together are bounded, and sessions that have ended count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <unistd.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#define ALARM_S 120  /* for a state that never comes */
#define SHARE 253    /* limits.unread_descriptors_per_user */
#define TOTAL 600    /* limits.unread_descriptors_total */
#define OF_HELLO 2   /* descriptors in the reply */
#define SESSIONS 126 /* whose replies fit in the share */
#define BOTH "limits.unread_descriptors_total"
#define OF_SESSIONS "limits.sessions_unprivileged"

static unsigned fds;
static int sockets[SESSIONS];

static int setup(void **state)
{
	static const char *const sets[] = {"hbmd.socket_mode=0666",
					   "limits.unread_descriptors_per_user=253",
					   "limits.unread_descriptors_total=600",
					   "limits.silent=128",
					   "limits.silent_per_user=128",
					   NULL};

	alarm(ALARM_S);
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);

	return 0;
}

static int teardown(void **state)
{
	stage_finish(fds);
	alarm(0);
	return stage_teardown(state);
}

/* A session of that user whose reply to HELLO is not read. */
static int greet_deaf(uid_t uid)
{
	struct hbm_wire_hello hello;
	int socket = guest_connect(&daemon_, uid);

	raw_hello_fill(&hello);
	assert_true(raw_send(socket, &hello, sizeof(hello), 0));

	return socket;
}

static void fill_the_share(void)
{
	guest_admit(&daemon_);
	for (unsigned i = 0; i < SESSIONS; i++)
		sockets[i] = greet_deaf(GUEST);
	while (hbmctl_limit_used(BOTH) < SESSIONS * OF_HELLO)
		;
}

static void close_all(void)
{
	for (unsigned i = 0; i < SESSIONS; i++)
		close(sockets[i]);
}

static bool has_reply(int socket)
{
	return poll(&(struct pollfd){.fd = socket, .events = POLLIN}, 1, 0) > 0;
}

static void assert_others_get_in(void)
{
	int socket = -1;

	assert_int_equal(guest_greet(&daemon_, OTHER_GUEST, &socket), HBM_OK);
	close(socket);
	hbmctl_expect("sessions", 0);
}

static void test_a_share_of_a_user(void **state)
{
	(void)state;
	struct hbm_wire_header reply;

	fill_the_share();
	int waits = greet_deaf(GUEST);
	while (hbmctl_limit_used(OF_SESSIONS) < SESSIONS + 1)
		;
	assert_others_get_in();
	assert_false(has_reply(waits));
	assert_int_equal(hbmctl_limit_used(BOTH), SESSIONS * OF_HELLO);

	assert_true(raw_receive(sockets[0], &reply));
	assert_true(raw_receive(waits, &reply));
	assert_int_equal(reply.status, HBM_OK);
	hbmctl_expect("verify", 0);
	close(waits);
	close_all();
	while (hbmctl_limit_used(OF_SESSIONS) > 0)
		;
	assert_int_equal(hbmctl_limit_used(BOTH), 0);
}

/* What has been sent stays in the sockets when the daemon hangs up. */
static void test_sessions_that_have_ended(void **state)
{
	(void)state;
	fill_the_share();
	for (unsigned i = 0; i < SESSIONS; i++)
		assert_true(raw_send(sockets[i], "x", 1, 0));
	while (spawn_log_lines(&daemon_, "dropped") == 0)
		;

	int waits = greet_deaf(GUEST);
	while (hbmctl_limit_used(OF_SESSIONS) < SESSIONS + 1)
		;
	assert_others_get_in();
	assert_false(has_reply(waits));
	assert_int_equal(hbmctl_limit_used(BOTH), SESSIONS * OF_HELLO);

	close_all();
	while (!has_reply(waits))
		;
	close(waits);
	while (hbmctl_limit_used(OF_SESSIONS) > 0)
		;
}

/* Two users together leave what operators need. */
static void test_the_share_of_all(void **state)
{
	(void)state;
	int more[SESSIONS], last[SESSIONS];
	const unsigned left = (TOTAL - 2 * SESSIONS * OF_HELLO) / OF_HELLO;

	fill_the_share();
	for (unsigned i = 0; i < SESSIONS; i++)
		more[i] = greet_deaf(OTHER_GUEST);
	for (unsigned i = 0; i < left; i++)
		last[i] = greet_deaf(OTHER_GUEST - 1);
	while (hbmctl_limit_used(BOTH) < TOTAL)
		;

	int waits = greet_deaf(OTHER_GUEST - 1);
	while (hbmctl_limit_used(OF_SESSIONS) < 2 * SESSIONS + left + 1)
		;
	assert_false(has_reply(waits));
	hbmctl_expect("sessions", 0);
	hbmctl_expect("verify", 0);

	close_all();
	while (!has_reply(waits))
		;
	close(waits);
	for (unsigned i = 0; i < SESSIONS; i++)
		close(more[i]);
	for (unsigned i = 0; i < left; i++)
		close(last[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_share_of_a_user),
		TEST(test_sessions_that_have_ended),
		TEST(test_the_share_of_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
