/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that is broken or hostile. Whatever it sends, the daemon answers as
 * hbm-protocol(7) says or ends that session; it loses nothing, and another client is
 * served the whole time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned fds;
static struct hbm *bystander;

static int setup(void **state)
{
	static const char *const sets[] = {"limits.hello_ms=200", "limits.requests_in_flight=8",
					   NULL};

	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	bystander = spawn_connect(&daemon_);

	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(hbm_ping(bystander), 0);
	bystander = hbm_close(bystander);
	stage_finish(fds);
	return stage_teardown(state);
}

static struct hbm_wire_header ping(uint64_t id)
{
	return (struct hbm_wire_header){
		.size = sizeof(struct hbm_wire_header), .opcode = HBM_WIRE_PING, .id = id};
}

/* Sent on a session of its own; what came of it. A session that was answered still works. */
static int ask(const void *message, size_t size)
{
	int socket = raw_greet(&daemon_);
	int status = raw_ask(socket, message, size);
	const struct hbm_wire_header next = ping(99);

	if (status != RAW_DROPPED)
		assert_int_equal(raw_ask(socket, &next, sizeof(next)), HBM_OK);

	close(socket);
	assert_int_equal(hbm_ping(bystander), 0);

	return status;
}

/* ---- The header ---- */

static void test_headers(void **state)
{
	(void)state;
	struct hbm_wire_header header = ping(7);
	assert_int_equal(ask(&header, sizeof(header)), HBM_OK);
	for (size_t size = 1; size < sizeof(header); size++)
		assert_int_equal(ask(&header, size), RAW_DROPPED);
	header.size = sizeof(header) + 8;
	assert_int_equal(ask(&header, sizeof(header)), RAW_DROPPED);
	header.size = 0;
	assert_int_equal(ask(&header, sizeof(header)), RAW_DROPPED);
	header.size = UINT32_MAX;
	assert_int_equal(ask(&header, sizeof(header)), RAW_DROPPED);
	header = ping(7);
	header.zero = 1;
	assert_int_equal(ask(&header, sizeof(header)), HBM_INVALID);
	header = ping(7);
	header.status = 1;
	assert_int_equal(ask(&header, sizeof(header)), HBM_INVALID);
	header = ping(7);
	header.flags = HBM_WIRE_MORE << 1;
	assert_int_equal(ask(&header, sizeof(header)), HBM_UNSUPPORTED);
	header.flags = HBM_WIRE_REPLY;
	assert_int_equal(ask(&header, sizeof(header)), HBM_UNSUPPORTED);
}

static void test_unknown_opcodes(void **state)
{
	(void)state;
	const uint16_t unknown[] = {0, HBM_WIRE_OPCODES, 1000, UINT16_MAX};
	for (size_t i = 0; i < 4; i++) {
		struct hbm_wire_header header = ping(7);
		header.opcode = unknown[i];
		assert_int_equal(ask(&header, sizeof(header)), HBM_UNSUPPORTED);
	}
}

/* ---- Sizes and counts ---- */

static void test_bodies_that_are_too_short_or_too_long(void **state)
{
	(void)state;
	static unsigned char bytes[4096];
	for (uint16_t opcode = HBM_WIRE_REGION_CREATE; opcode < HBM_WIRE_PING; opcode++) {
		const size_t sizes[] = {sizeof(struct hbm_wire_header),
					sizeof(struct hbm_wire_header) + 4, 4096};
		for (size_t i = 0; i < 3; i++) {
			const struct hbm_wire_header header = {
				.size = (uint32_t)sizes[i], .opcode = opcode, .id = 5};

			memset(bytes, 0, sizeof(bytes));
			memcpy(bytes, &header, sizeof(header));
			int status = ask(bytes, sizes[i]);
			if (status != RAW_DROPPED)
				assert_int_equal(status, HBM_INVALID);
		}
	}
}

