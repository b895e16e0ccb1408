/* SPDX-License-Identifier: Apache-2.0 */
/* Walking records: pages, early ends, and pages that are not what they say. */
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

static int setup(void **state)
{
	(void)state;
	fake_stage_open(0);
	struct hbm_options options = {.socket = fake.path, .inspect_only = true};
	return hbm_connect(&hbm, &options);
}

struct page {
	struct hbm_wire_query_reply head;
	struct hbm_wire_link links[4];
};

/* Links 0 to 9 in pages of four; the cursor is the next link. */
static bool answer_pages(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_query *query = (const void *)request;

	if (request->opcode != HBM_WIRE_QUERY)
		return false;

	struct page page = {.head = {.kind = query->kind, .record_bytes = sizeof(page.links[0])}};
	uint64_t link = query->cursor;
	while (link < 10 && page.head.count < 4)
		page.links[page.head.count++].link = (uint32_t)link++;
	page.head.next = link < 10 ? link : 0;
	size_t size = sizeof(page.head) + page.head.count * sizeof(page.links[0]);

	return fake_reply_message(self, request, &page, size, NULL, 0);
}

struct walk {
	uint32_t count, until;
	bool nested;
};

static int walk_link(const void *record, size_t record_bytes, void *arg)
{
	struct walk *walk = arg;
	const struct hbm_wire_link *link = record;

	assert_int_equal(record_bytes, sizeof(*link));
	if (walk->nested)
		assert_int_equal(hbm_ping(hbm), 0);

	assert_int_equal(link->link, walk->count);

	return ++walk->count == walk->until ? 42 : 0;
}

static void test_pages(void **state)
{
	(void)state;
	fake.answer = answer_pages;
	struct walk walk = {0};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_link, &walk), 0);
	assert_int_equal(walk.count, 10);
	fake_await(&fake, HBM_WIRE_QUERY, 3);
	assert_int_equal(fake.seen[HBM_WIRE_QUERY], 3);
}

static void test_early_end(void **state)
{
	(void)state;
	fake.answer = answer_pages;
	struct walk walk = {.until = 6};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_link, &walk), 42);
	assert_int_equal(walk.count, 6);
}

static void test_the_connection_may_be_used_inside(void **state)
{
	(void)state;
	fake.answer = answer_pages;
	struct walk walk = {.nested = true};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_link, &walk), 0);
	assert_int_equal(walk.count, 10);
}

static int walk_nothing(const void *record, size_t record_bytes, void *arg)
{
	(void)record;
	(void)record_bytes;
	(void)arg;
	return 43;
}

static void test_nothing_and_no_such_kind(void **state)
{
	(void)state;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_SESSIONS, walk_nothing, NULL), 0);
	assert_int_equal(hbm_query(hbm, (enum hbm_wire_query_kind)0, walk_nothing, NULL),
			 HBM_UNSUPPORTED);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_KINDS, walk_nothing, NULL), HBM_UNSUPPORTED);
}

enum wrong {
	ANOTHER_KIND,
	UNKNOWN_KIND,
	RECORDS_MISALIGNED,
	RECORDS_OF_NO_SIZE,
	COUNT_LIES,
	PRODUCT_OVERFLOWS,
	NO_PROGRESS,
	NOTHING_AND_MORE,
	NO_HEAD,
	WRONGS
};

static bool answer_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	enum wrong wrong = *(enum wrong *)self->arg;

	if (request->opcode != HBM_WIRE_QUERY)
		return false;

	struct page page = {.head = {.kind = HBM_QUERY_LINKS,
				     .count = 2,
				     .record_bytes = sizeof(page.links[0])}};
	size_t size = sizeof(page.head) + 2 * sizeof(page.links[0]);
	if (wrong == ANOTHER_KIND)
		page.head.kind = HBM_QUERY_TIMELINE;
	else if (wrong == UNKNOWN_KIND)
		page.head.kind = HBM_QUERY_KINDS;
	else if (wrong == RECORDS_MISALIGNED)
		page.head.record_bytes += 4, size += 8;
	else if (wrong == RECORDS_OF_NO_SIZE)
		page.head.record_bytes = 0, page.head.count = UINT32_MAX, size = sizeof(page.head);
	else if (wrong == COUNT_LIES)
		page.head.count = 3;
	else if (wrong == PRODUCT_OVERFLOWS)
		page.head.count = 1u << 28, page.head.record_bytes = 48, size = sizeof(page.head);
	else if (wrong == NOTHING_AND_MORE)
		page.head.count = 0, page.head.next = 7, size = sizeof(page.head);
	else if (wrong == NO_HEAD)
		size = sizeof(page.head) - 8;

	return fake_reply_message(self, request, &page, size, NULL, 0);
}

