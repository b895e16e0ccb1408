/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries that visit everything: one audit goes on at a time, and what arrives meanwhile is
 * answered together, from the next one. A second work in the background looks on between the
 * steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/cache/cache.h"
#include "daemon/serve/serve_verify.h"
#include "daemon/session/request.h"
#include "daemon/session/session.h"
#include "tests/support/tier_rig.h"

#define REQUESTS 3 /* numbered from 1 */
#define PAGE (64u << 10)

struct fixture {
	struct rig rig;
	struct session_owner owner;
	struct counters counters;
	struct session *session;
	int client;
	struct list parked;
	unsigned arrived, freed;
	struct background onlooker;
	void (*look)(struct fixture *fixture);
	unsigned answers;
	bool balanced[REQUESTS + 1]; /* by id, of those answered */
};

static struct fixture *fixture_of(struct session_owner *owner)
{
	return container_of(owner, struct fixture, owner);
}

static void arrived(struct session_owner *owner, struct request *request)
{
	struct fixture *fixture = fixture_of(owner);

	if (request->message->opcode == HBM_WIRE_HELLO) {
		struct session *session = request->session;
		request_reply(request, HBM_OK, NULL, 0);
		session_greeted(session);
		return;
	}

	fixture->arrived++;
	list_push_back(&fixture->parked, &request->link);
}

static void died(struct session_owner *owner, struct session *session)
{
	(void)owner;
	(void)session;
}

static void freed(struct session_owner *owner, struct session *session)
{
	(void)session;
	fixture_of(owner)->freed++;
}

static bool have_arrived(void *arg)
{
	return ((struct fixture *)arg)->arrived == REQUESTS;
}

static bool are_answered(void *arg)
{
	const struct fixture *fixture = arg;

	return fixture->answers == REQUESTS && !fixture->rig.hbmd.verification;
}

static bool is_freed(void *arg)
{
	return ((struct fixture *)arg)->freed == 1;
}

/* A query of the accounts, and of the limits for the last. */
static void ask(struct fixture *fixture, uint64_t id)
{
	const struct hbm_wire_query query = {
		.header = {.size = sizeof(query), .opcode = HBM_WIRE_QUERY, .id = id},
		.kind = id == REQUESTS ? HBM_QUERY_LIMITS : HBM_QUERY_VERIFY};

	assert_int_equal(send(fixture->client, &query, sizeof(query), MSG_NOSIGNAL), sizeof(query));
}

static void greet(struct fixture *fixture)
{
	const struct hbm_wire_hello hello = {
		.header = {.size = sizeof(hello), .opcode = HBM_WIRE_HELLO},
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION};
	int ends[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(session_open(&fixture->session, &fixture->owner, ends[0], 1), 0);
	fixture->client = ends[1];
	assert_int_equal(send(fixture->client, &hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	rig_init(&fixture->rig);
	rig_open(&fixture->rig, GRANULE);
	fixture->owner = (struct session_owner){
		.loop = fixture->rig.loop,
		.ledger = &fixture->rig.ledger,
		.incoming = aligned_alloc(64, HBM_WIRE_MESSAGE_MAX),
		.counters = &fixture->counters,
		.arrived = arrived,
		.died = died,
		.freed = freed,
	};
	session_owner_init(&fixture->owner);
	list_init(&fixture->parked);
	greet(fixture);
	for (uint64_t id = 1; id <= REQUESTS; id++)
		ask(fixture, id);

	rig_run(&fixture->rig, have_arrived, fixture);
	*state = fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->client >= 0)
		close(fixture->client);
	rig_run(&fixture->rig, is_freed, fixture);
	free(fixture->owner.incoming);
	rig_close(&fixture->rig);
	rig_clear(&fixture->rig);
	free(fixture);

	return 0;
}

/* All accounts of a reply, or limits: both say whether they balance. */
static bool is_balanced(const struct hbm_wire_query_reply *reply, const unsigned char *records)
{
	for (uint32_t i = 0; reply->kind == HBM_QUERY_VERIFY && i < reply->count; i++) {
		struct hbm_wire_account account;
		memcpy(&account, records + (size_t)i * reply->record_bytes, sizeof(account));
		if (!account.balanced)
			return false;
	}

	return true;
}

/* Takes the replies that have come. */
static void take_answers(struct fixture *fixture)
{
	static unsigned char bytes[PAGE];
	struct hbm_wire_query_reply reply;
	ssize_t n;

	while ((n = recv(fixture->client, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		memcpy(&reply, bytes, sizeof(reply.header));
		if (reply.header.opcode == HBM_WIRE_HELLO)
			continue;

		assert_in_range(n, sizeof(reply), sizeof(bytes));
		memcpy(&reply, bytes, sizeof(reply));
		assert_int_equal(reply.header.status, HBM_OK);
		assert_int_equal(reply.header.id, ++fixture->answers);
		fixture->balanced[fixture->answers] = is_balanced(&reply, bytes + sizeof(reply));
	}
}

static bool look_on(struct background *background)
{
	struct fixture *fixture = container_of(background, struct fixture, onlooker);

	fixture->look(fixture);

	return fixture->rig.hbmd.verification != NULL;
}

/* Begins the first; the others come while it goes on. */
static void begin(struct fixture *fixture, void (*look)(struct fixture *fixture))
{
	fixture->look = look;
	fixture->onlooker.run = look_on;
	for (struct list *node; (node = list_pop_front(&fixture->parked));)
		serve_verify(&fixture->rig.hbmd, container_of(node, struct request, link));

	assert_non_null(fixture->rig.hbmd.verification);
	loop_background(fixture->rig.loop, &fixture->onlooker);
}

/* After the first answer a count is off: the next ones, and they alone, say so. */
static void spoil_after_the_first(struct fixture *fixture)
{
	unsigned before = fixture->answers;

	take_answers(fixture);
	if (before == fixture->answers)
		return;

	assert_int_equal(fixture->answers, before == 0 ? 1 : REQUESTS);
	if (before == 0)
		cache_hbm(fixture->rig.hbmd.cache, 0)->placed++;
}

static void those_that_come_meanwhile_share_the_next(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture, spoil_after_the_first);
	rig_run(&fixture->rig, are_answered, fixture);
	assert_true(fixture->balanced[1]);
	assert_false(fixture->balanced[2]);
	cache_hbm(fixture->rig.hbmd.cache, 0)->placed--;
}

/* As of a moment after its arrival: what goes wrong while it waits is in its answer. */
static void the_first_one_is_as_of_its_end(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture, take_answers);
	cache_hbm(fixture->rig.hbmd.cache, 0)->placed++;
	rig_run(&fixture->rig, are_answered, fixture);
	assert_false(fixture->balanced[1]);
	assert_false(fixture->balanced[2]);
	cache_hbm(fixture->rig.hbmd.cache, 0)->placed--;
}

static bool is_over(void *arg)
{
	return !((struct fixture *)arg)->rig.hbmd.verification;
}

static void nothing(struct fixture *fixture)
{
	(void)fixture;
}

/* Its requests end with the audits that they wait for, and it with them. */
static void a_client_that_leaves_is_audited_for(void **state)
{
	struct fixture *fixture = *state;

	begin(fixture, nothing);
	session_end(fixture->session);
	assert_int_equal(fixture->freed, 0);
	rig_run(&fixture->rig, is_over, fixture);
	assert_int_equal(fixture->freed, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(those_that_come_meanwhile_share_the_next),
		TEST(the_first_one_is_as_of_its_end),
		TEST(a_client_that_leaves_is_audited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
