/* SPDX-License-Identifier: Apache-2.0 */
/* What requests on keys and namespaces look like on the wire, what is refused before it
 * is sent, and their answers. */
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int setup(void **state)
{
	(void)state;
	fake_stage_open(0);
	fake_stage_connect();
	return 0;
}

static const hbm_key keys[3] = {{{1}}, {{2}}, {{[15] = 3}}};

static const void *last(unsigned int opcode, size_t size)
{
	fake_await(&fake, opcode, 1);
	const struct hbm_wire_header *header = fake.last;
	assert_int_equal(header->opcode, opcode);
	assert_int_equal(header->size, size);
	assert_int_equal(header->flags, 0);
	assert_int_equal(header->status, 0);
	assert_int_equal(header->zero, 0);

	return header;
}

/* ---- Keys ---- */

static bool answer_lookup(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_LOOKUP)
		return false;

	const struct hbm_wire_result results[] = {
		{HBM_OK, HBM_TIER_DDR, 0}, {HBM_OK, HBM_TIER_NVME, 0}, {HBM_MISS, 0, 0}};
	union {
		struct hbm_wire_results head;
		char bytes[sizeof(struct hbm_wire_results) + sizeof(results)];
	} reply = {.head = {.count = 3, .done = 2, .load_ns = 12345}};
	memcpy(reply.head.results, results, sizeof(results));

	return fake_reply_message(self, request, &reply, sizeof(reply.bytes), NULL, 0);
}

static void test_lookup(void **state)
{
	(void)state;
	struct hbm_lookup answer;
	hbm_result results[3];
	fake.answer = answer_lookup;
	assert_int_equal(hbm_lookup(hbm, 9, keys, 3, &answer, results), 0);
	const struct hbm_wire_keys *message =
		last(HBM_WIRE_LOOKUP, sizeof(*message) + sizeof(keys));
	assert_int_equal(message->ns, 9);
	assert_int_equal(message->count, 3);
	assert_int_equal(message->device, 0);
	assert_int_equal(message->flags, 0);
	assert_int_equal(message->deadline_us, 0);
	assert_memory_equal(message->keys, keys, sizeof(keys));
	assert_int_equal(answer.resident, 2);
	assert_int_equal(answer.load_ns, 12345);
	assert_int_equal(results[0].tier, HBM_TIER_DDR);
	assert_int_equal(results[1].tier, HBM_TIER_NVME);
	assert_int_equal(results[2].status, HBM_MISS);

	/* Both answers are optional. */
	assert_int_equal(hbm_lookup(hbm, 9, keys, 3, NULL, NULL), 0);
}

static void test_prefetch(void **state)
{
	(void)state;
	assert_int_equal(hbm_prefetch(hbm, 9, 1, keys, 3, 5000, NULL), 0);
	const struct hbm_wire_keys *message =
		last(HBM_WIRE_PREFETCH, sizeof(*message) + sizeof(keys));
	assert_int_equal(message->device, 1);
	assert_int_equal(message->deadline_us, 5000);
	assert_int_equal(hbm_prefetch(hbm, 9, FAKE_DEVICES, keys, 3, 0, NULL), HBM_INVALID);
}

static void test_touch_pin_unpin_remove(void **state)
{
	(void)state;
	static const enum hbm_wire_opcode ops[] = {HBM_WIRE_TOUCH, HBM_WIRE_PIN, HBM_WIRE_UNPIN,
						   HBM_WIRE_REMOVE};
	for (size_t i = 0; i < 4; i++) {
		bool pin = ops[i] == HBM_WIRE_PIN || ops[i] == HBM_WIRE_UNPIN;

		assert_int_equal(hbm_keys(hbm, ops[i], 9, HBM_WIRE_KEEP, keys, 1, NULL),
				 pin ? 0 : HBM_UNSUPPORTED);

		if (pin) {
			const struct hbm_wire_keys *message =
				last(ops[i], sizeof(*message) + sizeof(keys[0]));
			assert_int_equal(message->flags, HBM_WIRE_KEEP);
		}

		assert_int_equal(hbm_keys(hbm, ops[i], 9, 2, keys, 1, NULL), HBM_UNSUPPORTED);
		assert_int_equal(hbm_keys(hbm, ops[i], 9, 0, keys, 3, NULL), 0);
	}

	assert_int_equal(hbm_keys(hbm, HBM_WIRE_LOOKUP, 9, 0, keys, 3, NULL), HBM_INVALID);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_STORE, 9, 0, keys, 3, NULL), HBM_INVALID);
	assert_int_equal(hbm_keys(hbm, (enum hbm_wire_opcode)99, 9, 0, keys, 3, NULL), HBM_INVALID);
}

static void test_keys_are_checked_here(void **state)
{
	(void)state;
	hbm_key bad[3];
	memcpy(bad, keys, sizeof(bad));
	memset(&bad[1], 0, sizeof(bad[1]));
	assert_int_equal(hbm_lookup(hbm, 1, bad, 3, NULL, NULL), HBM_INVALID);
	assert_string_equal(hbm_error(hbm), "key 1 is all zero, which is reserved");
	assert_int_equal(hbm_lookup(hbm, 1, bad, 0, NULL, NULL), HBM_INVALID);
	assert_int_equal(hbm_lookup(hbm, 1, bad, SIZE_MAX, NULL, NULL), HBM_LIMIT);
	assert_int_equal(fake.seen[HBM_WIRE_LOOKUP], 0);
}

