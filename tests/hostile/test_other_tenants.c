/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that knows the numbers and the names of what another tenant has, and asks for it with
 * each request there is. The answer is that for what no client has, to the last byte but the
 * number it asked for, and what the other tenant has stays as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/raw_board.h"
#include "tests/support/stage.h"
#include "tests/support/tenant_stage.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLAB TENANT_SLAB
#define ALARM_S 120
#define REPLY_BYTES 4096u
#define ABSENT 9999u /* a number of nothing */

#define OWNER 2001
#define THIEF 2002

static const char *const sets[] = {
	"hbmd.socket_mode=0666",
	"device.lend=16MiB",
	"tenant owner.match=uid:2001",
	"tenant thief.match=uid:2002",
	NULL,
};

static int owner, thief;
static uint32_t owner_ns, owner_region, owner_board, thief_ns, thief_region;
static uint64_t owner_loan, owner_session;

/* A request for something of the owner's, or for the same of nobody. */
struct message {
	union {
		struct hbm_wire_header header;
		struct raw_keys keys;
		struct raw_blocks blocks;
		struct raw_ranges ranges;
		struct hbm_wire_region_destroy destroy;
		struct hbm_wire_namespace_ref ns;
		struct hbm_wire_namespace_drop drop;
		struct hbm_wire_count count;
		struct hbm_wire_watch watch;
		struct hbm_wire_publish publish;
		struct hbm_wire_attach attach;
		struct hbm_wire_unpublish unpublish;
		struct hbm_wire_board_ref board;
		struct hbm_wire_ask ask;
		struct hbm_wire_session_ref session;
		struct hbm_wire_cancel cancel;
		struct {
			struct hbm_wire_borrow head;
			struct hbm_wire_key key;
		} borrow;
		struct {
			struct hbm_wire_return head;
			uint64_t loan;
		} give_back;
		struct {
			struct hbm_wire_shares head;
			struct hbm_wire_share share;
		} shares;
	};
};

#define HEAD(member, name)                                                                         \
	{                                                                                          \
		.size = sizeof(((struct message *)0)->member), .opcode = HBM_WIRE_##name, .id = 1  \
	}

static const unsigned by_key[] = {HBM_WIRE_LOOKUP, HBM_WIRE_PREFETCH, HBM_WIRE_TOUCH,
				  HBM_WIRE_PIN,    HBM_WIRE_UNPIN,    HBM_WIRE_REMOVE,
				  HBM_WIRE_MOVE,   HBM_WIRE_RETAIN};
enum { BY_KEY = sizeof(by_key) / sizeof(by_key[0]) };

/* ---- What is asked for ---- */

/* By the number of a namespace: the owner's, or none's. */
static struct message of_namespace(unsigned which, bool theirs)
{
	uint32_t ns = theirs ? owner_ns : ABSENT;

	if (which < BY_KEY) {
		struct message message = {.keys = tenant_keys(by_key[which], ns, 1)};

		message.keys.head.flags = by_key[which] == HBM_WIRE_MOVE     ? HBM_TIER_DDR
					  : by_key[which] == HBM_WIRE_RETAIN ? 1
									     : 0;
		return message;
	}

	switch (which - BY_KEY) {
	case 0:
		return (struct message){.blocks = raw_store(ns, 1, thief_region, TENANT_BLOCK)};
	case 1: {
		struct message message = {.blocks = raw_store(ns, 1, thief_region, TENANT_BLOCK)};
		message.header.opcode = HBM_WIRE_LOAD;
		return message;
	}
	case 2:
		return (struct message){.count = {.header = HEAD(count, COUNT),
						  .ns = ns,
						  .flags = HBM_WIRE_COUNT_ONE,
						  .key.bytes[0] = 1}};
	case 3:
		return (struct message){.watch = {.header = HEAD(watch, WATCH), .ns = ns}};
	case 4:
		return (struct message){
			.borrow = {.head = {.header = HEAD(borrow, BORROW), .ns = ns, .count = 1},
				   .key.bytes[0] = 1}};
	case 5:
		return (struct message){.ns = {.header = HEAD(ns, NAMESPACE_CLOSE), .ns = ns}};
	case 6:
		return (struct message){.ns = {.header = HEAD(ns, NAMESPACE_OPEN), .ns = ns}};
	default:
		return (struct message){.drop = {.header = HEAD(drop, NAMESPACE_DROP), .ns = ns}};
	}
}
enum { OF_NAMESPACE = BY_KEY + 8 };