static void test_messages_that_are_too_large(void **state)
{
	(void)state;
	const size_t size = HBM_WIRE_MESSAGE_MAX + 1;
	struct hbm_wire_header *message = calloc(1, size);
	assert_non_null(message);
	*message = ping(3);
	message->size = (uint32_t)size;
	assert_int_equal(ask(message, size), RAW_DROPPED);
	message->size = (uint32_t)size - 1;
	assert_int_equal(ask(message, size), RAW_DROPPED);
	free(message);
}

static void test_counts_that_do_not_fit(void **state)
{
	(void)state;
	_Alignas(struct hbm_wire_keys) unsigned char
		bytes[sizeof(struct hbm_wire_keys) + 2 * sizeof(hbm_key)] = {0};
	struct hbm_wire_keys *message = (void *)bytes;
	*message = (struct hbm_wire_keys){
		.header = {.size = sizeof(bytes), .opcode = HBM_WIRE_LOOKUP, .id = 1}, .ns = 1};
	message->keys[0].bytes[0] = message->keys[1].bytes[0] = 1;
	const uint32_t counts[] = {0, 1, 3, 0x10000000, 0x10000002, UINT32_MAX};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		message->count = counts[i];
		int status = ask(message, sizeof(bytes));
		if (status != RAW_DROPPED)
			assert_int_equal(status, HBM_INVALID);
	}

	message->count = 2;
	assert_int_equal(ask(message, sizeof(bytes)),
			 HBM_NOT_FOUND); /* well formed, but no such namespace */
	message->flags = HBM_WIRE_KEEP;
	assert_int_equal(ask(message, sizeof(bytes)), HBM_UNSUPPORTED);
	message->flags = 0;
	message->deadline_us = 1;
	assert_int_equal(ask(message, sizeof(bytes)), HBM_INVALID);
}

/* ---- Reasons ---- */

struct refused {
	union {
		struct hbm_wire_header header;
		struct hbm_wire_region_create create;
		struct hbm_wire_region_destroy destroy;
		struct hbm_wire_namespace_open open;
		struct hbm_wire_namespace_ref ref;
		struct hbm_wire_namespace_drop drop;
		struct hbm_wire_evict evict;
		struct hbm_wire_cancel cancel;
		struct {
			struct hbm_wire_ranges head;
			struct hbm_wire_range range;
		} ranges;
		struct {
			struct hbm_wire_keys head;
			struct hbm_wire_key key;
		} keys;
	} message;
	int status;
	const char *reason; /* part of it */
};

#define HEADER(name, type) .header = {.size = sizeof(type), .opcode = HBM_WIRE_##name, .id = 9}
#define KEYS(name)                                                                                 \
	.keys = {.head = {.header = {.size = sizeof(struct hbm_wire_keys) + 16,                    \
				     .opcode = HBM_WIRE_##name,                                    \
				     .id = 9},                                                     \
			  .ns = 77,                                                                \
			  .count = 1},                                                             \
		 .key = {{1}}}
#define RANGE(name)                                                                                \
	.ranges = {.head = {.header = {.size = sizeof(struct hbm_wire_ranges) + 24,                \
				       .opcode = HBM_WIRE_##name,                                  \
				       .id = 9},                                                   \
			    .count = 1},                                                           \
		   .range = {.region = 88, .bytes = 1}}

