/* SPDX-License-Identifier: Apache-2.0 */
/* event_ring: which events a reader gets, and what it is told of those that are gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/cache/event_ring.h"
#include "daemon/config/config.h"

static struct config config;
static struct ledger ledger;
static struct event_ring *ring;
static struct hbm_wire_watched reply;
static uint64_t added; /* so many events, each with its own key */

static int setup(void **state)
{
	(void)state;
	assert_int_equal(config_defaults(&config), 0);
	ledger_open(&ledger, &config);
	ring = event_ring_new(&ledger.host, 0);
	assert_non_null(ring);
	added = 0;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ring = event_ring_free(ring);
	assert_int_equal(ledger_used(&ledger.host, LEDGER_WATCHED), 0);
	config_clear(&config);

	return 0;
}

static void add(uint64_t count)
{
	for (; count > 0; count--, added++) {
		struct hbm_wire_key key = {{0}};

		memcpy(key.bytes, &added, sizeof(added));
		event_ring_add(ring, &key, HBM_CACHE_MOVED, HBM_TIER_HBM, HBM_TIER_DDR);
	}
}

/* Reads behind `after`: events [first, + count) of those that were added. */
static uint64_t expect(uint64_t after, uint32_t most, uint64_t first, uint32_t count,
		       uint64_t missed)
{
	assert_true(event_ring_read(ring, after, most, &reply));
	assert_int_equal(reply.count, count);
	assert_int_equal(reply.missed, missed);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t number = first + i;

		assert_memory_equal(reply.events[i].key.bytes, &number, sizeof(number));
		assert_int_equal(reply.events[i].event, HBM_CACHE_MOVED);
		assert_int_equal(reply.events[i].from, HBM_TIER_HBM);
		assert_int_equal(reply.events[i].to, HBM_TIER_DDR);
	}

	return reply.last;
}

static void test_from_the_beginning(void **state)
{
	(void)state;
	uint64_t at = expect(0, 10, 0, 0, 0);

	assert_int_not_equal(at, 0);
	at = expect(at, 10, 0, 0, 0);
	add(3);
	at = expect(at, 10, 0, 3, 0);
	at = expect(at, 10, 0, 0, 0);
	add(1);
	expect(at, 10, 3, 1, 0);

	/* Another reader begins where it comes. */
	at = expect(0, 10, 0, 0, 0);
	add(1);
	expect(at, 10, 4, 1, 0);
}

static void test_some_at_a_time(void **state)
{
	(void)state;
	uint64_t at = expect(0, 1, 0, 0, 0);

	add(HBM_WIRE_WATCH_MAX + 5);
	at = expect(at, 2, 0, 2, 0);
	at = expect(at, UINT32_MAX, 2, HBM_WIRE_WATCH_MAX, 0);
	expect(at, UINT32_MAX, HBM_WIRE_WATCH_MAX + 2, 3, 0);
}

static void test_what_is_gone(void **state)
{
	(void)state;
	uint64_t begin = expect(0, 1, 0, 0, 0), at;

	add(EVENT_RING_KEPT);
	expect(begin, 1, 0, 1, 0);
	add(1);
	expect(begin, 1, 1, 1, 1);
	add(10 * EVENT_RING_KEPT);
	at = expect(begin, 1, 10 * EVENT_RING_KEPT + 1, 1, 10 * EVENT_RING_KEPT + 1);
	expect(at, 1, 10 * EVENT_RING_KEPT + 2, 1, 0);
}

static void test_what_has_not_been(void **state)
{
	(void)state;
	uint64_t at = expect(0, 1, 0, 0, 0);

	assert_false(event_ring_read(ring, at + 1, 1, &reply));
	assert_false(event_ring_read(ring, UINT64_MAX, 1, &reply));
	add(1);
	expect(at + 1, 1, 0, 0, 0);
	assert_false(event_ring_read(ring, at + 2, 1, &reply));
}

static void test_the_limit(void **state)
{
	(void)state;
	event_ring_add(NULL, &(struct hbm_wire_key){{1}}, HBM_CACHE_STORED, HBM_TIER_NONE,
		       HBM_TIER_HBM);
	ledger_set_limit(&ledger.host, LEDGER_WATCHED, 1);
	assert_null(event_ring_new(&ledger.host, 0));
	assert_int_equal(ledger_used(&ledger.host, LEDGER_WATCHED), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_from_the_beginning), TEST(test_some_at_a_time), TEST(test_what_is_gone),
		TEST(test_what_has_not_been),  TEST(test_the_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
