/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A salt and the numbers of others: a client that does not know the salt does not find it,
 * and no number lets it in. Each line of the table in SECURITY.md, with test_visible.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/support/memory_search.h"
#include "tests/support/two_users.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- The salt ---- */

static void fingerprint_of(const struct hbm_wire_namespace_spec *guess, uint8_t fingerprint[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(guess, sizeof(*guess)));
	memcpy(fingerprint, canonical.digest, sizeof(canonical.digest));
}

/* "tenant-" and three letters or digits: as many as a laptop tries in 10 ms. */
static void test_a_salt_is_not_found_from_the_fingerprint(void **state)
{
	(void)state;
	static const char characters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	const unsigned base = sizeof(characters) - 1;
	struct hbm_wire_namespace_spec guess = tenant_spec;
	uint8_t shown[16], fingerprint[16];
	two_users_needed();

	const struct hbm_wire_namespace *record =
		two_users_record(two_users_query(tenant, HBM_QUERY_NAMESPACES), 0);
	memcpy(shown, record->fingerprint, sizeof(shown));
	assert_int_equal(record->salted, 1);

	for (unsigned i = 0; i < base * base * base; i++) {
		guess.salt[7] = characters[i % base];
		guess.salt[8] = characters[i / base % base];
		guess.salt[9] = characters[i / base / base];
		fingerprint_of(&guess, fingerprint);
		assert_memory_not_equal(fingerprint, shown, sizeof(shown));
	}

	memset(guess.salt, 0, sizeof(guess.salt));
	fingerprint_of(&guess, fingerprint);
	assert_memory_equal(fingerprint, shown, sizeof(shown));
}

static void test_a_wrong_salt_opens_another_namespace(void **state)
{
	(void)state;
	struct hbm_wire_namespace_spec wrong = tenant_spec;
	two_users_needed();

	wrong.salt[9] = 'r';
	uint32_t number = two_users_open(other, &wrong);
	assert_int_not_equal(number, tenant_ns);
	two_users_region(other);
	assert_int_equal(two_users_load(other, number, 1), HBM_MISS);
	assert_int_equal(two_users_load(other, number, ABSENT), HBM_MISS);

	const struct raw_keys lookup = two_users_keys(HBM_WIRE_LOOKUP, number, 1);
	assert_int_equal(two_users_result(other, &lookup).status, HBM_MISS);
	assert_int_equal(two_users_result(other, &lookup).tier, HBM_TIER_NONE);

	assert_int_equal(two_users_open(other, &tenant_spec), tenant_ns); /* the right one does */
	assert_int_equal(two_users_load(other, tenant_ns, 1), HBM_OK);
}

/* An open that is closed again: its status. */
static int guess(int socket, const char *salt)
{
	struct hbm_wire_namespace_open open = {.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
					       .spec = tenant_spec};
	struct hbm_wire_namespace_ref close_it = {
		.header = RAW_HEADER(NAMESPACE_CLOSE, sizeof(close_it))};

	memset(open.spec.salt, 0, sizeof(open.spec.salt));
	snprintf(open.spec.salt, sizeof(open.spec.salt), "%s", salt);
	int status = raw_ask(socket, &open, sizeof(open));

	/* What it was given is the lowest number that is free. */
	for (close_it.ns = tenant_ns + 1; status == HBM_OK && close_it.ns < 10; close_it.ns++)
		if (raw_ask(socket, &close_it, sizeof(close_it)) == HBM_OK)
			break;

	return status;
}

/* At the limit the right salt is no better than a wrong one, in a new session neither. */
static void test_salts_are_guessed_slowly(void **state)
{
	(void)state;
	char salt[HBM_WIRE_NAME_BYTES];
	unsigned wrong = 0;
	two_users_needed();

	do {
		snprintf(salt, sizeof(salt), "guess-%u", wrong++);
	} while (wrong < 10000 && guess(other, salt) == HBM_OK);
	assert_in_range(wrong, 256, 9999);

	/* Seconds that pass meanwhile allow one more each, which a wrong one uses up. */
	int second = two_users_greet(OTHER);
	unsigned tried = 0;
	while (guess(second, TWO_USERS_SALT) == HBM_OK && tried++ < 10000)
		guess(second, "wrong again");
	assert_in_range(tried, 0, 9999);
	close(second);

	second = two_users_greet(TENANT);
	assert_int_equal(two_users_open(second, &tenant_spec), tenant_ns);
	close(second);
}

