/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each key of a tenant: one client grows what it bounds until it gets no more of it. Another
 * tenant has all of its own meanwhile, byte for byte, and the books balance. The keys are those
 * that the daemon shows: one without a case here fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/raw_board.h"
#include "tests/support/stage.h"
#include "tests/support/tenant_stage.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLAB TENANT_SLAB
#define SPACE (320u * SLAB)
#define ALARM_S 120

#define RICH 2001
#define POOR 2002

enum { STEPS = 1000, SOCKETS = 64, RICH_BLOCKS = 4 };

static const char *const sets[] = {
	"hbmd.socket_mode=0666",      "soft.memory=1GiB",
	"device.memory=900MiB",       "device.lend=64MiB",
	"ddr.regions=32MiB",          "tenant poor.match=uid:2002",
	"tenant rich.match=uid:2001", NULL,
};

/* What becomes of one that asks for more. */
enum outcome {
	REFUSED,  /* HBM_LIMIT */
	WAITS,    /* no answer, until there is less */
	MAKES_WAY /* with what it had before */
};

struct growth {
	const char *key, *limit;
	enum outcome outcome;
	int (*grow)(unsigned step); /* its status */
	uint64_t most;              /* that may be used, if that is not the limit */
};

static int poor, rich, sockets[SOCKETS];
static unsigned socket_count;
static time_t began;
static uint32_t poor_region, rich_region, rich_ns, poor_ns;
static struct kv kv;

/* ---- Growing ---- */

static int keep(int socket)
{
	assert_in_range(socket_count, 0, SOCKETS - 1);
	sockets[socket_count++] = socket;

	return HBM_OK;
}

static int grow_sessions(unsigned step)
{
	int socket = -1, status = guest_greet(&daemon_, POOR, &socket);

	(void)step;

	return status == HBM_OK ? keep(socket) : status;
}

static int grow_silent(unsigned step)
{
	(void)step;

	return socket_count < 8 ? keep(guest_connect(&daemon_, POOR)) : HBM_OK;
}

/* A store that waits for a fence that nobody sets. */
static int grow_requests(unsigned step)
{
	struct raw_blocks message =
		raw_store(poor_ns, (uint8_t)(100 + step), poor_region, TENANT_BLOCK);

	message.head.header.id = 1000 + step;
	message.head.ready_slot = 0;
	message.head.ready_value = 1;
	if (step < 100)
		assert_true(raw_send(poor, &message, sizeof(message), 0));

	return HBM_OK;
}

static int grow_regions(unsigned step)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = 4 * SLAB,
		.slab = SLAB,
	};

	(void)step;

	return raw_ask(poor, &create, sizeof(create));
}

static int grow_memory(unsigned step)
{
	const struct raw_ranges commit = tenant_range(HBM_WIRE_COMMIT, poor_region, 2 + step, 1);

	return raw_ask(poor, &commit, sizeof(commit));
}

static int grow_host_memory(unsigned step)
{
	static uint32_t region;

	if (step == 0)
		region = tenant_region_on(poor, HBM_WIRE_DEVICE_HOST, 32u << 20);
	const struct raw_ranges commit = tenant_range(HBM_WIRE_COMMIT, region, step, 1);

	return raw_ask(poor, &commit, sizeof(commit));
}

/* Its replies, with descriptors, are not read. */
static int grow_unread(unsigned step)
{
	struct raw_ranges commit = tenant_range(HBM_WIRE_COMMIT, poor_region, 2 + step, 1);

	if (step < 300)
		assert_true(raw_send(poor, &commit, sizeof(commit), 0));

	return HBM_OK;
}

/* The same, and the memory is given back, which the descriptors keep. */
static int grow_held(unsigned step)
{
	struct raw_ranges commit = tenant_range(HBM_WIRE_COMMIT, poor_region, 2, 1);
	struct raw_ranges decommit = tenant_range(HBM_WIRE_DECOMMIT, poor_region, 2, 1);

	(void)step;
	assert_true(raw_send(poor, &commit, sizeof(commit), 0));
	assert_true(raw_send(poor, &decommit, sizeof(decommit), 0));
	usleep(1000);

	return tenant_shown("poor", "held", "refused") > 0 ? HBM_LIMIT : HBM_OK;
}