/* By a key, in a namespace of one's own with the same specification. */
static struct message of_key(unsigned which, bool theirs)
{
	struct message message = of_namespace(which, true);
	uint8_t key = theirs ? 1 : 77;

	if (which < BY_KEY) {
		message.keys.head.ns = thief_ns;
		message.keys.key.bytes[0] = key;
	} else if (which - BY_KEY == 0) {
		message.blocks.head.ns = thief_ns; /* as a child of that block */
		message.blocks.head.header.opcode = HBM_WIRE_STORE;
		message.blocks.block.key.bytes[0] = 99;
		message.blocks.block.parent.bytes[0] = key;
		message.blocks.block.flags = 0;
	} else if (which - BY_KEY == 1) {
		message.blocks.head.ns = thief_ns;
		message.blocks.block.key.bytes[0] = key;
	} else if (which - BY_KEY == 2) {
		message.count.ns = thief_ns;
		message.count.key.bytes[0] = key;
	} else {
		message = of_namespace(BY_KEY + 4, true);
		message.borrow.head.ns = thief_ns;
		message.borrow.key.bytes[0] = key;
	}

	return message;
}
enum { OF_KEY = BY_KEY + 4 };

/* Into memory by the number of a region. */
static struct raw_blocks load_into(uint32_t region)
{
	struct raw_blocks load = raw_store(thief_ns, 5, region, TENANT_BLOCK);

	load.head.header.opcode = HBM_WIRE_LOAD;

	return load;
}

enum { ABSENT_NAME = 8, OF_NUMBER = 15 }; /* the first: an ATTACH by a name that there may not be */

/* By the number of a region, of a board or of a loan, or by a name. */
static struct message of_number(unsigned which, bool theirs)
{
	const uint32_t region = theirs ? owner_region : ABSENT, uid = theirs ? OWNER : ABSENT;
	const uint64_t session = theirs ? owner_session : ABSENT;
	const struct message messages[] = {
		{.ranges = tenant_range(HBM_WIRE_COMMIT, region, 0, 1)},
		{.ranges = tenant_range(HBM_WIRE_DECOMMIT, region, 0, 1)},
		{.destroy = {.header = HEAD(destroy, REGION_DESTROY), .region = region}},
		{.publish = {.header = HEAD(publish, PUBLISH),
			     .region = region,
			     .bytes = SLAB,
			     .name = "mine"}},
		{.shares = {.head = {.header = HEAD(shares, SHARE), .count = 1},
			    .share = {.source = region,
				      .target = thief_region,
				      .target_offset = SLAB,
				      .bytes = SLAB}}},
		{.blocks = raw_store(thief_ns, 5, region, TENANT_BLOCK)},
		{.blocks = load_into(region)},
		{.attach = {.header = HEAD(attach, ATTACH), .uid = uid, .name = "published"}},
		{.attach = {.header = HEAD(attach, ATTACH), .uid = OWNER, .name = "published"}},
		{.unpublish = {.header = HEAD(unpublish, UNPUBLISH),
			       .uid = uid,
			       .name = "published"}},
		{.board = {.header = HEAD(board, BOARD_CLOSE),
			   .board = theirs ? owner_board : ABSENT}},
		{.give_back = {.head = {.header = HEAD(give_back, RETURN), .count = 1},
			       .loan = theirs ? owner_loan : ABSENT}},
		{.cancel = {.header = HEAD(cancel, CANCEL), .target = theirs ? 1 : ABSENT}},
		{.ask = {.header = HEAD(ask, ASK),
			 .session = session,
			 .sequence = 1,
			 .ask = HBM_ASK_SUSPEND}},
		{.session = {.header = HEAD(session, SESSION_END), .session = session}},
	};
	struct message message = messages[which];

	static_assert(sizeof(messages) / sizeof(messages[0]) == OF_NUMBER, "all of them");
	if (which == ABSENT_NAME)
		message.attach.name[8] = theirs ? 'd' : 'x';

	return message;
}

/* ---- The answers ---- */

/* Takes the whole answer, in which each number of a refusal has become one '#'. */
static size_t answer_to(const struct message *message, char *reply)
{
	char *reason = reply + offsetof(struct hbm_wire_refusal, reason), *to = reason;
	ssize_t n;

	memset(reply, 0, REPLY_BYTES);
	assert_true(raw_send(thief, message, message->header.size, 0));
	n = recv(thief, reply, REPLY_BYTES, 0);
	assert_in_range(n, sizeof(struct hbm_wire_header), REPLY_BYTES);
	if (n != sizeof(struct hbm_wire_refusal))
		return (size_t)n;

	for (const char *from = reason; *from; from++) {
		bool digit = isdigit((unsigned char)*from);

		if (!digit || to == reason || to[-1] != '#')
			*to++ = digit ? '#' : *from;
	}
	memset(to, 0, (size_t)(reason + HBM_WIRE_REASON_BYTES - to));

	return (size_t)n;
}