/* The daemon has done with what the session sent before. */
static void ping(int socket)
{
	const struct hbm_wire_header message = RAW_HEADER(PING, sizeof(message));
	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
}

/* Not in what a core dump holds; and nowhere once the namespace is forgotten. */
static void test_a_salt_in_the_daemons_memory(void **state)
{
	(void)state;
	static const char salt[] = TWO_USERS_SALT;
	const struct hbm_wire_namespace_drop drop = {
		.header = RAW_HEADER(NAMESPACE_DROP, sizeof(drop)), .ns = tenant_ns};
	struct hbm_wire_amount dropped;
	struct hbm_wire_namespace_open broken = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(broken)), .spec = tenant_spec};
	two_users_needed();

	broken.spec.block_bytes = 0;
	assert_int_equal(raw_ask(tenant, &broken, sizeof(broken)), HBM_INVALID);
	memset(broken.spec.model, 'x', sizeof(broken.spec.model));
	assert_int_equal(raw_ask(tenant, &broken, sizeof(broken)), HBM_INVALID);

	ping(tenant);
	struct memory_search found = memory_search(daemon_.pid, salt, sizeof(salt) - 1);
	assert_int_equal(found.dumped, 0);
	assert_int_equal(found.hidden, 1);

	raw_call(tenant, &drop, &dropped, sizeof(dropped));
	assert_int_equal(dropped.blocks, TWO_USERS_BLOCKS);
	const struct hbm_wire_namespace_ref close_it = {
		.header = RAW_HEADER(NAMESPACE_CLOSE, sizeof(close_it)), .ns = tenant_ns};
	assert_int_equal(raw_ask(tenant, &close_it, sizeof(close_it)), HBM_OK);
	ping(tenant);
	found = memory_search(daemon_.pid, salt, sizeof(salt) - 1);
	assert_int_equal(found.dumped + found.hidden, 0);
}

static void test_a_core_dump_holds_no_blocks_of_ddr(void **state)
{
	(void)state;
	two_users_needed();
	assert_true(memory_search_dumps(daemon_.pid, "[stack]"));
	assert_false(memory_search_dumps(daemon_.pid, "hbmd-ddr"));
}

static void test_what_is_logged(void **state)
{
	(void)state;
	char key[2 * HBM_WIRE_KEY_BYTES + 1];
	const struct hbm_wire_key first = two_users_key(1);
	two_users_needed();

	for (size_t i = 0; i < sizeof(first.bytes); i++)
		snprintf(key + 2 * i, 3, "%02x", first.bytes[i]);

	close(tenant);
	tenant = two_users_greet(TENANT);
	assert_int_equal(two_users_open(tenant, &tenant_spec), tenant_ns);
	assert_false(spawn_logged(&daemon_, TWO_USERS_SALT));
	assert_false(spawn_logged(&daemon_, tenant_spec.model));
	assert_false(spawn_logged(&daemon_, key));
	assert_true(spawn_logged(&daemon_, "session ")); /* it does log */
}

/* ---- Numbers ---- */

/* Sends a request for a namespace that the session does not have open. */
static void expect_not_open(int socket, const void *message, uint32_t number)
{
	char reason[HBM_WIRE_REASON_BYTES];

	snprintf(reason, sizeof(reason), "namespace %u is not open in this session", number);
	raw_refused(socket, message, HBM_NOT_FOUND, reason);
}