struct reserving {
	struct hbm_wire_reserve head;
	struct hbm_wire_reserve_change change;
};

static struct reserving reserving(uint64_t bytes, uint32_t timeout_ms)
{
	return (struct reserving){.head = {.header = RAW_HEADER(RESERVE, sizeof(struct reserving)),
					   .count = 1,
					   .timeout_ms = timeout_ms},
				  .change.bytes = bytes};
}

static int grow_reserved(unsigned step)
{
	const struct reserving more = reserving(SLAB, 0);

	(void)step;

	return raw_ask(poor, &more, sizeof(more));
}

/* Another has reserved what they wait for. The limit is 2: two wait, and the third is refused. */
static int grow_waiting(unsigned step)
{
	struct reserving all = reserving(500ull << 20, 0), more = reserving(400ull << 20, 60000);
	struct hbm_wire_header header;

	if (step == 0)
		assert_int_equal(raw_ask(rich, &all, sizeof(all)), HBM_OK);
	if (step < 2) {
		more.head.header.id = 10 + step;
		assert_int_equal(keep(tenant_greet(POOR)), HBM_OK);
		assert_true(raw_send(sockets[step], &more, sizeof(more), 0));
		return HBM_OK;
	}

	assert_true(raw_send(poor, &more, sizeof(more), 0));
	assert_true(raw_receive(poor, &header));

	return header.status;
}

static int grow_published(unsigned step)
{
	struct hbm_wire_publish publish = {.header = RAW_HEADER(PUBLISH, sizeof(publish)),
					   .region = poor_region,
					   .offset = (uint64_t)(2 + step) * SLAB,
					   .bytes = SLAB};

	tenant_commit(poor, poor_region, 2 + step, 1);
	snprintf(publish.name, sizeof(publish.name), "p%u", step);

	return raw_ask(poor, &publish, sizeof(publish));
}

static int grow_loans(unsigned step)
{
	struct {
		struct hbm_wire_borrow head;
		struct hbm_wire_key key;
	} borrow = {
		.head = {.header = RAW_HEADER(BORROW, sizeof(borrow)), .ns = poor_ns, .count = 1},
		.key.bytes[0] = (uint8_t)(1 + step)};
	static char reply[65536];
	struct hbm_wire_borrowed head;
	struct hbm_wire_loan loan;

	tenant_store(poor, poor_ns, (uint8_t)(1 + step), poor_region);
	assert_true(raw_send(poor, &borrow, sizeof(borrow), 0));
	ssize_t n = recv(poor, reply, sizeof(reply), 0);
	assert_in_range(n, sizeof(struct hbm_wire_header), sizeof(reply));
	memcpy(&head, reply, sizeof(struct hbm_wire_header));
	if (head.header.status != HBM_OK)
		return head.header.status;

	memcpy(&loan, reply + sizeof(head), sizeof(loan));

	return loan.status;
}

static int grow_sequences(unsigned step)
{
	const struct hbm_wire_board_open open = {.header = RAW_HEADER(BOARD_OPEN, sizeof(open)),
						 .records = 16};

	(void)step;

	return raw_ask(poor, &open, sizeof(open));
}

/* Messages to a client that reads none of them. */
static int grow_notices(unsigned step)
{
	static struct raw_board board;
	static uint64_t session;

	if (step == 0) {
		json_t *document = hbmctl_json("--json sessions");
		const json_t *list = hbmctl_array(document, "sessions");

		raw_board_open(poor, 1, &board);
		for (size_t i = 0; i < json_array_size(list); i++)
			if (hbmctl_count(json_array_get(list, i), "uid") == POOR)
				session = hbmctl_count(json_array_get(list, i), "session");
		json_decref(document);
		raw_board_leave(&board);
		assert_int_equal(keep(raw_greet(&daemon_)), HBM_OK);
	}

	for (unsigned i = 0; i < 50; i++) {
		int status = raw_board_ask(sockets[0], session, 1, HBM_ASK_SUSPEND, HBM_TIER_NONE);
		if (status != HBM_OK)
			return status;
	}

	return HBM_OK;
}