static int walk_on(const void *record, size_t record_bytes, void *arg)
{
	(void)record;
	(void)record_bytes;
	(void)arg;
	return 0;
}

/* Two pages without records before the last. */
static bool answer_holes(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_QUERY)
		return false;
	uint64_t cursor = ((const struct hbm_wire_query *)(const void *)request)->cursor;
	struct page page = {.head = {.kind = HBM_QUERY_LINKS,
				     .count = cursor == 14,
				     .record_bytes = sizeof(page.links[0]),
				     .next = cursor < 14 ? cursor + 7 : 0}};
	return fake_reply_message(self, request, &page,
				  sizeof(page.head) + page.head.count * sizeof(page.links[0]), NULL,
				  0);
}

static int walk_count(const void *record, size_t record_bytes, void *arg)
{
	(void)record;
	(void)record_bytes;
	++*(uint32_t *)arg;
	return 0;
}

/* An older daemon's records lack the last member, those of a newer one 8 bytes more. */
static bool answer_other_version(struct fake *self, const struct hbm_wire_header *request)
{
	struct {
		struct hbm_wire_query_reply head;
		uint64_t numbers[2 * (sizeof(struct hbm_wire_link) / sizeof(uint64_t) + 1)];
	} page = {.head = {.kind = HBM_QUERY_LINKS, .count = 2}};
	uint32_t record_bytes = *(uint32_t *)self->arg;

	if (request->opcode != HBM_WIRE_QUERY)
		return false;

	page.head.record_bytes = record_bytes;
	for (uint64_t i = 0; i < 2 * record_bytes / sizeof(uint64_t); i++)
		page.numbers[i] = i;

	return fake_reply_message(self, request, &page, sizeof(page.head) + 2 * record_bytes, NULL,
				  0);
}

struct other {
	uint32_t count;
	size_t record_bytes;
	struct hbm_wire_link last;
};

static int walk_other(const void *record, size_t record_bytes, void *arg)
{
	struct other *other = arg;
	other->count++;
	other->record_bytes = record_bytes;
	memcpy(&other->last, record, sizeof(other->last));
	return 0;
}

static void test_daemons_of_other_versions(void **state)
{
	(void)state;
	const uint32_t ours = sizeof(struct hbm_wire_link);
	struct other other = {0};
	uint32_t record_bytes = ours - 8;

	fake.answer = answer_other_version;
	fake.arg = &record_bytes;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_other, &other), 0);
	assert_int_equal(other.count, 2);
	assert_int_equal(other.record_bytes, ours - 8);
	assert_int_equal(other.last.count, 13);
	assert_int_equal(other.last.overlapped_ns, 16);
	assert_int_equal(other.last.direct_copies, 0);

	record_bytes = ours + 8;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_other, &other), 0);
	assert_int_equal(other.count, 4);
	assert_int_equal(other.record_bytes, ours + 8);
	assert_int_equal(other.last.count, 15);
	assert_int_equal(other.last.direct_copies, 26);
}

static void test_pages_without_records(void **state)
{
	(void)state;
	uint32_t count = 0;
	fake.answer = answer_holes;
	assert_int_equal(hbm_query(hbm, HBM_QUERY_LINKS, walk_count, &count), 0);
	assert_int_equal(count, 1);
}

/* A daemon whose cursor never moves. */
static bool answer_stuck(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_QUERY)
		return false;
	struct page page = {.head = {.kind = HBM_QUERY_LINKS,
				     .count = 1,
				     .record_bytes = sizeof(page.links[0]),
				     .next = 1}};
	return fake_reply_message(self, request, &page, sizeof(page.head) + sizeof(page.links[0]),
				  NULL, 0);
}

static void test_wrong_pages(void **state)
{
	(void)state;
	enum wrong wrong;
	for (wrong = 0; wrong < WRONGS; wrong++) {
		fake.answer = wrong == NO_PROGRESS ? answer_stuck : answer_wrong;
		fake.arg = &wrong;
		int rc = hbm_query(hbm, HBM_QUERY_LINKS, walk_on, NULL);
		if (rc != -EPROTO)
			fail_msg("wrong page %d: hbm_query() returned %d", (int)wrong, rc);

		hbm = hbm_close(hbm);
		struct hbm_options options = {.socket = fake.path, .inspect_only = true};
		assert_int_equal(hbm_connect(&hbm, &options), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pages, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_early_end, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_the_connection_may_be_used_inside, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_and_no_such_kind, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_daemons_of_other_versions, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_pages_without_records, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_pages, setup, fake_stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
