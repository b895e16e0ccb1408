/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figure that the daemon prints at its start, "at most N MiB beside the tiers", against
 * what it takes when clients drive it to its limits: namespaces and their opens, regions,
 * pins, requests with the largest messages, and replies that are not read. What is not
 * driven here are tables whose size is fixed: of blocks and of extents.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/stage.h"
#include "tests/support/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SESSIONS 16
#define OPENS 8u
#define REGIONS 4
#define BLOCK 4096u
#define KEYS 8189u
#define FLOOD 150u /* messages of each, if the daemon takes them */

/* What the daemon says of itself; the part that is there at the start. */
#define PROGRAM (96 * MIB) /* the least that the daemon says it takes itself */

static const char *const sets[] = {
	"limits.sessions=17", /* and the one that asks */
	"limits.silent=2",
	"limits.request_bytes=4MiB",
	"limits.request_bytes_total=16MiB",
	"limits.regions_total=64",
	"limits.address_space_total=4GiB",
	"limits.namespaces=8",
	"limits.namespace_opens=8",
	"limits.commit_slabs=64",
	"limits.pins=20000",
	"limits.pins_total=200000",
	"limits.blocks=65536",
	NULL,
};

struct client {
	int socket;
	uint32_t ns, region;
	unsigned sent;
};

static struct {
	struct hbm_wire_keys head;
	struct hbm_wire_key keys[KEYS];
} message;

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	return 0;
}

static int teardown(void **state)
{
	return stage_teardown(state);
}

/* The memory of the process that is no file's: the tiers are files, of the soft device and
 * of the DDR pool. */
static uint64_t private_bytes(void)
{
	char path[64], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon_.pid);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	while (kib == 0 && fgets(line, sizeof(line), file))
		(void)sscanf(line, "RssAnon: %llu", &kib);
	fclose(file);
	assert_true(kib > 0);

	return kib * 1024;
}

static uint64_t figure(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status.footprint_max;
}

/* What of it the daemon says it takes itself, in bytes. */
static uint64_t itself(void)
{
	static const char text[] = "the daemon itself ";
	char line[1024];
	uint64_t mib = 0;
	FILE *log = fopen(daemon_.log, "r");

	assert_non_null(log);
	while (fgets(line, sizeof(line), log)) {
		const char *at = strstr(line, text);
		if (at)
			mib = strtoull(at + sizeof(text) - 1, NULL, 10);
	}
	fclose(log);

	return mib * MIB;
}

/* ---- Driving ---- */

static void fill_message(struct client *client, unsigned opcode, const struct hbm_wire_key *key)
{
	message.head = (struct hbm_wire_keys){
		.header = {.size = sizeof(message), .opcode = (uint16_t)opcode, .id = 1},
		.ns = client->ns,
		.count = KEYS,
	};
	for (uint32_t i = 0; i < KEYS; i++) {
		message.keys[i] = *key;
		if (opcode == HBM_WIRE_PREFETCH || opcode == HBM_WIRE_LOOKUP)
			memcpy(&message.keys[i].bytes[4], &i, sizeof(i));
	}
}

static void open_client(struct client *client)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = 64 * MIB,
		.slab = 2 * MIB,
	};
	struct hbm_wire_region_create_reply reply;

	client->socket = raw_greet(&daemon_);
	for (uint32_t i = OPENS; i > 0; i--)
		client->ns = raw_namespace(client->socket, i * BLOCK);
	for (int i = 0; i < REGIONS; i++)
		raw_call(client->socket, &create, &reply, sizeof(reply));
	client->region = reply.region;
}

enum { STORED = 1 };
static const struct hbm_wire_key stored = {.bytes = {STORED}}, missing = {.bytes = {2}};

static void store_a_block(struct client *client)
{
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range = {.region = client->region, .bytes = 2 * MIB},
	};
	const struct raw_blocks store = raw_store(client->ns, STORED, client->region, BLOCK);

	assert_int_equal(raw_ask(client->socket, &commit, sizeof(commit)), HBM_OK);
	assert_int_equal(raw_ask(client->socket, &store, sizeof(store)), HBM_OK);
}