static int grow_namespaces(unsigned step)
{
	char model[16];

	snprintf(model, sizeof(model), "n%u", step);
	const struct hbm_wire_namespace_open open = tenant_opening(model);

	return raw_ask(poor, &open, sizeof(open));
}

static int grow_guesses(unsigned step)
{
	struct hbm_wire_namespace_open open = tenant_opening("secret");

	snprintf(open.spec.salt, sizeof(open.spec.salt), "%u", step);

	return raw_ask(poor, &open, sizeof(open));
}

static int grow_watched(unsigned step)
{
	char model[16];

	snprintf(model, sizeof(model), "n%u", step);
	const struct hbm_wire_watch watch = {.header = RAW_HEADER(WATCH, sizeof(watch)),
					     .ns = tenant_namespace(poor, model)};

	return raw_ask(poor, &watch, sizeof(watch));
}

static int grow_blocks(unsigned step)
{
	if (step < 40) {
		tenant_store(poor, poor_ns, (uint8_t)(1 + step), poor_region);
		assert_int_equal(tenant_lookup(poor, poor_ns, (uint8_t)(1 + step)), HBM_OK);
	}

	return HBM_OK;
}

/* Below 0 of a tier's bytes nothing is found there. */
static int grow_tier(unsigned step)
{
	if (step < 40)
		tenant_store(poor, poor_ns, (uint8_t)(1 + step), poor_region);

	return HBM_OK;
}

static int grow_pins(unsigned step)
{
	const struct raw_keys pin = tenant_keys(HBM_WIRE_PIN, poor_ns, (uint8_t)(1 + step));

	tenant_store(poor, poor_ns, (uint8_t)(1 + step), poor_region);

	return tenant_ask_one(poor, &pin).status;
}

static int grow_retained(unsigned step)
{
	struct raw_keys retain = tenant_keys(HBM_WIRE_RETAIN, poor_ns, (uint8_t)(1 + step));

	retain.head.flags = 1;
	tenant_store(poor, poor_ns, (uint8_t)(1 + step), poor_region);

	return tenant_ask_one(poor, &retain).status;
}

/* Clients that break the protocol, each of which is told in the log. */
static int grow_log(unsigned step)
{
	struct hbm_wire_header header;
	int socket = tenant_greet(POOR);

	assert_true(raw_send(socket, "?", 1, 0));
	assert_false(raw_receive(socket, &header));
	close(socket);

	return step < 30 ? HBM_OK : HBM_LIMIT;
}

/* ---- The cases ---- */

