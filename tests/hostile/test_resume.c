/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts on sessions that are away: with guessed numbers and tokens, with the right token from
 * another process or another user, with that of a process that has ended, twice, two at once; and
 * clients that say absurd things of what they have. All are refused alike and counted, and the
 * client that may go on does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLAB (2ull << 20)
enum { OTHER_USER = 65534 };

static const char *const sets[] = {"nvme.path=", "nvme.size=0", "hbmd.socket_mode=0666", NULL};
static struct seed seed;
static char card[128];

/* The device is one card for all daemons. */
static void start(void)
{
	static char word[160];
	static const char *const env[] = {word, NULL};

	snprintf(card, sizeof(card), "%s.card", daemon_.dir);
	assert_int_equal(mkdir(card, 0755), 0);
	snprintf(word, sizeof(word), "HBM_SOFT=card=%s", card);
	keeper_start(&daemon_, sets, env);
}

static struct hbm_wire_hello_resume hello(void)
{
	struct hbm_wire_hello_resume resume;

	memset(&resume, 0, sizeof(resume));
	raw_hello_fill(&resume.hello);
	resume.hello.header.size = sizeof(resume);

	return resume;
}

/* A session that means to go on, and what its client says to do so. */
static int begin(struct hbm_wire_hello_resume *resume)
{
	struct hbm_wire_hello_resume_reply reply;
	int socket = raw_connect(&daemon_);

	*resume = hello();
	raw_call(socket, resume, &reply, sizeof(reply));
	assert_int_equal(reply.survives, 1);
	resume->session = reply.hello.session;
	memcpy(resume->state, reply.state, sizeof(resume->state));
	memcpy(resume->token, reply.token, sizeof(resume->token));

	return socket;
}

/* What a new connection is told. */
static int attempt(const struct hbm_wire_hello_resume *resume)
{
	int socket = raw_connect(&daemon_);
	int status = raw_ask(socket, resume, sizeof(*resume));
	close(socket);
	return status;
}

/* The same from another process, as that user. */
static int attempt_elsewhere(const struct hbm_wire_hello_resume *resume, uid_t uid)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (uid != getuid() && setuid(uid) < 0)
			_exit(99);
		_exit(attempt(resume) & 0xff);
	}

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));

	return WEXITSTATUS(status);
}

static uint64_t refused(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status.resumes_refused;
}

static void finish(void)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(rmdir(card), 0); /* nothing is left of it */
}

static void test_only_its_client_goes_on_and_once(void **state)
{
	(void)state;
	struct hbm_wire_hello_resume right, wrong;

	start();
	int socket = begin(&right);

	/* Not while the daemon is the same. */
	assert_int_equal(attempt(&right), HBM_NOT_FOUND);
	keeper_kill(&daemon_);
	close(socket);

	/* Guesses. */
	uint64_t guesses = 0;
	for (; guesses < 200; guesses++) {
		wrong = right;
		if (guesses % 2 == 0)
			wrong.session = 1 + seed_below(&seed, 2 * right.session);
		wrong.token[seed_below(&seed, sizeof(wrong.token))] ^=
			(uint8_t)(1 + seed_below(&seed, 255));
		if (guesses % 5 == 0)
			memset(wrong.token, 0, sizeof(wrong.token));
		assert_int_equal(attempt(&wrong), HBM_NOT_FOUND);
	}

	/* The state of another machine, or of another time. */
	wrong = right;
	wrong.state[3]++;
	assert_int_equal(attempt(&wrong), HBM_NOT_FOUND);

	/* All of it right, from elsewhere. */
	assert_int_equal(attempt_elsewhere(&right, getuid()), HBM_NOT_FOUND);
	assert_int_equal(refused(), guesses + 2);

	/* Two at once: one has it. */
	int sockets[2] = {raw_connect(&daemon_), raw_connect(&daemon_)}, live = 0;
	for (int i = 0; i < 2; i++)
		assert_true(raw_send(sockets[i], &right, sizeof(right), 0));
	for (int i = 0; i < 2; i++) {
		struct hbm_wire_header header;
		assert_true(raw_receive(sockets[i], &header));
		assert_true(header.status == HBM_OK || header.status == HBM_NOT_FOUND);
		live += header.status == HBM_OK;
	}
	assert_int_equal(live, 1);

	/* And again. */
	assert_int_equal(attempt(&right), HBM_NOT_FOUND);
	close(sockets[0]);
	close(sockets[1]);

	/* It has ended with its connection. */
	assert_int_equal(attempt(&right), HBM_NOT_FOUND);
	finish();
}

