/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces that no session has open give way when their number runs out, the coldest
 * first, and those of the user that asks before those of others. Each has one block, so
 * that it would stay otherwise.
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

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLAB (2u << 20)
#define ALARM_S 120 /* for a state that never comes */
#define BLOCK 4096u
#define MOST 8   /* limits.namespaces */
#define OF_ONE 6 /* 75 % of them */
#define FLIGHT 32

static unsigned fds;

static int setup(void **state)
{
	static const char *const sets[] = {"hbmd.socket_mode=0666", "limits.namespaces=8", NULL};

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

/* A client with a region that has memory, in which there are the bytes of a block. */
struct client {
	int socket;
	uint32_t region;
};

static struct client client_of(int socket)
{
	return (struct client){socket, raw_region(socket, 0, SLAB, SLAB)};
}

/* Its memory would be in use as long as this process. */
static void client_close(struct client client)
{
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = client.region};

	assert_int_equal(raw_ask(client.socket, &destroy, sizeof(destroy)), HBM_OK);
	close(client.socket);
}

static struct client client_open(void)
{
	return client_of(raw_greet(&daemon_));
}

static struct client client_of_user(uid_t uid)
{
	int socket = -1;

	assert_int_equal(guest_greet(&daemon_, uid, &socket), HBM_OK);
	return client_of(socket);
}

static struct hbm_wire_namespace_open space(uint64_t weights)
{
	return (struct hbm_wire_namespace_open){
		.header = {.size = sizeof(struct hbm_wire_namespace_open),
			   .opcode = HBM_WIRE_NAMESPACE_OPEN,
			   .id = weights},
		.spec = {.model = "m", .layout = "l", .weights = weights, .block_bytes = BLOCK},
	};
}

static uint32_t space_open(struct client client, uint64_t weights)
{
	const struct hbm_wire_namespace_open open = space(weights);
	struct hbm_wire_namespace_reply reply;

	raw_call(client.socket, &open, &reply, sizeof(reply));

	return reply.ns;
}

static void space_close(struct client client, uint32_t ns)
{
	const struct hbm_wire_namespace_ref ref = {
		.header = RAW_HEADER(NAMESPACE_CLOSE, sizeof(ref)), .ns = ns};
	assert_int_equal(raw_ask(client.socket, &ref, sizeof(ref)), HBM_OK);
}

static void space_store(struct client client, uint32_t ns)
{
	const struct raw_blocks store = raw_store(ns, 1, client.region, BLOCK);
	assert_int_equal(raw_ask(client.socket, &store, sizeof(store)), HBM_OK);
}

static void space_pin(struct client client, uint32_t ns, unsigned opcode)
{
	const struct raw_keys pin = {
		.head = {.header = {.size = sizeof(pin), .opcode = (uint16_t)opcode, .id = 1},
			 .ns = ns,
			 .count = 1,
			 .flags = HBM_WIRE_KEEP},
		.key = {{1}},
	};
	assert_int_equal(raw_ask(client.socket, &pin, sizeof(pin)), HBM_OK);
}

/* Opens it, stores its block and closes it. */
static void space_use(struct client client, uint64_t weights)
{
	uint32_t ns = space_open(client, weights);

	space_store(client, ns);
	space_close(client, ns);
}

/* Whether there is a namespace of those weights, as an operator sees it. */
static bool space_is_there(uint64_t weights)
{
	json_t *document = hbmctl_json("--json namespaces");
	const json_t *spaces = hbmctl_array(document, "namespaces");
	bool found = false;
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)weights);
	for (size_t i = 0; i < json_array_size(spaces); i++)
		found |= strcmp(hbmctl_text(json_array_get(spaces, i), "weights"), text) == 0;

	json_decref(document);

	return found;
}

static void test_the_coldest_gives_way(void **state)
{
	(void)state;
	struct client client = client_open();

	for (uint64_t i = 1; i <= MOST; i++)
		space_use(client, i);
	space_close(client, space_open(client, 1)); /* used once more */
	for (uint64_t i = MOST + 1; i <= MOST + 3; i++)
		space_use(client, i);

	for (uint64_t i = 1; i <= MOST + 3; i++)
		assert_int_equal(space_is_there(i), i == 1 || i > 4);
	for (uint64_t i = 100; i < 100 + 5 * MOST; i++)
		space_use(client, i);
	client_close(client);
}