/* Whether it is answered alike. */
static void compare(const char *what, unsigned which,
		    struct message (*make)(unsigned which, bool theirs), bool is_refused)
{
	static char replies[2][REPLY_BYTES];
	struct message theirs = make(which, true), absent = make(which, false);
	size_t sizes[2] = {answer_to(&theirs, replies[0]), answer_to(&absent, replies[1])};
	struct hbm_wire_header header;

	memcpy(&header, replies[0], sizeof(header));
	if (sizes[0] != sizes[1] || memcmp(replies[0], replies[1], sizes[0]) != 0)
		print_message("%s: opcode %u\n", what, theirs.header.opcode);
	assert_int_equal(sizes[0], sizes[1]);
	assert_memory_equal(replies[0], replies[1], sizes[0]);
	if (is_refused && theirs.header.opcode != HBM_WIRE_CANCEL)
		assert_int_not_equal(header.status, HBM_OK);
}

/* ---- What the owner has ---- */

static void assert_owner_is_unharmed(void)
{
	const struct raw_ranges decommit = tenant_range(HBM_WIRE_DECOMMIT, owner_region, 1, 1);
	const struct hbm_wire_attach attach = {.header = RAW_HEADER(ATTACH, sizeof(attach)),
					       .uid = HBM_WIRE_OWN_UID,
					       .name = "published"};
	const struct hbm_wire_board_ref board = {.header = RAW_HEADER(BOARD_CLOSE, sizeof(board)),
						 .board = owner_board};
	const struct hbm_wire_watch watch = {.header = RAW_HEADER(WATCH, sizeof(watch)),
					     .ns = owner_ns};
	struct hbm_wire_watched watched;

	assert_int_equal(tenant_lookup(owner, owner_ns, 1), HBM_OK);
	raw_call(owner, &watch, &watched, sizeof(watched));
	assert_int_equal(watched.count, 0); /* nothing became of its blocks since that began */
	tenant_store(owner, owner_ns, 2, owner_region);
	assert_int_equal(raw_ask(owner, &decommit, sizeof(decommit)), HBM_OK); /* it was there */
	assert_int_equal(raw_ask(owner, &attach, sizeof(attach)), HBM_OK);
	assert_int_equal(raw_ask(owner, &board, sizeof(board)), HBM_OK);
	hbmctl_expect("verify", 0);
}

static void test_what_another_tenant_has(void **state)
{
	(void)state;
	tenant_needed();

	for (unsigned i = 0; i < OF_NAMESPACE; i++)
		compare("by the number of a namespace", i, of_namespace, true);
	for (unsigned i = 0; i < OF_KEY; i++)
		compare("by key", i, of_key, false);
	for (unsigned i = 0; i < OF_NUMBER; i++)
		compare("by number or name", i, of_number, true);
	assert_owner_is_unharmed();
}

/* All numbers that there may be, for each request that has one. */
static void test_all_numbers(void **state)
{
	(void)state;
	static char reply[REPLY_BYTES];
	tenant_needed();

	for (uint32_t number = 0; number < 64; number++) {
		if (number == thief_ns || number == thief_region)
			continue;
		owner_ns = owner_region = owner_board = number;
		owner_loan = number;
		for (unsigned i = 0; i < OF_NAMESPACE + OF_NUMBER; i++) {
			struct message message = i < OF_NAMESPACE
							 ? of_namespace(i, true)
							 : of_number(i - OF_NAMESPACE, true);
			struct hbm_wire_header header;

			(void)answer_to(&message, reply);
			memcpy(&header, reply, sizeof(header));
			if (message.header.opcode != HBM_WIRE_CANCEL)
				assert_int_not_equal(header.status, HBM_OK);
		}
	}

	owner_ns = tenant_namespace(owner, "m");
	assert_int_equal(tenant_lookup(owner, owner_ns, 1), HBM_OK);
	hbmctl_expect("verify", 0);
}