static void test_the_longest_message(void **state)
{
	(void)state;
	enum { MOST = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_keys)) / sizeof(hbm_key) };
	hbm_key *many = malloc((MOST + 1) * sizeof(*many));
	hbm_result *results = malloc((MOST + 1) * sizeof(*results));
	memset(many, 7, (MOST + 1) * sizeof(*many));
	memset(results, 0xff, (MOST + 1) * sizeof(*results));
	struct hbm_lookup answer;
	assert_int_equal(hbm_lookup(hbm, 1, many, MOST + 1, &answer, results), 0);
	assert_int_equal(fake.seen[HBM_WIRE_LOOKUP], 2);
	assert_int_equal(answer.resident, MOST + 1);
	assert_int_equal(hbm_lookup(hbm, 1, many, MOST, &answer, results), 0);
	assert_int_equal(fake.seen[HBM_WIRE_LOOKUP], 3);
	assert_int_equal(answer.resident, MOST);
	assert_int_equal(results[MOST - 1].tier, HBM_TIER_HBM);
	free(results);
	free(many);
}

/* ---- Namespaces ---- */

static void test_namespace(void **state)
{
	(void)state;
	struct hbm_namespace_options options = {
		.model = "llama", .layout = "L32", .weights = 77, .block_bytes = 65536};
	uint32_t ns = 0;
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	assert_int_equal(ns, 5);
	const struct hbm_wire_namespace_open *open = last(HBM_WIRE_NAMESPACE_OPEN, sizeof(*open));
	assert_string_equal(open->spec.model, "llama");
	assert_string_equal(open->spec.layout, "L32");
	assert_string_equal(open->spec.salt, "");
	assert_int_equal(open->spec.weights, 77);
	assert_int_equal(open->spec.block_bytes, 65536);

	assert_int_equal(hbm_namespace_close(hbm, 5), 0);
	const struct hbm_wire_namespace_ref *close_message =
		last(HBM_WIRE_NAMESPACE_CLOSE, sizeof(*close_message));
	assert_int_equal(close_message->ns, 5);
}

static void test_namespace_drop(void **state)
{
	(void)state;
	struct hbm_amount dropped = {0, 0};
	assert_int_equal(hbm_namespace_drop(hbm, 5, HBM_WIRE_PINNED, &dropped), 0);
	assert_int_equal(dropped.blocks, FAKE_BLOCKS);
	assert_int_equal(dropped.bytes, FAKE_BLOCKS * 65536);
	const struct hbm_wire_namespace_drop *drop = last(HBM_WIRE_NAMESPACE_DROP, sizeof(*drop));
	assert_int_equal(drop->ns, 5);
	assert_int_equal(drop->flags, HBM_WIRE_PINNED);

	hbm_ticket ticket;
	assert_int_equal(hbm_submit_namespace_drop(hbm, 6, 0, NULL, &ticket), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	drop = last(HBM_WIRE_NAMESPACE_DROP, sizeof(*drop));
	assert_int_equal(drop->ns, 6);
	assert_int_equal(drop->flags, 0);
	assert_int_equal(hbm_namespace_drop(hbm, 5, 2, NULL), HBM_UNSUPPORTED);
}

static void test_namespace_attach(void **state)
{
	(void)state;
	uint64_t bytes = 0;
	assert_int_equal(hbm_namespace_attach(hbm, 5, &bytes), 0);
	assert_int_equal(bytes, 65536);
	const struct hbm_wire_namespace_ref *attach =
		last(HBM_WIRE_NAMESPACE_OPEN, sizeof(*attach));
	assert_int_equal(attach->ns, 5);
}

static bool answer_namespace(struct fake *self, const struct hbm_wire_header *request)
{
	struct hbm_wire_namespace_reply reply = *(struct hbm_wire_namespace_reply *)self->arg;
	return request->opcode == HBM_WIRE_NAMESPACE_OPEN &&
	       fake_reply_message(self, request, &reply, sizeof(reply), NULL, 0);
}

static void reconnect(void)
{
	const struct hbm_options options = {.socket = fake.path};
	hbm = hbm_close(hbm);
	assert_int_equal(hbm_connect(&hbm, &options), 0);
}

/* No number, or blocks of no size, or of another than was asked for. */
static void test_wrong_namespaces(void **state)
{
	(void)state;
	struct hbm_wire_namespace_reply replies[] = {{.block_bytes = 4096},
						     {.ns = 1},
						     {.ns = 1, .block_bytes = 4097},
						     {.ns = 1, .block_bytes = 8192}};
	const struct hbm_namespace_options options = {.model = "m", .block_bytes = 4096};
	uint64_t bytes;
	uint32_t ns = 99;
	fake.answer = answer_namespace;
	for (size_t i = 0; i < 4; i++) {
		fake.arg = &replies[i];
		assert_int_equal(hbm_namespace_open(hbm, &options, &ns), -EPROTO);
		reconnect();
		assert_int_equal(hbm_namespace_attach(hbm, 5, &bytes), i < 2 ? -EPROTO : 0);
		reconnect();
	}

	assert_int_equal(ns, 99);
	assert_int_equal(bytes, 8192);
}

static void test_namespaces_are_checked_here(void **state)
{
	(void)state;
	char name[HBM_WIRE_NAME_BYTES + 1] = {0};
	memset(name, 'n', HBM_WIRE_NAME_BYTES - 1);
	uint32_t ns = 0;
	struct hbm_namespace_options options = {
		.model = name, .layout = name, .salt = name, .block_bytes = 4096};
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	name[HBM_WIRE_NAME_BYTES - 1] = 'n';
	for (int i = 0; i < 3; i++) {
		struct hbm_namespace_options wrong = {.model = i == 0 ? name : "m",
						      .layout = i == 1 ? name : NULL,
						      .salt = i == 2 ? name : NULL,
						      .block_bytes = 4096};
		assert_int_equal(hbm_namespace_open(hbm, &wrong, &ns), HBM_INVALID);
	}

	struct hbm_namespace_options sized = {.model = "m", .block_bytes = 0};
	assert_int_equal(hbm_namespace_open(hbm, &sized, &ns), HBM_INVALID);
	assert_int_equal(fake.seen[HBM_WIRE_NAMESPACE_OPEN], 1);

	/* Whether blocks of any other size are possible is for the daemon to say. */
	static const uint64_t sizes[] = {1, 4095, 4097, UINT64_MAX};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		sized.block_bytes = sizes[i];
		assert_int_equal(hbm_namespace_open(hbm, &sized, &ns), 0);
	}
}