static const struct growth growths[] = {
	{"sessions", "4", REFUSED, grow_sessions, 0},
	{"requests_in_flight", "4", WAITS, grow_requests, 0},
	{"request_bytes", "4KiB", WAITS, grow_requests, 8192}, /* with what the last one takes */
	{"regions", "3", REFUSED, grow_regions, 0},
	{"address_space", "700MiB", REFUSED, grow_regions, 0},
	{"memory", "8MiB", REFUSED, grow_memory, 0},
	{"memory@0", "8MiB", REFUSED, grow_memory, 0},
	{"host_memory", "8MiB", REFUSED, grow_host_memory, 0},
	{"reserved", "8MiB", REFUSED, grow_reserved, 0},
	{"published", "6MiB", REFUSED, grow_published, 0},
	{"lent", "6MiB", REFUSED, grow_loans, 0},
	{"loans", "2", REFUSED, grow_loans, 0},
	{"sequences", "64", REFUSED, grow_sequences, 0},
	{"namespaces", "3", REFUSED, grow_namespaces, 0},
	{"pins", "2", REFUSED, grow_pins, 0},
	{"silent", "2", MAKES_WAY, grow_silent, 0},
	{"descriptors", "16", REFUSED, grow_sessions, 0},
	{"unread_descriptors", "253", WAITS, grow_unread, 0},
	{"held", "4MiB", REFUSED, grow_held, 8u << 20}, /* what is on its way may come on top */
	{"reserves_waiting", "2", REFUSED, grow_waiting, 0},
	{"publications", "2", REFUSED, grow_published, 0},
	{"replicas", "2", REFUSED, grow_loans, 0},
	{"notices", "5", REFUSED, grow_notices, 0},
	{"namespace_opens", "3", REFUSED, grow_namespaces, 0},
	{"watched", "2", REFUSED, grow_watched, 0},
	{"blocks", "8", MAKES_WAY, grow_blocks, 0},
	{"pinned", "192KiB", REFUSED, grow_pins, 0},
	{"retained", "192KiB", REFUSED, grow_retained, 0},
	{"retained_blocks", "2", REFUSED, grow_retained, 0},
	{"hbm_max", "192KiB", MAKES_WAY, grow_tier, 0},
	{"ddr_max", "192KiB", MAKES_WAY, grow_tier, 0},
	{"nvme_max", "192KiB", MAKES_WAY, grow_tier, 0},
	{"guesses", "3", REFUSED, grow_guesses, 0},
	{"log_lines", "2", REFUSED, grow_log, 0},
	/* what a tenant has at least, or more of than others: nothing grows */
	{"weight", NULL, REFUSED, NULL, 0},  /* test_tenant_shares */
	{"hbm_min", NULL, REFUSED, NULL, 0}, /* test_tenants, test_owners: */
	{"ddr_min", NULL, REFUSED, NULL, 0}, /* these two and those below */
	{"nvme_min", NULL, REFUSED, NULL, 0},
};
enum { GROWTHS = sizeof(growths) / sizeof(growths[0]) };

static void test_every_key_has_a_case(void **state)
{
	(void)state;
	tenant_needed();
	json_t *document = hbmctl_json("--json tenants");
	const json_t *records = hbmctl_array(document, "tenants");
	unsigned found = 0;

	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *record = json_array_get(records, i);
		const char *key = hbmctl_text(record, "key");
		unsigned cases = 0;

		if (strcmp(hbmctl_text(record, "tenant"), "poor") != 0)
			continue;
		for (unsigned k = 0; k < GROWTHS; k++)
			cases += strcmp(growths[k].key, key) == 0;
		if (cases != 1)
			print_message("%s has %u cases\n", key, cases);
		assert_int_equal(cases, 1);
		found++;
	}

	json_decref(document);
	assert_int_equal(found, GROWTHS);
}

/* ---- Unharmed ---- */

static void assert_others_are_unharmed(void)
{
	hbm_result results[RICH_BLOCKS];
	const struct raw_ranges commit = tenant_range(HBM_WIRE_COMMIT, rich_region, 2, 1);
	const struct raw_ranges decommit = tenant_range(HBM_WIRE_DECOMMIT, rich_region, 2, 1);
	int second = tenant_greet(RICH);

	/* the bytes of one, by the library */
	assert_int_equal(kv_load(&kv, 0, 1, RICH_BLOCKS, results), 0);
	for (unsigned i = 0; i < RICH_BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);

	/* and each thing that another wants */
	for (uint8_t key = 1; key <= RICH_BLOCKS; key++)
		assert_int_equal(tenant_lookup(rich, rich_ns, key), HBM_OK);
	tenant_store(rich, rich_ns, 9, rich_region);
	assert_int_equal(raw_ask(rich, &commit, sizeof(commit)), HBM_OK);
	assert_int_equal(raw_ask(rich, &decommit, sizeof(decommit)), HBM_OK);
	(void)tenant_namespace(rich, "another");
	const struct raw_keys pin = tenant_keys(HBM_WIRE_PIN, rich_ns, 9),
			      unpin = tenant_keys(HBM_WIRE_UNPIN, rich_ns, 9),
			      drop = tenant_keys(HBM_WIRE_REMOVE, rich_ns, 9);
	assert_int_equal(tenant_ask_one(rich, &pin).status, HBM_OK);
	assert_int_equal(tenant_ask_one(rich, &unpin).status, HBM_OK);
	assert_int_equal(tenant_ask_one(rich, &drop).status, HBM_OK);
	close(second);
	hbmctl_expect("verify", 0);
}

