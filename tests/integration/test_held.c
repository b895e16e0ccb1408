/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that give memory back and keep it: a descriptor kept, a reply not read, a
 * connection closed. It is counted and charged to them, they are refused before others
 * are, and it comes back when they let go or end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SLAB (2 * MIB)
#define POOL (168 * MIB)
#define ROUND 10 /* slabs of a commit */
#define FDS 200

static const char *const sets[] = {"limits.held=40MiB", NULL};
static unsigned fds;

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

/* ---- What the daemon says ---- */

static struct hbm_wire_device device(struct hbm *hbm)
{
	const struct hbm_wire_device device = device_record(hbm);

	assert_int_equal(device.leased + device.quarantined + device.retiring + device.ready +
				 device.uncreated + device.held,
			 POOL);

	return device;
}

/* As soon as nothing is being released. */
static uint64_t held(struct hbm *hbm)
{
	while (device(hbm).retiring > 0)
		poll(NULL, 0, 1);
	return device(hbm).held;
}

static void wait_until_nothing_is_held(struct hbm *hbm)
{
	for (int i = 0; i < 10000 && device(hbm).held > 0; i++)
		poll(NULL, 0, 1);
	assert_int_equal(device(hbm).held, 0);
}

static int add_raw_session(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_session *session = record;

	assert_int_equal(bytes, sizeof(*session));
	if (strcmp(session->name, "raw") == 0)
		*(struct hbm_wire_session *)arg = *session;
	else
		assert_int_equal(session->held, 0);

	return 0;
}

/* The one session of a raw client. */
static struct hbm_wire_session raw_session(struct hbm *hbm)
{
	struct hbm_wire_session session = {0};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_SESSIONS, add_raw_session, &session), 0);
	return session;
}

static int add_held(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_account *account = record;

	assert_int_equal(bytes, sizeof(*account));
	assert_int_equal(account->balanced, 1);
	assert_int_equal(account->capacity, account->free + account->placed + account->moving +
						    account->quarantined + account->held +
						    account->copies);
	*(uint64_t *)arg += account->held;

	return 0;
}

static uint64_t verified(struct hbm *hbm)
{
	uint64_t bytes = 0;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_VERIFY, add_held, &bytes), 0);
	return bytes;
}

/* ---- A client without the library ---- */

struct keeper {
	int socket;
	uint32_t region;
	int kept[FDS];
	size_t count;
};

static void keeper_open(struct keeper *keeper, const struct spawn *spawn)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = POOL,
		.slab = SLAB,
	};
	struct hbm_wire_region_create_reply reply;

	*keeper = (struct keeper){.socket = raw_greet(spawn)};
	raw_call(keeper->socket, &create, &reply, sizeof(reply));
	keeper->region = reply.region;
}

static void keeper_let_go(struct keeper *keeper)
{
	while (keeper->count > 0)
		assert_int_equal(close(keeper->kept[--keeper->count]), 0);
}

static void keeper_send(struct keeper *keeper, uint16_t opcode)
{
	const struct raw_ranges message = {
		.head = {.header = {.size = sizeof(message), .opcode = opcode, .id = 7},
			 .count = 1},
		.range = {.region = keeper->region, .bytes = ROUND * SLAB},
	};
	assert_true(raw_send(keeper->socket, &message, sizeof(message), 0));
}

static void keeper_keep(struct keeper *keeper, struct msghdr *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg;
	     cmsg = CMSG_NXTHDR(message, cmsg)) {
		size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		assert_in_range(keeper->count + count, 0, FDS);
		memcpy(&keeper->kept[keeper->count], CMSG_DATA(cmsg), count * sizeof(int));
		keeper->count += count;
	}
}

/* Takes a reply and keeps what comes with it: the status, and the reason of a refusal. */
static int keeper_receive(struct keeper *keeper, char *reason)
{
	union {
		char bytes[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	union {
		struct hbm_wire_refusal refusal;
		char bytes[HBM_WIRE_MESSAGE_MAX];
	} reply;
	struct iovec iov = {&reply, sizeof(reply)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	assert_true(recvmsg(keeper->socket, &message, MSG_CMSG_CLOEXEC) > 0);
	keeper_keep(keeper, &message);
	int status = reply.refusal.header.status;
	if (status != HBM_OK && reason)
		memcpy(reason, reply.refusal.reason, HBM_WIRE_REASON_BYTES);

	return status;
}

/* Sends, and waits until the reply is in the socket, where it stays. */
static void keeper_send_and_leave(struct keeper *keeper, struct hbm *hbm, uint16_t opcode)
{
	uint64_t requests = raw_session(hbm).requests;

	keeper_send(keeper, opcode);
	while (raw_session(hbm).requests == requests || raw_session(hbm).in_flight > 0)
		poll(NULL, 0, 1);
}

/* Without its region the session ends as soon as it holds nothing. */
static void keeper_close(struct keeper *keeper, struct hbm *hbm)
{
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)),
		.region = keeper->region,
	};
	assert_true(raw_send(keeper->socket, &destroy, sizeof(destroy), 0));
	while (raw_session(hbm).regions > 0)
		poll(NULL, 0, 1);
	assert_int_equal(close(keeper->socket), 0);
}

