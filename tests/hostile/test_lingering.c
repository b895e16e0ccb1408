/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that send descriptors whose close() waits, for an hour if nobody ends that: with
 * messages that may have one and with others, more than one, and in messages that the daemon
 * never reads. It serves others meanwhile, and gets rid of them all in the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/fdpass.h"
#include "tests/support/lingering.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#define MANY 20 /* more than may hang */

static unsigned fds;
static int peers[2 * MANY + 8];
static size_t peer_count;

static const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
static const struct hbm_wire_region_import import = {
	.header = RAW_HEADER(REGION_IMPORT, sizeof(import)),
	.kind = HBM_WIRE_GUEST_FD,
	.bytes = 2 << 20,
};

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	peer_count = 0;

	return 0;
}

static void serves_others(void)
{
	int socket = raw_greet(&daemon_);

	assert_int_equal(raw_ask(socket, &ping, sizeof(ping)), HBM_OK);
	close(socket);
}

/* Sends the message with so many of them, and keeps none. */
static void send_with(int socket, const void *message, size_t size, size_t count)
{
	const struct iovec iov = {(void *)(uintptr_t)message, size};
	int sent[2];

	assert_in_range(count, 1, 2);
	for (size_t i = 0; i < count; i++) {
		struct lingering made = lingering_make();

		sent[i] = made.fd;
		peers[peer_count++] = made.peer;
	}

	assert_int_equal(fdpass_send(socket, &iov, 1, sent, count), 0);
	for (size_t i = 0; i < count; i++)
		close(sent[i]);
}

/* The daemon reads nothing before the descriptors are in the messages alone. */
static void hold_daemon(void)
{
	assert_int_equal(kill(daemon_.pid, SIGSTOP), 0);
}

static void let_daemon_go(void)
{
	assert_int_equal(kill(daemon_.pid, SIGCONT), 0);
}

/* The peers end all waits. */
static int teardown(void **state)
{
	serves_others();
	while (peer_count > 0)
		close(peers[--peer_count]);
	stage_finish(fds);

	return stage_teardown(state);
}

/* A session that sends the message so, and its end. */
static void send_alone(const void *message, size_t size, size_t count)
{
	int socket = raw_greet(&daemon_);

	hold_daemon();
	send_with(socket, message, size, count);
	let_daemon_go();
	serves_others();
	close(socket);
}

static void test_with_messages_that_have_none(void **state)
{
	(void)state;
	send_alone(&ping, sizeof(ping), 1);
	send_alone(&ping, sizeof(ping), 2);
}

static void test_more_than_one(void **state)
{
	(void)state;
	send_alone(&import, sizeof(import), 2);
}

static void test_more_than_may_hang(void **state)
{
	(void)state;
	for (int i = 0; i < MANY; i++)
		send_alone(&import, sizeof(import), 1);
}

/* A session ends with a message that cannot be read; the next one is never looked at. */
static void test_in_messages_that_are_not_read(void **state)
{
	(void)state;
	int socket = raw_greet(&daemon_);
	const char nonsense = 0;

	hold_daemon();
	assert_true(raw_send(socket, &nonsense, sizeof(nonsense), 0));
	send_with(socket, &import, sizeof(import), 1);
	let_daemon_go();
	serves_others();
	close(socket);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_with_messages_that_have_none),
		TEST(test_more_than_one),
		TEST(test_more_than_may_hang),
		TEST(test_in_messages_that_are_not_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