static bool is_in_log(const struct growth *growth)
{
	return strcmp(growth->key, "log_lines") == 0;
}

static void assert_bounded(const struct growth *growth, unsigned steps)
{
	uint64_t limit = tenant_shown("poor", growth->key, "limit");
	uint64_t used = tenant_shown("poor", growth->key, "used");
	uint64_t refused = tenant_shown("poor", growth->key, "refused");

	assert_in_range(used, 0, growth->most > 0 ? growth->most : limit);
	if (is_in_log(growth)) /* two in each second that it has taken, and one more second */
		assert_in_range(spawn_log_lines(&daemon_, "uid 2002): dropped"), 1,
				2 * (uint64_t)(time(NULL) - began + 2));
	else if (strcmp(growth->key, "guesses") == 0) /* one more each second */
		assert_in_range(steps, 4, 5 + (uint64_t)(time(NULL) - began));
	else if (growth->outcome == REFUSED)
		assert_in_range(refused, 1, UINT64_MAX);
}

static void test_growth(void **state)
{
	const struct growth *growth = *state;
	char line[128];
	unsigned step = 0;

	tenant_needed();
	snprintf(line, sizeof(line), "tenants set poor %s=%s", growth->key, growth->limit);
	hbmctl_expect(line, 0);
	began = time(NULL);

	while (step < STEPS) {
		int status = growth->grow(step++);
		if (status == HBM_OK && !(growth->outcome != REFUSED && step == 350))
			continue;
		assert_int_equal(status, growth->outcome == REFUSED ? HBM_LIMIT : HBM_OK);
		break;
	}

	print_message("%s: %u steps\n", growth->key, step);
	assert_in_range(step, 2, STEPS - 1); /* the first was let in */
	assert_bounded(growth, step);
	assert_others_are_unharmed();
}

/* ---- Each with a daemon of its own ---- */

static int setup(void **state)
{
	void *growth = *state;

	stage_setup(state);
	*state = growth;
	if (geteuid() != 0)
		return 0;

	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	socket_count = 0;
	poor = tenant_greet(POOR);
	rich = tenant_greet(RICH);
	poor_region = tenant_region(poor, SPACE);
	rich_region = tenant_region(rich, SPACE);
	tenant_commit(poor, poor_region, 0, 1);
	tenant_commit(rich, rich_region, 0, 1);
	poor_ns = tenant_namespace(poor, "m");
	rich_ns = tenant_namespace(rich, "m");
	for (uint8_t key = 1; key <= RICH_BLOCKS; key++)
		tenant_store(rich, rich_ns, key, rich_region);

	hbm_result results[RICH_BLOCKS];
	kv_open(&kv, &daemon_, 0, TENANT_BLOCK, RICH_BLOCKS);
	assert_int_equal(kv_store(&kv, 0, 1, RICH_BLOCKS, 0, results), 0);

	return 0;
}

static int teardown(void **state)
{
	if (geteuid() == 0) {
		kv_close(&kv);
		close(poor);
		close(rich);
		for (unsigned i = 0; i < socket_count; i++)
			close(sockets[i]);
		assert_true(spawn_balanced(&daemon_));
		alarm(0);
	}

	return stage_teardown(state);
}

int main(void)
{
	struct CMUnitTest tests[GROWTHS + 1] = {
		{"test_every_key_has_a_case", test_every_key_has_a_case, setup, teardown, NULL}};
	unsigned count = 1;

	for (unsigned i = 0; i < GROWTHS; i++)
		if (growths[i].grow)
			tests[count++] =
				(struct CMUnitTest){growths[i].key, test_growth, setup, teardown,
						    (void *)(uintptr_t)&growths[i]};

	return _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
}
