/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a session, and what a forked child may do with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/connection.h"
#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static void test_close_destroys(void **state)
{
	(void)state;
	client_region_make(1);
	assert_int_equal(client_region_commit(client_region_make(2), 0, 1), 0);
	hbm = hbm_close(hbm);
	fake_await(&fake, HBM_WIRE_REGION_DESTROY, 2);
	assert_int_equal(soft.live("mappings"), 0);
}

static bool answer_nothing(struct fake *self, const struct hbm_wire_header *request)
{
	(void)self;
	(void)request;
	return true;
}

static void test_close_without_an_answer(void **state)
{
	(void)state;
	static const hbm_key key = {{1}};
	hbm_ticket ticket;
	assert_int_equal(client_region_commit(client_region_make(2), 0, 1), 0);
	fake.answer = answer_nothing;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, &key, 1, NULL, &ticket), 0);
	hbm->close_ms = 10;
	hbm = hbm_close(hbm);
	fake_await(&fake, HBM_WIRE_CANCEL, 1);
	assert_int_equal(fake.done[HBM_WIRE_REGION_DESTROY], 0);
	assert_int_equal(soft.live("mappings"), 0);
}

/* What a child closes is its copy: the session, the regions and the socket are the
 * parent's. */
static void test_close_in_a_child(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(2);
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	pid_t child = fork();
	if (child == 0)
		_exit(hbm_close(hbm) != NULL);

	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	client_region_put(region, 0, 'p');
	assert_int_equal(client_region_commit(region, 1, 1), 0);
	assert_int_equal(fake.seen[HBM_WIRE_REGION_DESTROY], 0);
}

static int count_record(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	(void)arg;
	return 0;
}

/* In a child; how many calls were not refused. */
static int calls_let_through(struct hbm_region *region)
{
	const struct hbm_range range = {region, 0, SLAB};
	const struct hbm_segment segment = {region, 0, 65536};
	const struct hbm_block block = {.key = {"k"}, .segments = &segment, .segment_count = 1};
	const struct hbm_namespace_options ns = {.block_bytes = 65536};
	struct hbm_lookup found;
	struct hbm_region *other;
	uint64_t number;
	uint32_t id;
	int ordinal;
	const int ends[] = {
		hbm_ping(hbm),
		hbm_device_ordinal(hbm, 0, &ordinal),
		hbm_dispatch(hbm, 0),
		hbm_wait(hbm, 1, 0),
		hbm_poll(hbm, 1),
		hbm_cancel(hbm, 1),
		hbm_fence_device(hbm, 0, 0, &number),
		hbm_fence_signal(hbm, 0, 99),
		hbm_region_create(hbm,
				  &(struct hbm_region_options){.address_space = SLAB, .slab = SLAB},
				  &other),
		hbm_commit(hbm, &(struct hbm_range){region, SLAB, SLAB}, 1),
		hbm_decommit(hbm, &range, 1),
		hbm_region_destroy(hbm, region),
		hbm_namespace_open(hbm, &ns, &id),
		hbm_namespace_attach(hbm, 1, &number),
		hbm_namespace_close(hbm, 1),
		hbm_lookup(hbm, 1, &block.key, 1, &found, NULL),
		hbm_store(hbm, 1, &block, 1, NULL),
		hbm_load(hbm, 1, &block, 1, NULL),
		hbm_prefetch(hbm, 1, 0, &block.key, 1, 0, NULL),
		hbm_keys(hbm, HBM_WIRE_PIN, 1, 0, &block.key, 1, NULL),
		hbm_evict(hbm, HBM_TIER_HBM, 0, 1, NULL),
		hbm_query(hbm, HBM_QUERY_DEVICES, count_record, NULL),
	};
	int through = hbm_fence(hbm, 0) != NULL;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		through += ends[i] != -EPERM;

	return through;
}

static void test_a_child_is_refused(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(2);
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	unsigned int before[HBM_WIRE_OPCODES];
	memcpy(before, fake.seen, sizeof(before));
	pid_t child = fork();
	if (child == 0)
		_exit(calls_let_through(region));

	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(hbm_ping(hbm), 0);
	before[HBM_WIRE_PING]++;
	assert_memory_equal(fake.seen, before, sizeof(before));
	assert_int_equal(*hbm_fence(hbm, 0), 0);
	client_region_put(region, 0, 'p');
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_close_destroys),
		TEST(test_close_without_an_answer),
		TEST(test_close_in_a_child),
		TEST(test_a_child_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