static void test_another_user_does_not_go_on(void **state)
{
	(void)state;
	struct hbm_wire_hello_resume right;

	if (getuid() != 0)
		skip();
	start();
	int told[2], go[2], status;
	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	assert_int_equal(pipe(told), 0);
	assert_int_equal(pipe(go), 0);

	/* A process that becomes another user's in between. */
	pid_t pid = fork();
	if (pid == 0) {
		char byte;
		int socket = begin(&right);
		if (write(told[1], &socket, 1) != 1 || read(go[0], &byte, 1) != 1 ||
		    setuid(OTHER_USER) < 0)
			_exit(99);
		_exit(attempt(&right) & 0xff);
	}

	char byte;
	assert_int_equal(read(told[0], &byte, 1), 1);
	keeper_kill(&daemon_);
	assert_int_equal(write(go[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), HBM_NOT_FOUND);
	for (int i = 0; i < 2; i++) {
		close(told[i]);
		close(go[i]);
	}
	finish();
}

/* The client ends while there is no daemon, or while its session is away: nobody has its token. */
static void test_the_token_of_a_dead_process_is_stale(void **state)
{
	(void)state;
	struct hbm_wire_hello_resume right;
	int told[2];

	start();
	for (unsigned before = 0; before < 2; before++) {
		assert_int_equal(pipe(told), 0);
		pid_t pid = fork();
		if (pid == 0) {
			int socket = begin(&right);
			(void)raw_region(socket, 0, 8 * SLAB, SLAB);
			_exit(write(told[1], &right, sizeof(right)) == sizeof(right) ? pause()
										     : 99);
		}

		assert_int_equal(read(told[0], &right, sizeof(right)), sizeof(right));
		pid_t daemon = keeper_daemon(&daemon_);
		if (before) {
			keeper_kill_now(&daemon_);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			keeper_await_next(&daemon_, daemon);
		} else {
			keeper_kill(&daemon_);
			assert_int_equal(attempt(&right), HBM_NOT_FOUND);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}

		assert_int_equal(attempt(&right), HBM_NOT_FOUND);
		spawn_settle(&daemon_); /* its memory is free */
		close(told[0]);
		close(told[1]);
	}
	finish();
}

static struct raw_ranges tell(uint32_t region, uint64_t offset, uint64_t bytes)
{
	return (struct raw_ranges){
		.head = {.header = RAW_HEADER(RECONCILE, sizeof(struct raw_ranges)), .count = 1},
		.range = {.region = region, .offset = offset, .bytes = bytes}};
}

static void test_absurd_ranges_are_refused(void **state)
{
	(void)state;
	struct hbm_wire_hello_resume right;

	start();
	int socket = begin(&right);
	uint32_t region = raw_region(socket, 0, 8 * SLAB, SLAB);

	/* Of a session that did not come from another daemon nothing is to be told. */
	struct raw_ranges message = tell(region, 0, SLAB);
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_INVALID);

	keeper_kill(&daemon_);
	close(socket);
	socket = raw_connect(&daemon_);
	assert_int_equal(raw_ask(socket, &right, sizeof(right)), HBM_OK);

	const struct {
		uint32_t region;
		uint64_t offset, bytes;
		int status;
	} absurd[] = {
		{region + 1, 0, 0, HBM_NOT_FOUND},
		{HBM_WIRE_RESERVED - 1, 0, SLAB, HBM_NOT_FOUND},
		{HBM_WIRE_RESERVED, HBM_WIRE_DEVICES_MAX, SLAB, HBM_INVALID},
		{HBM_WIRE_RESERVED, UINT64_MAX, SLAB, HBM_INVALID},
		{HBM_WIRE_RESERVED, 0, UINT64_MAX, HBM_INVALID},
		{region, SLAB, SLAB, HBM_NOT_FOUND},
		{region, 0, 8 * SLAB, HBM_NOT_FOUND},
		{region, 1, SLAB, HBM_INVALID},
		{region, 0, SLAB - 1, HBM_INVALID},
		{region, 8 * SLAB, SLAB, HBM_INVALID},
		{region, UINT64_MAX - SLAB + 1, 2 * SLAB, HBM_INVALID},
		{region, 0, UINT64_MAX - SLAB + 1, HBM_INVALID},
	};
	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
		message = tell(absurd[i].region, absurd[i].offset, absurd[i].bytes);
		assert_int_equal(raw_ask(socket, &message, sizeof(message)), absurd[i].status);
	}

	/* What it has it may say, and end it once. */
	message = tell(region, 0, SLAB);
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
	message = tell(0, 0, 0);
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_INVALID);
	message.head.header.opcode = HBM_WIRE_DECOMMIT;
	message.range = (struct hbm_wire_range){region, 0, 0, SLAB};
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
	close(socket);
	finish();
}

int main(void)
{
	seed_open(&seed, "resume");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_only_its_client_goes_on_and_once),
		TEST(test_another_user_does_not_go_on),
		TEST(test_the_token_of_a_dead_process_is_stale),
		TEST(test_absurd_ranges_are_refused),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