/* Every request that names one; the answer does not depend on block or number. */
static void expect_nothing_of(int socket, uint32_t number, uint64_t block)
{
	static const unsigned with_keys[] = {HBM_WIRE_LOOKUP, HBM_WIRE_TOUCH, HBM_WIRE_PIN,
					     HBM_WIRE_UNPIN, HBM_WIRE_REMOVE};
	static const unsigned with_blocks[] = {HBM_WIRE_STORE, HBM_WIRE_LOAD};
	const struct raw_keys prefetch = two_users_keys(HBM_WIRE_PREFETCH, number, block);
	const struct hbm_wire_count count = {
		.header = RAW_HEADER(COUNT, sizeof(count)), .ns = number, .key = prefetch.key};
	const struct hbm_wire_watch watch = {.header = RAW_HEADER(WATCH, sizeof(watch)),
					     .ns = number};
	const struct hbm_wire_namespace_ref close_it = {
		.header = RAW_HEADER(NAMESPACE_CLOSE, sizeof(close_it)), .ns = number};
	const struct hbm_wire_namespace_ref open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)), .ns = number};
	const struct hbm_wire_namespace_drop drop = {
		.header = RAW_HEADER(NAMESPACE_DROP, sizeof(drop)), .ns = number};

	for (size_t i = 0; i < sizeof(with_keys) / sizeof(with_keys[0]); i++) {
		const struct raw_keys message = two_users_keys(with_keys[i], number, block);
		expect_not_open(socket, &message, number);
	}

	for (size_t i = 0; i < sizeof(with_blocks) / sizeof(with_blocks[0]); i++) {
		const struct raw_blocks message = two_users_blocks(with_blocks[i], number, block);
		expect_not_open(socket, &message, number);
	}

	raw_refused(socket, &prefetch, HBM_NOT_FOUND, "the namespace is not open in this session");
	expect_not_open(socket, &count, number);
	expect_not_open(socket, &watch, number);
	expect_not_open(socket, &close_it, number);
	expect_not_open(socket, &drop, number);
	raw_refused(socket, &open, HBM_DENIED,
		    "only uid 0 and the daemon's uid open a namespace by number");
}

static void test_the_number_of_a_namespace_is_no_permission(void **state)
{
	(void)state;
	two_users_needed();
	const uint32_t numbers[] = {tenant_ns, tenant_ns + 1, 0, UINT16_MAX + 1 + tenant_ns,
				    UINT32_MAX};

	two_users_region(other);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		expect_nothing_of(other, numbers[i], 1);
		expect_nothing_of(other, numbers[i], ABSENT);
	}

	/* The same for a session of the tenant's uid, which has not said the salt. */
	int second = two_users_greet(TENANT);
	two_users_region(second);
	expect_nothing_of(second, tenant_ns, 1);
	close(second);
}

static void test_the_number_of_a_region_is_no_permission(void **state)
{
	(void)state;
	const struct hbm_wire_namespace_spec own = {.model = "own", .block_bytes = TWO_USERS_BLOCK};
	two_users_needed();

	uint32_t number = two_users_open(other, &own);
	struct raw_blocks message = two_users_blocks(HBM_WIRE_STORE, number, 1);
	raw_refused(other, &message, HBM_NOT_FOUND, "segment 0: no region 1");
	message.segment.region = 77;
	raw_refused(other, &message, HBM_NOT_FOUND, "segment 0: no region 77");

	struct raw_ranges decommit = {
		.head = {.header = RAW_HEADER(DECOMMIT, sizeof(decommit)), .count = 1},
		.range = {.region = 1, .bytes = TWO_USERS_SLAB}};
	raw_refused(other, &decommit, HBM_NOT_FOUND,
		    "a range names no region, or is not committed");
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = 1};
	raw_refused(other, &destroy, HBM_NOT_FOUND, "no region 1");
}

static void test_the_number_of_a_session_is_no_permission(void **state)
{
	(void)state;
	struct hbm_wire_session_ref end = {.header = RAW_HEADER(SESSION_END, sizeof(end))};
	two_users_needed();

	const struct hbm_wire_session *record =
		two_users_record(two_users_query(tenant, HBM_QUERY_SESSIONS), 0);
	const uint64_t numbers[] = {record->session, record->session + 1, UINT64_MAX};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		end.session = numbers[i];
		raw_refused(other, &end, HBM_DENIED,
			    "only uid 0 and the daemon's uid end other sessions");
	}

	ping(tenant);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, two_users_setup, two_users_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_salt_is_not_found_from_the_fingerprint),
		TEST(test_a_wrong_salt_opens_another_namespace),
		TEST(test_salts_are_guessed_slowly),
		TEST(test_a_salt_in_the_daemons_memory),
		TEST(test_a_core_dump_holds_no_blocks_of_ddr),
		TEST(test_what_is_logged),
		TEST(test_the_number_of_a_namespace_is_no_permission),
		TEST(test_the_number_of_a_region_is_no_permission),
		TEST(test_the_number_of_a_session_is_no_permission),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
