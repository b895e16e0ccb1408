/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, as clients see them: isolation, when one is forgotten, and the drop of all its
 * blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"

#include <signal.h>
#include <string.h>

static void test_namespaces_share_nothing(void **state)
{
	(void)state;
	const struct hbm_namespace_options specs[] = {
		{.model = "kv", .block_bytes = KV_STAGE_BLOCK, .salt = "a secret"},
		{.model = "kv", .block_bytes = KV_STAGE_BLOCK, .weights = 1},
		{.model = "kv", .block_bytes = KV_STAGE_BLOCK, .layout = "other"},
		{.model = "kv2", .block_bytes = KV_STAGE_BLOCK},
		{.model = "kv", .block_bytes = KV_STAGE_BLOCK / 2},
	};
	uint32_t own = kv.ns, ns, again;
	kv_stage_store(1, 4, 0);

	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct hbm_lookup answer;
		hbm_key key = kv_key(1);

		assert_int_equal(hbm_namespace_open(kv.hbm, &specs[i], &ns), 0);
		assert_int_equal(hbm_namespace_open(kv.hbm, &specs[i], &again), 0);
		assert_int_equal(ns, again);
		assert_int_not_equal(ns, own);
		assert_int_equal(hbm_lookup(kv.hbm, ns, &key, 1, &answer, NULL), 0);
		assert_int_equal(answer.resident, 0);
		assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_REMOVE, ns, 0, &key, 1, results), 0);
		assert_int_equal(results[0].status, HBM_MISS);
		assert_int_equal(hbm_namespace_close(kv.hbm, ns),
				 0); /* a session opens it once, however often */
		assert_int_equal(hbm_namespace_close(kv.hbm, ns), HBM_NOT_FOUND);
		assert_int_equal(hbm_lookup(kv.hbm, ns, &key, 1, &answer, NULL), HBM_NOT_FOUND);
	}

	kv_stage_load(1, 4);
}

static int count_records(const void *record, size_t size, void *arg)
{
	(void)record;
	(void)size;
	++*(unsigned *)arg;
	return 0;
}

static unsigned namespaces(void)
{
	unsigned count = 0;
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, count_records, &count), 0);
	return count;
}

/* Once no session has it open, and no block of it is left. */
static void test_a_namespace_is_forgotten(void **state)
{
	(void)state;
	const struct hbm_namespace_options options = {.model = "another",
						      .block_bytes = KV_STAGE_BLOCK};
	uint32_t own = kv.ns;
	hbm_key key = kv_key(1);

	assert_int_equal(namespaces(), 1);
	for (int twice = 0; twice < 2; twice++)
		assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	assert_int_equal(namespaces(), 2);
	assert_int_equal(hbm_namespace_close(kv.hbm, kv.ns), 0);
	assert_int_equal(namespaces(), 1);

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	kv_stage_store(1, 1, 0);
	assert_int_equal(hbm_namespace_close(kv.hbm, kv.ns), 0);
	assert_int_equal(namespaces(), 2);
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_REMOVE, kv.ns, 0, &key, 1, results), 0);
	kv_stage_expect(1, HBM_OK);
	assert_int_equal(hbm_namespace_close(kv.hbm, kv.ns), 0);
	assert_int_equal(namespaces(), 1);

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	kv_stage_store(1, 1, 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), 0);
	assert_int_equal(namespaces(), 2);
	assert_int_equal(hbm_namespace_close(kv.hbm, kv.ns), 0);
	assert_int_equal(namespaces(), 1);
	kv.ns = own;
}

static void test_namespaces_that_cannot_be(void **state)
{
	(void)state;
	char long_name[HBM_WIRE_NAME_BYTES + 1] = {0};
	memset(long_name, 'x', HBM_WIRE_NAME_BYTES);
	uint32_t ns = 0;
	const struct hbm_namespace_options bad[] = {
		{.model = "m", .block_bytes = 0},
		{.model = long_name, .block_bytes = 4096},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(hbm_namespace_open(kv.hbm, &bad[i], &ns), HBM_INVALID);
	assert_int_not_equal(hbm_namespace_open(kv.hbm,
						&(struct hbm_namespace_options){
							.model = "m", .block_bytes = 1ull << 40},
						&ns),
			     0);
	assert_int_equal(ns, 0);
	assert_int_equal(hbm_namespace_close(kv.hbm, 999), HBM_NOT_FOUND);
}

/* ---- Dropping a namespace ---- */

static int see_pinned(const void *record, size_t size, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	(void)size;
	*(uint64_t *)arg += tier->pinned;
	return 0;
}

static uint64_t pinned(void)
{
	uint64_t bytes = 0;
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, see_pinned, &bytes), 0);
	return bytes;
}