static void test_those_that_stay(void **state)
{
	(void)state;
	struct client client = client_open();
	const struct hbm_wire_namespace_open more = space(100);
	uint32_t spaces[MOST + 1];

	for (uint64_t i = 1; i <= MOST; i++) {
		spaces[i] = space_open(client, i);
		space_store(client, spaces[i]);
	}
	raw_refused(client.socket, &more, HBM_LIMIT,
		    "limits.namespaces = 8: all sessions together have 8, 1 more were asked for");

	space_pin(client, spaces[1], HBM_WIRE_PIN);
	space_close(client, spaces[1]);
	raw_refused(client.socket, &more, HBM_LIMIT,
		    "limits.namespaces = 8: all sessions together have 8, 1 more were asked for");

	space_close(client, spaces[2]);
	assert_int_equal(space_open(client, 100), spaces[2]);
	space_close(client, spaces[2]);

	assert_int_equal(space_open(client, 1), spaces[1]);
	space_pin(client, spaces[1], HBM_WIRE_UNPIN);
	client_close(client);
}

/* A user that has its share gives way with its own; others keep what they have. */
static void test_users(void **state)
{
	(void)state;
	guest_admit(&daemon_);
	struct client guest = client_of_user(GUEST), other = client_of_user(OTHER_GUEST);

	space_use(other, 1);
	space_use(other, 2);
	for (uint64_t i = 100; i < 100 + 5 * MOST; i++)
		space_use(guest, i);
	assert_true(space_is_there(1));
	assert_true(space_is_there(2));

	/* That other gets what the first has above an equal part. */
	space_use(other, 3);
	space_use(other, 4);
	for (uint64_t i = 1; i <= 4; i++)
		assert_true(space_is_there(i));
	client_close(guest);
	client_close(other);
}

static void test_a_user_whose_own_are_open(void **state)
{
	(void)state;
	guest_admit(&daemon_);
	struct client guest = client_of_user(GUEST), other = client_of_user(OTHER_GUEST);
	const struct hbm_wire_namespace_open more = space(100);

	for (uint64_t i = 1; i <= OF_ONE; i++)
		space_open(guest, i);
	space_use(other, 50);
	raw_refused(guest.socket, &more, HBM_LIMIT,
		    "limits.namespaces_per_user = 6: the user has 6, 1 more were asked for");
	assert_true(space_is_there(50));
	space_use(other, 51);
	space_use(other, 52);
	client_close(guest);
	client_close(other);
}

/* Many at once, of one user: each is answered, also where the session is gone. */
static void test_many_that_wait(void **state)
{
	(void)state;
	struct client client = client_open(), leaves = {.socket = raw_greet(&daemon_)};

	for (uint64_t i = 1; i <= MOST; i++)
		space_use(client, i);
	for (uint64_t i = 0; i < FLIGHT; i++) {
		const struct hbm_wire_namespace_open mine = space(100 + i), other = space(200 + i);
		assert_true(raw_send(client.socket, &mine, sizeof(mine), 0));
		assert_true(raw_send(leaves.socket, &other, sizeof(other), 0));
	}
	close(leaves.socket);

	unsigned opened = 0;
	for (uint64_t i = 0; i < FLIGHT; i++) {
		struct hbm_wire_header reply;
		assert_true(raw_receive(client.socket, &reply));
		assert_true(reply.status == HBM_OK || reply.status == HBM_LIMIT);
		opened += reply.status == HBM_OK;
	}

	assert_in_range(opened, 0, MOST);

	/* Those of the one that left may have had all the room; they give way now. */
	const struct hbm_wire_namespace_open last = space(300);
	for (int status = opened > 0 ? HBM_OK : HBM_LIMIT; status != HBM_OK;) {
		status = raw_ask(client.socket, &last, sizeof(last));
		assert_true(status == HBM_OK || status == HBM_LIMIT);
	}
	client_close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_coldest_gives_way),     TEST(test_those_that_stay), TEST(test_users),
		TEST(test_a_user_whose_own_are_open), TEST(test_many_that_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