static const struct refused refused[] = {
	{{.header = {.size = 24, .opcode = HBM_WIRE_PING, .id = 9, .zero = 1}},
	 HBM_INVALID,
	 "header.zero is 1, expected 0"},
	{{.create = {HEADER(REGION_CREATE, struct hbm_wire_region_create), .device = 99}},
	 HBM_INVALID,
	 "device 99"},
	{{.create = {HEADER(REGION_CREATE, struct hbm_wire_region_create), .address_space = 5}},
	 HBM_INVALID,
	 "address_space 5"},
	{{.create = {HEADER(REGION_CREATE, struct hbm_wire_region_create),
		     .address_space = 1ull << 50}},
	 HBM_LIMIT,
	 "limits.address_space = "},
	{{.destroy = {HEADER(REGION_DESTROY, struct hbm_wire_region_destroy), .region = 66}},
	 HBM_NOT_FOUND,
	 "region 66"},
	{{RANGE(COMMIT)}, HBM_NOT_FOUND, "no region"},
	{{RANGE(DECOMMIT)}, HBM_NOT_FOUND, "no region"},
	{{.open = {HEADER(NAMESPACE_OPEN, struct hbm_wire_namespace_open),
		   .spec = {.block_bytes = 0}}},
	 HBM_INVALID,
	 "block_bytes is 0"},
	{{.open = {HEADER(NAMESPACE_OPEN, struct hbm_wire_namespace_open),
		   .spec = {.block_bytes = 1ull << 40}}},
	 HBM_LIMIT,
	 "limits.block_bytes = "},
	{{.ref = {HEADER(NAMESPACE_OPEN, struct hbm_wire_namespace_ref), .ns = 55}},
	 HBM_NOT_FOUND,
	 "namespace 55"},
	{{.drop = {HEADER(NAMESPACE_DROP, struct hbm_wire_namespace_drop), .ns = 55}},
	 HBM_NOT_FOUND,
	 "namespace 55"},
	{{.ref = {HEADER(NAMESPACE_CLOSE, struct hbm_wire_namespace_ref), .ns = 55}},
	 HBM_NOT_FOUND,
	 "namespace 55"},
	{{KEYS(LOOKUP)}, HBM_NOT_FOUND, "namespace 77"},
	{{KEYS(PREFETCH)}, HBM_NOT_FOUND, "namespace"},
	{{KEYS(TOUCH)}, HBM_NOT_FOUND, "namespace 77"},
	{{KEYS(PIN)}, HBM_NOT_FOUND, "namespace 77"},
	{{KEYS(UNPIN)}, HBM_NOT_FOUND, "namespace 77"},
	{{KEYS(REMOVE)}, HBM_NOT_FOUND, "namespace 77"},
	{{.evict = {HEADER(EVICT, struct hbm_wire_evict), .tier = HBM_TIER_HBM, .device = 99}},
	 HBM_INVALID,
	 "device 99"},
	{{.cancel = {HEADER(CANCEL, struct hbm_wire_cancel), .target = 44}},
	 HBM_NOT_FOUND,
	 "request 44"},
};

static void test_refusals_say_why(void **state)
{
	(void)state;
	int socket = raw_greet(&daemon_);

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct hbm_wire_refusal reply;

		assert_true(
			raw_send(socket, &refused[i].message, refused[i].message.header.size, 0));
		assert_int_equal(recv(socket, &reply, sizeof(reply), 0), sizeof(reply));
		assert_int_equal(reply.header.status, refused[i].status);
		assert_int_equal(reply.reason[sizeof(reply.reason) - 1], 0);
		if (!strstr(reply.reason, refused[i].reason))
			fail_msg("%zu: \"%s\" without \"%s\"", i, reply.reason, refused[i].reason);
	}

	close(socket);
}

/* ---- Order ---- */

static void test_something_before_hello(void **state)
{
	(void)state;
	for (uint16_t opcode = HBM_WIRE_REGION_CREATE; opcode <= HBM_WIRE_PING; opcode++) {
		int socket = raw_connect(&daemon_);
		struct hbm_wire_header header = ping(1);
		header.opcode = opcode;
		assert_int_equal(raw_ask(socket, &header, sizeof(header)), RAW_DROPPED);
		close(socket);
	}
}

static void test_hello_twice(void **state)
{
	(void)state;
	struct hbm_wire_hello hello;
	raw_hello_fill(&hello);
	int status = ask(&hello, sizeof(hello));
	if (status != RAW_DROPPED)
		assert_int_equal(status, HBM_INVALID);
}

static int first_hello(const struct hbm_wire_hello *hello)
{
	int socket = raw_connect(&daemon_);
	int status = raw_ask(socket, hello, sizeof(*hello));
	close(socket);
	return status;
}