/* Commits and decommits once. */
static int keeper_round(struct keeper *keeper, char *reason)
{
	keeper_send(keeper, HBM_WIRE_COMMIT);
	int status = keeper_receive(keeper, reason);
	if (status != HBM_OK)
		return status;

	keeper_send(keeper, HBM_WIRE_DECOMMIT);
	return keeper_receive(keeper, reason);
}

/* Commits so much through the library and gives it back. */
static int neighbour(struct hbm *hbm, uint64_t bytes)
{
	const struct hbm_region_options options = {.address_space = bytes, .slab = SLAB};
	struct hbm_region *region = NULL;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, bytes};
	int r = hbm_commit(hbm, &all, 1);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	return r;
}

/* ---- Tests ---- */

static void test_descriptors_kept(void **state)
{
	(void)state;
	struct hbm *hbm = spawn_connect(&daemon_);
	struct keeper keeper;
	char reason[HBM_WIRE_REASON_BYTES] = "";

	keeper_open(&keeper, &daemon_);
	assert_int_equal(keeper_round(&keeper, reason), HBM_OK);
	assert_int_equal(held(hbm), ROUND * SLAB);
	assert_int_equal(keeper_round(&keeper, reason), HBM_OK);
	assert_int_equal(held(hbm), 2 * ROUND * SLAB);
	assert_int_equal(raw_session(hbm).held, 2 * ROUND * SLAB);
	assert_int_equal(raw_session(hbm).leased, 0);
	assert_int_equal(verified(hbm), 2 * ROUND * SLAB);

	/* It has reached its limit; the others have all the rest. */
	assert_int_equal(keeper_round(&keeper, reason), HBM_LIMIT);
	assert_string_equal(reason, "limits.held = 41943040: the session has 41943040, 1 more were "
				    "asked for");
	assert_int_equal(neighbour(hbm, POOL - 2 * ROUND * SLAB), 0);
	assert_int_equal(neighbour(hbm, POOL), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_error(hbm), "41943040 given back are still held, 0 of them by "
					       "this session"));

	keeper_let_go(&keeper);
	assert_int_equal(keeper_round(&keeper, reason), HBM_OK);
	keeper_let_go(&keeper);
	wait_until_nothing_is_held(hbm);
	assert_int_equal(raw_session(hbm).held, 0);
	assert_int_equal(neighbour(hbm, POOL), 0);
	keeper_close(&keeper, hbm);
	hbm_close(hbm);
}

/* What it does not read, it holds. */
static void test_replies_not_read(void **state)
{
	(void)state;
	struct hbm *hbm = spawn_connect(&daemon_);
	struct keeper keeper;

	keeper_open(&keeper, &daemon_);
	for (int i = 0; i < 8; i++) {
		keeper_send_and_leave(&keeper, hbm, HBM_WIRE_COMMIT);
		keeper_send_and_leave(&keeper, hbm, HBM_WIRE_DECOMMIT);
	}

	assert_int_equal(held(hbm), 2 * ROUND * SLAB);
	assert_int_equal(raw_session(hbm).held, 2 * ROUND * SLAB);
	assert_int_equal(neighbour(hbm, POOL - 2 * ROUND * SLAB), 0);

	keeper_close(&keeper, hbm);
	wait_until_nothing_is_held(hbm);
	assert_int_equal(neighbour(hbm, POOL), 0);
	hbm_close(hbm);
}

/* A closed connection changes nothing while the process lives. */
static void test_a_connection_closed(void **state)
{
	(void)state;
	struct hbm *hbm = spawn_connect(&daemon_);
	struct keeper keeper;

	keeper_open(&keeper, &daemon_);
	assert_int_equal(keeper_round(&keeper, NULL), HBM_OK);
	assert_int_equal(held(hbm), ROUND * SLAB);
	keeper_close(&keeper, hbm);
	while (raw_session(hbm).state == 0)
		poll(NULL, 0, 1);
	assert_int_equal(raw_session(hbm).held, ROUND * SLAB);
	assert_int_equal(verified(hbm), ROUND * SLAB);

	keeper_let_go(&keeper);
	wait_until_nothing_is_held(hbm);
	hbm_close(hbm);
}

static void child_keeps(const struct spawn *spawn, uint64_t number)
{
	struct keeper keeper;
	(void)number;

	keeper_open(&keeper, spawn);
	while (keeper_round(&keeper, NULL) == HBM_OK)
		;
	child_tell();
	pause();
}

static void test_a_process_killed(void **state)
{
	(void)state;
	struct hbm *hbm = spawn_connect(&daemon_);
	struct child child;

	child_start(&child, "keeps", &daemon_, 0);
	child_await(&child);
	assert_int_equal(held(hbm), 2 * ROUND * SLAB);
	child_kill(&child);
	wait_until_nothing_is_held(hbm);
	assert_int_equal(neighbour(hbm, POOL), 0);
	hbm_close(hbm);
}

/* The library unmaps and closes before it gives back. */
static void test_an_honest_client(void **state)
{
	(void)state;
	struct hbm *hbm = spawn_connect(&daemon_);

	for (int i = 0; i < 5; i++) {
		assert_int_equal(neighbour(hbm, POOL), 0);
		assert_int_equal(held(hbm), 0);
	}

	hbm_close(hbm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct child_part parts[] = {{"keeps", child_keeps}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_descriptors_kept),    TEST(test_replies_not_read),
		TEST(test_a_connection_closed), TEST(test_a_process_killed),
		TEST(test_an_honest_client),
	};
	alarm(200); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