static int see_entries(const void *record, size_t size, void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	(void)size;
	*(uint64_t *)arg += ns->blocks;
	return 0;
}

/* Entries of the index, those of dropped blocks that a pin still keeps too. */
static uint64_t entries(void)
{
	uint64_t count = 0;
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, see_entries, &count), 0);
	return count;
}

static void test_a_namespace_is_dropped(void **state)
{
	(void)state;
	struct kv other;
	struct hbm_namespace_options options = {.model = "another", .block_bytes = KV_STAGE_BLOCK};
	uint32_t own = kv.ns, ns;
	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 4);
	kv_stage_press(1);
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), 0);
	kv.ns = ns;
	kv_stage_store(1, 4, 0);

	assert_int_equal(hbm_namespace_drop(kv.hbm, own, 0, NULL), 0);
	assert_int_equal(kv_stage_blocks(kv.hbm).blocks, 4);
	kv_stage_load(1, 4); /* those of the other namespace */
	kv.ns = own;
	assert_int_equal(kv_lookup(&other, 1, 4, NULL), 0);
	assert_int_equal(kv_load(&other, 0, 1, 4, results), 0);
	kv_stage_expect(4, HBM_MISS);

	kv_stage_store(1, 4, 0); /* it is open still, and takes blocks again */
	assert_int_equal(kv_lookup(&other, 1, 4, NULL), 4);
	kv_close(&other);

	assert_int_equal(hbm_namespace_close(kv.hbm, ns), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, ns, 0, NULL), HBM_NOT_FOUND);
	assert_int_equal(hbm_namespace_drop(kv.hbm, 999, HBM_WIRE_PINNED, NULL), HBM_NOT_FOUND);
}

static void test_pins_of_others_keep_a_namespace(void **state)
{
	(void)state;
	struct kv other;
	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 1);
	kv_stage_store(1, 8, 0);
	kv_stage_keys(HBM_WIRE_PIN, 8, 1, HBM_OK); /* its own are no obstacle */
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), 0);
	assert_int_equal(kv_stage_blocks(kv.hbm).blocks, 0);
	assert_int_equal(pinned(), 0);
	assert_int_equal(entries(), 0);

	kv_stage_store(1, 8, 0);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 8, 1, 0, results), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), HBM_DENIED);
	kv_stage_load(1, 8);
	assert_int_equal(kv_keys(&other, HBM_WIRE_UNPIN, 8, 1, 0, results), 0);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 4, 1, HBM_WIRE_KEEP, results), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), HBM_DENIED);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 5, 1, 0, results), 0);
	kv_stage_load(1, 8);

	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, HBM_WIRE_PINNED, NULL), 0);
	assert_int_equal(kv_stage_blocks(kv.hbm).blocks, 0);
	assert_int_equal(pinned(), 0);
	assert_int_equal(entries(), 0);
	kv_stage_store(1, 8, 0);
	assert_int_equal(kv_keys(&other, HBM_WIRE_UNPIN, 5, 1, 0, results), 0);
	kv_stage_expect(1, HBM_NOT_FOUND);
	kv_stage_keys(HBM_WIRE_PIN, 4, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 4, 1, HBM_OK);
	kv_close(&other);
}

/* More blocks than one step drops: what is asked on its heels finds none of them, and what
 * is stored on its heels is refused or stays. */
static void test_a_drop_is_one_moment(void **state)
{
	(void)state;
	struct spawn daemon;
	struct kv small;
	hbm_ticket first, second;
	kv_stage_open_small(&daemon, &small);
	kv_stage_store_many(&small);
	assert_int_equal(kv_stage_blocks(small.hbm).blocks, KV_STAGE_MANY);

	/* Both are there when the daemon looks: the second joins the first. */
	struct hbm_amount dropped[2] = {{0}};
	assert_int_equal(kill(daemon.pid, SIGSTOP), 0);
	assert_int_equal(hbm_submit_namespace_drop(small.hbm, small.ns, 0, &dropped[0], &first), 0);
	assert_int_equal(hbm_submit_namespace_drop(small.hbm, small.ns, 0, &dropped[1], &second),
			 0);
	assert_int_equal(kill(daemon.pid, SIGCONT), 0);
	assert_int_equal(kv_keys(&small, HBM_WIRE_TOUCH, KV_STAGE_MANY - 1000, 1000, 0, results),
			 0);
	kv_stage_expect(1000, HBM_MISS);
	assert_int_equal(kv_lookup(&small, 1, 1000, NULL), 0);
	assert_int_equal(kv_store(&small, 0, KV_STAGE_MANY + 1, 1, 0, results), 0);
	bool stored = results[0].status == HBM_OK;
	if (!stored)
		kv_stage_expect(1, HBM_NOT_FOUND);

	assert_int_equal(hbm_wait(small.hbm, first, -1), 0);
	assert_int_equal(hbm_wait(small.hbm, second, -1), 0);
	assert_int_equal(kv_stage_blocks(small.hbm).blocks, stored);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(dropped[i].blocks, KV_STAGE_MANY);
		assert_int_equal(dropped[i].bytes, (uint64_t)KV_STAGE_MANY * KV_STAGE_SMALL);
	}

	kv_stage_close_small(&daemon, &small);
}