/* ---- Operators ---- */

static void test_evict(void **state)
{
	(void)state;
	struct hbm_amount evicted = {0, 0};
	assert_int_equal(hbm_evict(hbm, HBM_TIER_HBM, 1, UINT64_MAX, &evicted), 0);
	assert_int_equal(evicted.blocks, FAKE_BLOCKS);
	assert_int_equal(evicted.bytes, FAKE_BLOCKS * 65536);
	const struct hbm_wire_evict *evict = last(HBM_WIRE_EVICT, sizeof(*evict));
	assert_int_equal(evict->tier, HBM_TIER_HBM);
	assert_int_equal(evict->device, 1);
	assert_true(evict->bytes == UINT64_MAX);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_NVME, 0, 1, NULL), 0);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_NONE, 0, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_evict(hbm, HBM_TIERS, 0, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_DDR, 1, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_HBM, FAKE_DEVICES, 1, NULL), HBM_INVALID);
}

/* An answer without the amount ends the connection, and the caller's stays as it was. */
static bool answer_bare(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_EVICT && fake_reply(self, request, HBM_OK);
}

static void test_evict_without_an_amount(void **state)
{
	(void)state;
	struct hbm_amount evicted = {1, 2};
	fake.answer = answer_bare;
	assert_int_equal(hbm_evict(hbm, HBM_TIER_HBM, 0, 1, &evicted), -EPROTO);
	assert_int_equal(evicted.blocks, 1);
	assert_int_equal(evicted.bytes, 2);
}

/* ---- Fences ---- */

static void test_fences_are_shared(void **state)
{
	(void)state;
	assert_null(hbm_fence(hbm, HBM_WIRE_FENCES));
	assert_null(hbm_fence(hbm, HBM_WIRE_NO_FENCE));
	fake.fence_page[511] = 9;
	assert_int_equal(*hbm_fence(hbm, 511), 9);
	assert_int_equal(hbm_fence_signal(hbm, 3, 17), 0);
	assert_int_equal(hbm_fence_signal(hbm, 4, 18), 0);
	assert_int_equal(fake.fence_page[3], 17);
	uint64_t rings;
	assert_int_equal(read(fake.doorbell, &rings, sizeof(rings)), sizeof(rings));
	assert_int_equal(rings, 2);
	assert_int_equal(hbm_fence_signal(hbm, HBM_WIRE_FENCES, 1), HBM_INVALID);

	/* A doorbell that can take no more rings already. */
	uint64_t most = UINT64_MAX - 1;
	assert_int_equal(write(fake.doorbell, &most, sizeof(most)), sizeof(most));
	assert_int_equal(hbm_fence_signal(hbm, 5, 19), 0);
	assert_int_equal(fake.fence_page[5], 19);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_lookup),
		TEST(test_prefetch),
		TEST(test_touch_pin_unpin_remove),
		TEST(test_keys_are_checked_here),
		TEST(test_the_longest_message),
		TEST(test_namespace),
		TEST(test_namespace_attach),
		TEST(test_namespace_drop),
		TEST(test_wrong_namespaces),
		TEST(test_namespaces_are_checked_here),
		TEST(test_evict),
		TEST(test_evict_without_an_amount),
		TEST(test_fences_are_shared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