static void test_hellos_of_another_kind(void **state)
{
	(void)state;
	struct hbm_wire_hello hello;
	raw_hello_fill(&hello);
	hello.version_min = hello.version_max = HBM_WIRE_VERSION + 1;
	assert_int_equal(first_hello(&hello), HBM_UNSUPPORTED);
	raw_hello_fill(&hello);
	memset(hello.name, 'x', sizeof(hello.name));
	assert_int_equal(first_hello(&hello), HBM_INVALID);
	raw_hello_fill(&hello);
	hello.name[10] = 'x'; /* after the end */
	assert_int_equal(first_hello(&hello), HBM_INVALID);
	raw_hello_fill(&hello);
	hello.magic++;
	int status = first_hello(&hello);
	if (status != RAW_DROPPED)
		assert_int_equal(status, HBM_INVALID);
}

/* ---- Descriptors ---- */

static void test_descriptors_nobody_asked_for(void **state)
{
	(void)state;
	const size_t counts[] = {1, 2, 3, HBM_WIRE_FDS_MAX};
	for (size_t i = 0; i < 4; i++) {
		int socket = raw_greet(&daemon_);
		const struct hbm_wire_header header = ping(1);
		struct hbm_wire_header reply;

		assert_true(raw_send(socket, &header, sizeof(header), counts[i]));
		assert_int_equal(raw_receive(socket, &reply), false);
		close(socket);
		assert_int_equal(hbm_ping(bystander), 0);
	}
}

/* ---- Silence and floods ---- */

static void test_who_never_says_hello_is_dropped(void **state)
{
	(void)state;
	int sockets[20];
	struct hbm_wire_header reply;
	for (size_t i = 0; i < 20; i++)
		sockets[i] = raw_connect(&daemon_);
	assert_int_equal(hbm_ping(bystander), 0);

	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(raw_receive(sockets[i], &reply), false);
		close(sockets[i]);
	}
}

static void test_half_closed(void **state)
{
	(void)state;
	struct hbm_wire_header reply, header = ping(1);
	int socket = raw_greet(&daemon_);
	assert_true(raw_send(socket, &header, sizeof(header), 0));
	assert_int_equal(shutdown(socket, SHUT_WR), 0);
	while (raw_receive(socket, &reply))
		assert_int_equal(reply.status, HBM_OK);
	close(socket);
	socket = raw_greet(&daemon_);
	assert_int_equal(shutdown(socket, SHUT_RD), 0);
	for (int i = 0; i < 100 && raw_send(socket, &header, sizeof(header), 0); i++)
		;
	close(socket);
}

/* Floods, and never reads an answer: it is held up, and nobody else. */
static void test_who_never_reads(void **state)
{
	(void)state;
	enum { FLOODERS = 4 };
	int sockets[FLOODERS];
	const struct hbm_wire_query query = {
		.header = {.size = sizeof(query), .opcode = HBM_WIRE_QUERY, .id = 1},
		.kind = HBM_QUERY_LINKS};

	for (size_t i = 0; i < FLOODERS; i++) {
		sockets[i] = raw_greet(&daemon_);
		assert_int_equal(fcntl(sockets[i], F_SETFL, O_NONBLOCK), 0);
	}

	for (int round = 0; round < 2000; round++) {
		for (size_t i = 0; i < FLOODERS; i++)
			raw_send(sockets[i], &query, sizeof(query), 0);
		if (round % 20 == 0)
			assert_int_equal(hbm_ping(bystander), 0);
	}

	/* What was taken is answered in the end. */
	struct hbm_wire_header reply;
	assert_int_equal(raw_receive(sockets[0], &reply), true);
	assert_int_equal(reply.status, HBM_OK);
	for (size_t i = 0; i < FLOODERS; i++)
		close(sockets[i]);
}

/* ---- Somebody else ---- */

/* In a process of another user: the status a query of that kind gets, as an exit status. */
static int ask_as_nobody(uint32_t kind)
{
	const struct hbm_wire_query query = {
		.header = {.size = sizeof(query), .opcode = HBM_WIRE_QUERY, .id = 1}, .kind = kind};
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(99);
		_exit(raw_ask(raw_greet(&daemon_), &query, sizeof(query)));
	}

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));

	return WEXITSTATUS(status);
}