/* A client may say of itself what it likes: who it is decides its user. */
static void test_forged_names(void **state)
{
	(void)state;
	static const char *const names[] = {"owner", "tenant owner",    "uid 0",
					    "root",  "x\x1b[2J\nowner", "%s%n%n%n"};
	tenant_needed();

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct raw_keys theirs = tenant_keys(HBM_WIRE_LOOKUP, owner_ns, 1);
		const struct hbm_wire_tenant_set set = {.header =
								RAW_HEADER(TENANT_SET, sizeof(set)),
							.tenant = "thief",
							.key = "memory",
							.value = "1GiB"};
		struct hbm_wire_hello hello;
		int socket = guest_connect(&daemon_, THIEF);

		raw_hello_fill(&hello);
		memset(hello.name, 0, sizeof(hello.name));
		memcpy(hello.name, names[i], strlen(names[i]));
		int status = raw_ask(socket, &hello, sizeof(hello));
		if (status == HBM_OK) {
			assert_int_equal(raw_ask(socket, &theirs, sizeof(theirs)), HBM_NOT_FOUND);
			assert_int_equal(raw_ask(socket, &set, sizeof(set)), HBM_DENIED);
			assert_int_not_equal(tenant_namespace(socket, "m"), owner_ns);
			hbmctl_expect("sessions", 0);
			assert_null(strchr(hbmctl_output, '\x1b'));
		}
		close(socket);
	}

	assert_owner_is_unharmed();
}

/* ---- With a daemon of its own ---- */

static uint64_t session_of(uid_t uid)
{
	json_t *document = hbmctl_json("--json sessions");
	const json_t *list = hbmctl_array(document, "sessions");
	uint64_t session = 0;

	for (size_t i = 0; i < json_array_size(list); i++)
		if (hbmctl_count(json_array_get(list, i), "uid") == uid)
			session = hbmctl_count(json_array_get(list, i), "session");
	json_decref(document);

	return session;
}

/* Regions of both have numbers of their own: the owner's is one that the thief has not. */
static void setup_owner(void)
{
	const struct hbm_wire_publish publish = {.header = RAW_HEADER(PUBLISH, sizeof(publish)),
						 .region = 0,
						 .bytes = SLAB,
						 .name = "published"};
	const struct hbm_wire_watch watch = {.header = RAW_HEADER(WATCH, sizeof(watch))};
	struct hbm_wire_publish published = publish;
	struct hbm_wire_watch watching = watch;
	struct raw_board board;
	struct message borrow;
	char reply[REPLY_BYTES];
	struct hbm_wire_loan loan;

	for (unsigned i = 0; i < 5; i++)
		owner_region = tenant_region(owner, 4 * SLAB);
	tenant_commit(owner, owner_region, 0, 3);
	owner_ns = tenant_namespace(owner, "m");
	tenant_store(owner, owner_ns, 1, owner_region);

	published.region = owner_region;
	published.offset = 2 * SLAB;
	assert_int_equal(raw_ask(owner, &published, sizeof(published)), HBM_OK);
	raw_board_open(owner, 1, &board);
	owner_board = board.number;
	raw_board_leave(&board);
	owner_session = session_of(OWNER);

	borrow = of_namespace(BY_KEY + 4, true);
	assert_true(raw_send(owner, &borrow, borrow.header.size, 0));
	assert_in_range(recv(owner, reply, sizeof(reply), 0),
			sizeof(struct hbm_wire_borrowed) + sizeof(loan), sizeof(reply));
	memcpy(&loan, reply + sizeof(struct hbm_wire_borrowed), sizeof(loan));
	assert_int_equal(loan.status, HBM_OK);
	owner_loan = loan.loan;

	watching.ns = owner_ns;
	assert_int_equal(raw_ask(owner, &watching, sizeof(watching)), HBM_OK);
}

static int setup(void **state)
{
	stage_setup(state);
	if (geteuid() != 0)
		return 0;

	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	owner = tenant_greet(OWNER);
	thief = tenant_greet(THIEF);
	setup_owner();
	thief_ns = tenant_namespace(thief, "m");
	thief_region = tenant_region(thief, 4 * SLAB);
	tenant_commit(thief, thief_region, 0, 1);
	assert_int_not_equal(thief_ns, owner_ns);
	assert_int_not_equal(thief_region, owner_region);

	return 0;
}

static int teardown(void **state)
{
	if (geteuid() == 0) {
		close(owner);
		close(thief);
		assert_true(spawn_balanced(&daemon_));
		alarm(0);
	}

	return stage_teardown(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_another_tenant_has),
		TEST(test_all_numbers),
		TEST(test_forged_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