/* More than the session may have: the last of these are refused. */
static void pin_all(struct client *client)
{
	fill_message(client, HBM_WIRE_PIN, &stored);
	for (int i = 0; i < 4; i++)
		assert_int_not_equal(raw_ask(client->socket, &message, sizeof(message)),
				     RAW_DROPPED);
}

/* Sends until the daemon takes no more, `most` in all; whether it took any. */
static bool flood(struct client *client, unsigned opcode, unsigned most)
{
	unsigned before = client->sent;

	fill_message(client, opcode, &missing);
	while (client->sent < most && send(client->socket, &message, sizeof(message),
					   MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(message))
		client->sent++;

	return client->sent > before;
}

/* Until none of them can send any more and the daemon has nothing to do: nobody reads. */
static void flood_all(struct client clients[SESSIONS])
{
	bool is_over = false;
	char loop[16];

	snprintf(loop, sizeof(loop), "%d", (int)daemon_.pid);
	while (!is_over) {
		poll(NULL, 0, 1);
		is_over = thread_is_asleep(daemon_.pid, loop);
		for (int i = 0; i < SESSIONS; i++)
			if (flood(&clients[i], HBM_WIRE_LOOKUP, FLOOD))
				is_over = false;
	}
}

/* ---- Tests ---- */

static void test_the_figure_holds_at_the_limits(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip(); /* a sanitizer takes memory of its own */
#endif
	static struct client clients[SESSIONS];
	uint64_t before = private_bytes(), most = figure(), own = itself();

	assert_in_range(own, PROGRAM, PROGRAM + 64 * MIB);
	assert_true(spawn_logged(&daemon_, "beside the tiers: index "));
	assert_true(before < own);

	for (int i = 0; i < SESSIONS; i++)
		open_client(&clients[i]);
	store_a_block(&clients[0]);
	for (int i = 0; i < SESSIONS; i++)
		pin_all(&clients[i]);
	for (int i = 0; i < SESSIONS; i++)
		(void)flood(&clients[i], HBM_WIRE_PREFETCH, 8);
	flood_all(clients);

	uint64_t after = private_bytes();
	print_message("%llu of %llu KiB\n", (unsigned long long)(after - before) / 1024,
		      (unsigned long long)(most - own) / 1024);
	assert_in_range(after, before + 16 * MIB, before + most - own);

	for (int i = 0; i < SESSIONS; i++)
		close(clients[i].socket);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The largest request is a hint: it is refused where it does not fit, and a smaller one is
 * not. */
static void test_a_prefetch_that_does_not_fit(void **state)
{
	(void)state;
	static const char *const small[] = {"limits.request_bytes=4MiB",
					    "limits.request_bytes_total=4MiB", NULL};
	struct {
		struct hbm_wire_refusal refusal;
		char more[HBM_WIRE_MESSAGE_MAX];
	} reply;
	struct client client;

	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_start(&daemon_, small, NULL);
	client.socket = raw_greet(&daemon_);
	client.ns = raw_namespace(client.socket, BLOCK);
	fill_message(&client, HBM_WIRE_PREFETCH, &missing);
	assert_true(raw_send(client.socket, &message, sizeof(message), 0));
	assert_true(recv(client.socket, &reply, sizeof(reply), 0) > 0);
	assert_int_equal(reply.refusal.header.status, HBM_LIMIT);
	assert_non_null(strstr(reply.refusal.reason, "limits.request_bytes_total = 4194304: "));

	message.head.count = 1000;
	message.head.header.size = sizeof(message.head) + 1000 * sizeof(message.keys[0]);
	assert_int_equal(raw_ask(client.socket, &message, message.head.header.size), HBM_OK);
	close(client.socket);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_the_figure_holds_at_the_limits),
					   TEST(test_a_prefetch_that_does_not_fit)};
	alarm(200); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