static bool is_for_operators(uint32_t kind)
{
	return kind == HBM_QUERY_VERIFY || kind == HBM_QUERY_LIMITS || kind == HBM_QUERY_LINKS ||
	       kind == HBM_QUERY_TIMELINE || kind == HBM_QUERY_NODES || kind == HBM_QUERY_LENT ||
	       kind == HBM_QUERY_TENANTS;
}

/* What holds up everybody, or tells of everybody, is not for everybody. */
static void test_what_other_users_may_ask(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("SKIP: only root can become somebody else\n");
		skip();
	}

	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	assert_int_equal(chmod(daemon_.socket, 0666), 0);

	for (uint32_t kind = HBM_QUERY_STATUS; kind < HBM_QUERY_KINDS; kind++)
		assert_int_equal(ask_as_nobody(kind), is_for_operators(kind) ? HBM_DENIED : HBM_OK);
}

/* ---- Anything ---- */

/* Mostly a plausible header, so that the bytes come past the first check. */
static size_t make_message(struct seed *seed, unsigned char *bytes, size_t room)
{
	size_t size = 1 + seed_below(seed, seed_below(seed, 4) ? 300 : room);

	for (size_t i = 0; i < size; i++)
		bytes[i] = seed_below(seed, 3) ? 0 : (unsigned char)seed_next(seed);
	struct hbm_wire_header header = {.size = (uint32_t)size,
					 .opcode = (uint16_t)seed_below(seed, HBM_WIRE_OPCODES + 1),
					 .id = seed_next(seed)};
	if (header.opcode == HBM_WIRE_EVICT)
		header.opcode = HBM_WIRE_STORE;
	if (size >= sizeof(header) && seed_below(seed, 8))
		memcpy(bytes, &header, sizeof(header));

	if (size >= sizeof(header) + 8 &&
	    seed_below(seed, 2)) /* a small number where a count may be */
		memcpy(bytes + sizeof(header) + 4, &(uint32_t){(uint32_t)seed_below(seed, 8)},
		       sizeof(uint32_t));

	return size;
}

static void test_random_bytes(void **state)
{
	(void)state;
	static unsigned char bytes[HBM_WIRE_MESSAGE_MAX];
	struct seed seed;
	seed_open(&seed, "test_protocol");
	int socket = raw_greet(&daemon_);
	unsigned answered = 0, dropped = 0, messages = getenv("HBM_TEST_LONG") ? 300000 : 6000;
	for (unsigned i = 0; i < messages; i++) {
		size_t size = make_message(&seed, bytes, sizeof(bytes));
		struct hbm_wire_header reply;
		if (raw_send(socket, bytes, size, seed_below(&seed, 50) == 0) &&
		    raw_receive(socket, &reply)) {
			answered++;
			continue;
		}

		dropped++;
		close(socket);
		socket = raw_greet(&daemon_);
		if (dropped % 50 == 0)
			assert_int_equal(hbm_ping(bystander), 0);
	}

	close(socket);
	print_message("%u messages answered, %u sessions dropped\n", answered, dropped);
	assert_true(answered > 100);
	assert_true(dropped > 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_headers),
		TEST(test_unknown_opcodes),
		TEST(test_bodies_that_are_too_short_or_too_long),
		TEST(test_messages_that_are_too_large),
		TEST(test_counts_that_do_not_fit),
		TEST(test_refusals_say_why),
		TEST(test_something_before_hello),
		TEST(test_hello_twice),
		TEST(test_hellos_of_another_kind),
		TEST(test_descriptors_nobody_asked_for),
		TEST(test_who_never_says_hello_is_dropped),
		TEST(test_half_closed),
		TEST(test_who_never_reads),
		TEST(test_what_other_users_may_ask),
		TEST(test_random_bytes),
	};
	alarm(400);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