enum { MANY_PINS = 20000 }; /* of one block: more than are passed in a turn of the loop */

static void pin_often(struct kv *session, uint64_t block)
{
	hbm_key named[1000];

	for (size_t i = 0; i < 1000; i++)
		named[i] = kv_key(block);
	for (size_t pins = 0; pins < MANY_PINS; pins += 1000) {
		assert_int_equal(
			hbm_keys(session->hbm, HBM_WIRE_PIN, session->ns, 0, named, 1000, results),
			0);
		kv_stage_expect(1000, HBM_OK);
	}
}

/* Another drop begins while the pins of the first are counted: both have one end. */
static void test_drops_of_a_namespace_with_many_pins(void **state)
{
	(void)state;
	struct kv other;
	struct hbm_amount dropped[2] = {{0}};
	hbm_ticket tickets[2];
	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 1);
	kv_stage_store(1, 8, 0);
	pin_often(&kv, 8);

	assert_int_equal(hbm_namespace_drop(other.hbm, kv.ns, 0, NULL), HBM_DENIED);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 8, 1, 0, results), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), HBM_DENIED);
	assert_int_equal(kv_keys(&other, HBM_WIRE_UNPIN, 8, 1, 0, results), 0);

	assert_int_equal(kill(daemon_.pid, SIGSTOP), 0);
	assert_int_equal(hbm_submit_namespace_drop(kv.hbm, kv.ns, 0, &dropped[0], &tickets[0]), 0);
	assert_int_equal(hbm_submit_namespace_drop(other.hbm, other.ns, HBM_WIRE_PINNED,
						   &dropped[1], &tickets[1]),
			 0);
	assert_int_equal(kill(daemon_.pid, SIGCONT), 0);
	assert_int_equal(hbm_wait(kv.hbm, tickets[0], -1), 0);
	assert_int_equal(hbm_wait(other.hbm, tickets[1], -1), 0);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(dropped[i].blocks, 8);

	assert_int_equal(pinned(), 0);
	assert_int_equal(entries(), 0);
	kv_close(&other);
}

/* A session ends while its pins are counted, or taken along by another's drop. */
static void test_a_session_ends_while_its_pins_are_passed(void **state)
{
	(void)state;

	for (int round = 0; round < 4; round++) {
		bool own = round % 2 == 0;
		struct kv other;
		hbm_ticket ticket;
		kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 1);
		kv_stage_store(1, 8, 0);
		pin_often(&other, 8);

		struct kv *who = own ? &other : &kv;
		assert_int_equal(kill(daemon_.pid, SIGSTOP), 0);
		assert_int_equal(hbm_submit_namespace_drop(who->hbm, who->ns,
							   own ? 0 : HBM_WIRE_PINNED, NULL,
							   &ticket),
				 0);
		assert_int_equal(kill(daemon_.pid, SIGCONT), 0);
		kv_close(&other);
		if (!own)
			assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);

		assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, HBM_WIRE_PINNED, NULL), 0);
		assert_int_equal(pinned(), 0);
		assert_int_equal(entries(), 0);
	}
}

/* At the limit of pins, those of blocks that are gone make room. */
static void test_pins_that_were_taken_along_make_room(void **state)
{
	(void)state;
	struct kv other;
	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 1);
	kv_stage_store(1, 8, 0);
	pin_often(&other, 8);
	pin_often(&other, 7);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, HBM_WIRE_PINNED, NULL), 0);
	assert_int_equal(entries(), 0);

	kv_stage_store(1, 8, 0);
	for (int i = 0; i < 3; i++)
		pin_often(&other, 8);
	kv_close(&other);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, HBM_WIRE_PINNED, NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_namespaces_share_nothing),
		TEST(test_a_namespace_is_forgotten),
		TEST(test_namespaces_that_cannot_be),
		TEST(test_a_namespace_is_dropped),
		TEST(test_pins_of_others_keep_a_namespace),
		TEST(test_a_drop_is_one_moment),
		TEST(test_drops_of_a_namespace_with_many_pins),
		TEST(test_a_session_ends_while_its_pins_are_passed),
		TEST(test_pins_that_were_taken_along_make_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
