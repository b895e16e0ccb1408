/* SPDX-License-Identifier: Apache-2.0 */
/* Regions on the soft device: commit, decommit, destroy, and every way a commit can fail
 * or be answered wrongly. */
#include "client/connection.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLABS 8
#define SLAB FAKE_SLAB

static uint64_t (*live)(const char *kind);
static int (*fail_call)(const char *name, unsigned int nth, CUresult result);
static uint64_t (*calls)(const char *name);
static int (*peek)(void *target, unsigned device, CUdeviceptr source, size_t bytes);
static int (*poke)(unsigned device, CUdeviceptr target, const void *source, size_t bytes);

static void *soft_symbol(const char *name)
{
	void *symbol = dlsym(fake.driver->library, name);
	assert_non_null(symbol);
	return symbol;
}

static void connect_again(void)
{
	hbm = hbm_close(hbm);
	fake.answer = NULL;
	fake_stage_connect();
}

static int setup(void **state)
{
	(void)state;
	fake_stage_open(SLABS);
	*(void **)&live = soft_symbol("hbm_soft_live");
	*(void **)&fail_call = soft_symbol("hbm_soft_fail");
	*(void **)&calls = soft_symbol("hbm_soft_calls");
	*(void **)&peek = soft_symbol("hbm_soft_peek");
	*(void **)&poke = soft_symbol("hbm_soft_poke");
	connect_again();

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	hbm = hbm_close(hbm);
	assert_int_equal(live("mappings"), 0);
	assert_int_equal(live("reservations"), 0);
	assert_int_equal(live("registrations"), 0);
	assert_int_equal(live("contexts"), 0);
	assert_int_equal(live("handles"), 0);

	return fake_stage_teardown(state);
}

static struct hbm_region *make_region(uint64_t slabs)
{
	struct hbm_region_options options = {.address_space = slabs * SLAB, .slab = SLAB};
	struct hbm_region *region = NULL;
	int rc = hbm_region_create(hbm, &options, &region);
	if (rc)
		fail_msg("hbm_region_create() returned %d: %s", rc, hbm_error(hbm));

	return region;
}

static int commit_one(struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	struct hbm_range range = {region, first * SLAB, slabs * SLAB};
	return hbm_commit(hbm, &range, 1);
}

static int decommit_one(struct hbm_region *region, uint64_t first, uint64_t slabs)
{
	struct hbm_range range = {region, first * SLAB, slabs * SLAB};
	return hbm_decommit(hbm, &range, 1);
}

/* The first byte of a region's nth slab, as its device sees it. */
static void put_byte(const struct hbm_region *region, uint64_t slab, char byte)
{
	assert_int_equal(
		poke(hbm_region_device(region), hbm_region_address(region) + slab * SLAB, &byte, 1),
		0);
}

static char get_byte(const struct hbm_region *region, uint64_t slab)
{
	char byte;
	assert_int_equal(
		peek(&byte, hbm_region_device(region), hbm_region_address(region) + slab * SLAB, 1),
		0);
	return byte;
}

/* The first byte of the fake's nth slab, seen without the library. */
static char slab_byte(size_t nth)
{
	char byte;
	assert_int_equal(pread(fake.slabs[nth], &byte, 1, 0), 1);
	return byte;
}

/* ---- Devices ---- */

static bool reaches(unsigned device, const struct hbm_region *region)
{
	char byte;
	return peek(&byte, device, hbm_region_address(region), 1) == 0;
}

/* What is the daemon's device 0 is device 1 here: a region of it is of device 1. */
static void test_devices_counted_differently(void **state)
{
	(void)state;
	int ordinal = -1;
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	assert_int_equal(ordinal, 0);
	CUuuid first = fake.uuids[0];
	fake.uuids[0] = fake.uuids[1];
	fake.uuids[1] = first;
	connect_again();
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	assert_int_equal(ordinal, 1);
	assert_int_equal(hbm_device_ordinal(hbm, 1, &ordinal), 0);
	assert_int_equal(ordinal, 0);
	assert_int_equal(hbm_device_ordinal(hbm, FAKE_DEVICES, &ordinal), HBM_INVALID);

	struct hbm_region *region = make_region(1);
	assert_int_equal(commit_one(region, 0, 1), 0);
	assert_int_equal(hbm_region_device(region), 0);
	assert_true(reaches(1, region));
	assert_false(reaches(0, region));
}

static void test_device_not_seen(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = SLAB, .slab = SLAB};
	struct hbm_region *region;
	uint64_t address;
	int ordinal = 7;
	fake.uuids[0].bytes[0] = (char)0x9f;
	connect_again();
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), -ENODEV);
	assert_int_equal(ordinal, 7);
	assert_string_equal(
		hbm_error(hbm),
		"device 0 (GPU-9f626d20-736f-6674-2064-657669636500) is not visible to this "
		"process: see CUDA_VISIBLE_DEVICES");
	assert_int_equal(hbm_region_create(hbm, &options, &region), -ENODEV);
	assert_int_equal(hbm_fence_device(hbm, 0, 0, &address), -ENODEV);
	assert_int_equal(hbm_fence_device(hbm, 1, 0, &address), 0);
	options.device = 1;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
}

/* A driver whose devices cannot be told apart is not used, and is asked again. */
static void test_devices_that_do_not_tell(void **state)
{
	(void)state;
	int ordinal;
	for (const char *const *name = (const char *const[]){"cuDeviceGetCount", "cuDeviceGet",
							     "cuDeviceGetUuid", NULL};
	     *name; name++) {
		connect_again();
		assert_int_equal(fail_call(*name, 1, CUDA_ERROR_UNKNOWN), 0);
		assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), HBM_DEVICE);
		assert_non_null(strstr(hbm_error(hbm), *name));
		assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	}
}

/* ---- Create and destroy ---- */

static void test_create_rounds_up(void **state)
{
	(void)state;
	struct hbm_region_options options = {.device = 1, .address_space = 3 * SLAB + 1};
	struct hbm_region *region;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	assert_int_equal(hbm_region_slab(region), SLAB);
	assert_int_equal(hbm_region_bytes(region), 4 * SLAB);
	assert_int_equal(hbm_region_device(region), 1);
	assert_int_not_equal(hbm_region_address(region), 0);
	fake_await(&fake, HBM_WIRE_REGION_CREATE, 1);
	const struct hbm_wire_region_create *create = fake.last;
	assert_int_equal(create->address_space, 4 * SLAB);
	assert_int_equal(create->slab, SLAB);
	assert_int_equal(create->device, 1);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(live("reservations"), 0);
}

static void test_create_refuses_nonsense(void **state)
{
	(void)state;
	static const struct hbm_region_options wrong[] = {
		{.device = FAKE_DEVICES, .address_space = SLAB, .slab = SLAB},
		{.device = UINT32_MAX, .address_space = SLAB, .slab = SLAB},
		{.address_space = 0, .slab = SLAB},
		{.address_space = UINT64_MAX, .slab = SLAB},
		{.address_space = 1ull << 63, .slab = SLAB},
		{.address_space = SLAB, .slab = SLAB / 2},
		{.address_space = SLAB, .slab = 3 * SLAB},
		{.address_space = SLAB, .slab = SLAB << 10},
		{.address_space = SLAB, .slab = 1ull << 63},
		{.address_space = SLAB, .slab = 1},
	};
	struct hbm_region *untouched = (struct hbm_region *)8, *region = untouched;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(hbm_region_create(hbm, &wrong[i], &region), HBM_INVALID);
		assert_string_not_equal(hbm_error(hbm), "");
	}

	assert_ptr_equal(region, untouched);
	assert_int_equal(fake.seen[HBM_WIRE_REGION_CREATE], 0);
}

static bool answer_refuse(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_REGION_CREATE && fake_reply(self, request, HBM_LIMIT);
}

/* Half of what was asked for. */
static bool answer_less(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_region_create *create = (const void *)request;
	if (request->opcode != HBM_WIRE_REGION_CREATE)
		return false;
	struct hbm_wire_region_create_reply reply = {
		.region = 1, .address_space = SLAB, .slab = create->slab};
	return fake_reply_message(self, request, &reply, sizeof(reply), NULL, 0);
}

static void test_create_refused_by_the_daemon(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = 2 * SLAB, .slab = SLAB};
	struct hbm_region *region;
	fake.answer = answer_refuse;
	assert_int_equal(hbm_region_create(hbm, &options, &region), HBM_LIMIT);
	assert_int_equal(live("reservations"), 0);
	fake.answer = answer_less;
	assert_int_equal(hbm_region_create(hbm, &options, &region), -EPROTO);
	assert_int_equal(live("reservations"), 0);
}

static void test_close_destroys(void **state)
{
	(void)state;
	make_region(1);
	assert_int_equal(commit_one(make_region(2), 0, 1), 0);
	hbm = hbm_close(hbm);
	fake_await(&fake, HBM_WIRE_REGION_DESTROY, 2);
	assert_int_equal(live("mappings"), 0);
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
	assert_int_equal(commit_one(make_region(2), 0, 1), 0);
	fake.answer = answer_nothing;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, &key, 1, NULL, &ticket), 0);
	hbm->close_ms = 10;
	hbm = hbm_close(hbm);
	fake_await(&fake, HBM_WIRE_CANCEL, 1);
	assert_int_equal(fake.done[HBM_WIRE_REGION_DESTROY], 0);
	assert_int_equal(live("mappings"), 0);
}

/* What a child closes is its copy: the session, the regions and the socket are the
 * parent's. */
static void test_close_in_a_child(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(2);
	assert_int_equal(commit_one(region, 0, 1), 0);
	pid_t child = fork();
	if (child == 0)
		_exit(hbm_close(hbm) != NULL);

	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	put_byte(region, 0, 'p');
	assert_int_equal(commit_one(region, 1, 1), 0);
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
		hbm_evict(hbm, HBM_TIER_HBM, 0, 1),
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
	struct hbm_region *region = make_region(2);
	assert_int_equal(commit_one(region, 0, 1), 0);
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
	put_byte(region, 0, 'p');
}

static void test_destroy_of_none(void **state)
{
	(void)state;
	assert_int_equal(hbm_region_destroy(hbm, NULL), HBM_INVALID);
}

/* ---- Commit ---- */

static void test_commit_maps_the_slabs_in_place(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(SLABS);
	struct hbm_range ranges[] = {
		{region, 6 * SLAB, SLAB}, {region, 0, 2 * SLAB}, {region, 2 * SLAB, SLAB}};
	assert_int_equal(hbm_commit(hbm, ranges, 3), 0);
	static const uint64_t order[] = {6, 0, 1, 2};
	for (size_t i = 0; i < 4; i++) {
		put_byte(region, order[i], (char)('a' + i));
		assert_int_equal(slab_byte(i), 'a' + i);
	}

	assert_int_equal(live("mappings"), 4);

	assert_int_equal(decommit_one(region, 1, 2), 0);
	assert_int_equal(live("mappings"), 2);
	assert_int_equal(get_byte(region, 0), 'b');
	assert_int_equal(get_byte(region, 6), 'a');
	fake_await(&fake, HBM_WIRE_DECOMMIT, 1);
	const struct hbm_wire_ranges *message = fake.last;
	assert_int_equal(message->header.size, sizeof(*message) + sizeof(message->ranges[0]));
	assert_int_equal(message->count, 1);
	assert_int_equal(message->ranges[0].offset, SLAB);
	assert_int_equal(message->ranges[0].bytes, 2 * SLAB);

	assert_int_equal(commit_one(region, 1, 1), 0);
	put_byte(region, 1, 'z');
	assert_int_equal(slab_byte(4), 'z');
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(live("mappings"), 0);
}

static void test_parts_of_every_size(void **state)
{
	(void)state;
	for (fake.part = 1; fake.part <= 7; fake.part++) {
		struct hbm_region *a = make_region(5), *b = make_region(3);
		struct hbm_range ranges[] = {{a, 0, 5 * SLAB}, {b, SLAB, SLAB}};

		fake.slab_next = 0;
		assert_int_equal(hbm_commit(hbm, ranges, 2), 0);
		for (uint64_t i = 0; i < 5; i++)
			put_byte(a, i, (char)(fake.part + i));
		put_byte(b, 1, '!');
		for (size_t i = 0; i < 5; i++)
			assert_int_equal(slab_byte(i), fake.part + i);
		assert_int_equal(slab_byte(5), '!');
		assert_int_equal(hbm_region_destroy(hbm, a), 0);
		assert_int_equal(hbm_region_destroy(hbm, b), 0);
	}
}

static void test_more_slabs_than_a_message_has_fds(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(600);
	assert_int_equal(commit_one(region, 0, 600), 0);
	assert_int_equal(live("mappings"), 600);
	put_byte(region, 599, 'q');
	assert_int_equal(slab_byte(599 % SLABS), 'q');
	assert_int_equal(decommit_one(region, 0, 600), 0);
	assert_int_equal(live("mappings"), 0);
}

static void test_ranges_are_checked_here(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(4);
	const struct hbm_range wrong[] = {
		{NULL, 0, SLAB},          {region, 0, 0},           {region, 1, SLAB},
		{region, 0, SLAB + 4096}, {region, 4 * SLAB, SLAB}, {region, 3 * SLAB, 2 * SLAB},
		{region, SLAB, -SLAB},    {region, -SLAB, SLAB},    {region, -SLAB, 2 * SLAB},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		/* A good range before it changes nothing. */
		struct hbm_range ranges[] = {{region, 0, SLAB}, wrong[i]};
		assert_int_equal(hbm_commit(hbm, &wrong[i], 1), HBM_INVALID);
		assert_int_equal(hbm_commit(hbm, ranges, 2), HBM_INVALID);
		assert_int_equal(hbm_decommit(hbm, &wrong[i], 1), HBM_INVALID);
	}

	assert_int_equal(hbm_commit(hbm, NULL, 0), HBM_INVALID);
	assert_int_equal(hbm_decommit(hbm, NULL, 0), HBM_INVALID);
	static struct hbm_range many[6000];
	for (size_t i = 0; i < 6000; i++)
		many[i] = (struct hbm_range){region, 0, SLAB};
	assert_int_equal(hbm_commit(hbm, many, 6000), HBM_LIMIT);
	assert_int_equal(fake.seen[HBM_WIRE_COMMIT] + fake.seen[HBM_WIRE_DECOMMIT], 0);
	assert_int_equal(commit_one(region, 0, 4), 0);
}

static void test_slabs_are_committed_once(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(6);
	struct hbm_range twice[] = {{region, 0, 2 * SLAB}, {region, SLAB, SLAB}};
	assert_int_equal(hbm_commit(hbm, twice, 2), HBM_INVALID);
	assert_int_equal(commit_one(region, 1, 2), 0);
	assert_int_equal(commit_one(region, 1, 1), HBM_EXISTS);
	assert_int_equal(commit_one(region, 0, 2), HBM_EXISTS);
	assert_int_equal(commit_one(region, 2, 2), HBM_EXISTS);
	assert_int_equal(decommit_one(region, 0, 2), HBM_NOT_FOUND);
	assert_int_equal(decommit_one(region, 2, 2), HBM_NOT_FOUND);
	struct hbm_range both[] = {{region, SLAB, SLAB}, {region, SLAB, 2 * SLAB}};
	assert_int_equal(hbm_decommit(hbm, both, 2), HBM_INVALID);
	assert_int_equal(live("mappings"), 2);
	put_byte(region, 1, 1);
	put_byte(region, 2, 1);
	assert_int_equal(fake.seen[HBM_WIRE_COMMIT], 1);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 0);

	/* None of the refusals left a mark. */
	assert_int_equal(commit_one(region, 0, 1), 0);
	assert_int_equal(commit_one(region, 3, 3), 0);
	assert_int_equal(decommit_one(region, 0, 6), 0);
}

static void test_several_under_way(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(6);
	hbm_ticket tickets[3];
	for (uint64_t i = 0; i < 3; i++) {
		struct hbm_range range = {region, 2 * i * SLAB, 2 * SLAB};
		assert_int_equal(hbm_submit_commit(hbm, &range, 1, &tickets[i]), 0);
	}

	assert_int_equal(commit_one(region, 3, 1), HBM_EXISTS);
	assert_int_equal(decommit_one(region, 0, 1), HBM_NOT_FOUND);
	for (int i = 2; i >= 0; i--)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	for (uint64_t i = 0; i < 6; i++)
		put_byte(region, i, 1);
	assert_int_equal(live("mappings"), 6);
}

static void test_destroy_waits_for_commits(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(4);
	struct hbm_range range = {region, 0, 4 * SLAB};
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(live("mappings"), 0);
	assert_int_equal(hbm_poll(hbm, ticket), HBM_OK);
}

/* ---- Failing ---- */

static bool answer_no_space(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == HBM_WIRE_COMMIT && fake_reply(self, request, HBM_NO_SPACE);
}

static void test_commit_refused_by_the_daemon(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(2);
	fake.answer = answer_no_space;
	assert_int_equal(commit_one(region, 0, 2), HBM_NO_SPACE);
	fake.answer = NULL;
	assert_int_equal(commit_one(region, 0, 2), 0);
}

/* One slab, with `flags`. */
static void send_grant(struct fake *self, const struct hbm_wire_header *request, uint64_t offset,
		       uint16_t flags)
{
	const struct hbm_wire_ranges *asked = (const void *)request;
	char ns[sizeof(struct hbm_wire_ranges) + sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)ns;

	part->header.flags = flags;
	part->count = 1;
	part->ranges[0] = (struct hbm_wire_range){asked->ranges[0].region, 0, offset, SLAB};
	fake_reply_message(self, request, ns, sizeof(ns), self->slabs, 1);
}

static bool answer_part_then_refuse(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	send_grant(self, request, 0, HBM_WIRE_MORE);
	return fake_reply(self, request, HBM_DEVICE);
}

static bool answer_part_then_die(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	send_grant(self, request, SLAB, HBM_WIRE_MORE);
	fake_hang_up(self);
	return true;
}

static bool answer_parts_without_slabs(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	struct hbm_wire_ranges part = {.header = {.flags = HBM_WIRE_MORE}};
	return fake_reply_message(self, request, &part, sizeof(part), NULL, 0);
}

/* The second import fails; what comes after it is not mapped. */
static bool answer_a_slab_again(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	assert_int_equal(fail_call("cuMemImportFromShareableHandle", 2, CUDA_ERROR_UNKNOWN), 0);
	send_grant(self, request, 0, HBM_WIRE_MORE);
	for (int i = 0; i < 2; i++)
		send_grant(self, request, SLAB, HBM_WIRE_MORE);

	return true;
}

/* A daemon that always sends more would keep every wait from ending. */
static void test_a_reply_has_an_end(void **state)
{
	(void)state;
	static fake_answer *const answers[] = {answer_parts_without_slabs, answer_a_slab_again};
	for (size_t i = 0; i < 2; i++) {
		struct hbm_range range = {make_region(2), 0, 2 * SLAB};
		hbm_ticket ticket;

		fake.answer = answers[i];
		assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
		assert_int_equal(hbm_wait(hbm, ticket, 10000), -EPROTO);
		connect_again();
	}
}

static void test_refused_in_the_middle(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(2);
	fake.answer = answer_part_then_refuse;
	assert_int_equal(commit_one(region, 0, 2), HBM_DEVICE);
	assert_string_equal(hbm_error(hbm), "the daemon refused COMMIT: a device call failed");
	assert_int_equal(live("mappings"), 0);
	fake.answer = NULL;
	assert_int_equal(commit_one(region, 0, 2), 0);
}

static void test_death_in_the_middle(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(4);
	assert_int_equal(commit_one(region, 0, 1), 0);
	put_byte(region, 0, 'k');
	fake.answer = answer_part_then_die;
	assert_int_equal(commit_one(region, 1, 3), -ENOTCONN);

	/* What was there before stays, and nothing else. */
	assert_int_equal(live("mappings"), 1);
	assert_int_equal(get_byte(region, 0), 'k');
	assert_int_equal(commit_one(region, 2, 1), -ENOTCONN);
	assert_int_equal(decommit_one(region, 0, 1), -ENOTCONN);
	assert_int_equal(get_byte(region, 0), 'k');
	assert_int_equal(hbm_region_destroy(hbm, region), -ENOTCONN);
	assert_int_equal(live("mappings"), 0);
}

/* The n-th device call of a commit fails, for every n until the fault lies behind the
 * last call. A commit may get over a failure (a handle is released again), or end whole
 * or not at all. */
static void test_every_device_call_of_a_commit_fails(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(5);
	struct hbm_range ranges[] = {{region, 0, 2 * SLAB}, {region, 3 * SLAB, 2 * SLAB}};
	fake.part = 3;
	unsigned int failures = 0, decommits = 0, n = 1;
	for (bool reached = true; reached; n++) {
		uint64_t before = calls("*");

		assert_int_equal(fail_call("*", n, CUDA_ERROR_UNKNOWN), 0);
		int rc = hbm_commit(hbm, ranges, 2);
		reached = calls("*") - before >= n;
		fail_call(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);

		if (rc == 0) {
			for (size_t i = 0; i < 4; i++)
				put_byte(region, (uint64_t[]){0, 1, 3, 4}[i], 1);
			assert_int_equal(hbm_decommit(hbm, ranges, 2), 0);
		} else {
			assert_int_equal(rc, HBM_DEVICE);
			assert_non_null(strstr(hbm_error(hbm), "CUDA_ERROR_UNKNOWN"));
			failures++;
		}

		assert_int_equal(live("mappings"), 0);
		assert_int_equal(live("handles"), 0);

		/* The daemon was told. */
		fake_await(&fake, HBM_WIRE_DECOMMIT, ++decommits);
		const struct hbm_wire_ranges *message = fake.last;
		assert_int_equal(message->count, 2);
		assert_int_equal(message->ranges[1].offset, 3 * SLAB);
	}

	assert_in_range(failures, 10, n);
}

/* An error that stays is an earlier call's: a device would have released the handle, and
 * another may have its number. The slab stays mapped, for the handle to be found again. */
static void test_a_handle_is_not_released_twice(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(1);
	CUmemGenericAllocationHandle handle;
	uint64_t before = calls("cuMemRelease");
	assert_int_equal(fail_call("cuMemRelease", 1, CUDA_ERROR_ASSERT), 0);
	for (unsigned int n = 1; n <= 2; n++)
		assert_int_equal(fail_call("cuMemUnmap", n, CUDA_ERROR_ASSERT), 0);
	assert_int_equal(commit_one(region, 0, 1), HBM_DEVICE);
	assert_int_equal(calls("cuMemRelease") - before, 1);
	assert_int_equal(fake.driver->cuMemRetainAllocationHandle(
				 &handle, (void *)hbm_region_address(region)),
			 CUDA_SUCCESS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fake.driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
}

static void test_every_device_call_of_a_creation_fails(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = 2 * SLAB, .slab = SLAB};
	unsigned int failures = 0;
	for (unsigned int n = 1, reached = 1; reached; n++) {
		connect_again();
		struct hbm_region *region = NULL;
		uint64_t before = calls("*");
		assert_int_equal(fail_call("*", n, CUDA_ERROR_OUT_OF_MEMORY), 0);
		int rc = hbm_region_create(hbm, &options, &region);
		reached = calls("*") - before >= n;
		fail_call(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
		failures += rc != 0;
		if (rc == 0)
			assert_int_equal(hbm_region_destroy(hbm, region), 0);
		else
			assert_int_equal(rc, HBM_DEVICE);

		assert_int_equal(live("reservations"), 0);
	}

	assert_in_range(failures, 4, 100);
}

/* A decommit that the device refuses leaves what it did not unmap. */
static void test_unmapping_fails(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(5);
	assert_int_equal(commit_one(region, 0, 5), 0);
	struct hbm_range ranges[] = {
		{region, 0, SLAB}, {region, 2 * SLAB, SLAB}, {region, 4 * SLAB, SLAB}};
	assert_int_equal(fail_call("cuMemUnmap", 1, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(hbm_decommit(hbm, ranges, 3), HBM_DEVICE);
	assert_int_equal(live("mappings"), 5);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 0);

	assert_int_equal(fail_call("cuMemUnmap", 2, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(hbm_decommit(hbm, ranges, 3), HBM_DEVICE);
	assert_non_null(strstr(hbm_error(hbm), "cuMemUnmap"));
	assert_int_equal(live("mappings"), 4);
	fake_await(&fake, HBM_WIRE_DECOMMIT, 1);
	const struct hbm_wire_ranges *message = fake.last;
	assert_int_equal(message->count, 1);
	assert_int_equal(message->ranges[0].offset, 0);
	assert_int_equal(commit_one(region, 0, 1), 0);
	put_byte(region, 4, 1);
}

/* ---- Wrong answers ---- */

enum wrong {
	ANOTHER_REGION,
	OUTSIDE,
	MISALIGNED,
	TWO_SLABS_IN_ONE,
	PADDING,
	ENTRY_PADDING,
	THE_SAME_TWICE,
	FEWER_FDS,
	MORE_FDS,
	NOT_ALL,
	TOO_SHORT,
	COUNT_OVERFLOWS,
	BARE,
	WRONGS
};

static bool answer_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	enum wrong wrong = *(enum wrong *)self->arg;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	const struct hbm_wire_ranges *asked = (const void *)request;
	char ns[sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)ns;
	size_t size = sizeof(ns), fds = 2;
	part->count = 2;
	for (uint64_t i = 0; i < 2; i++)
		part->ranges[i] =
			(struct hbm_wire_range){asked->ranges[0].region, 0, (1 + i) * SLAB, SLAB};

	struct hbm_wire_range *second = &part->ranges[1];
	if (wrong == ANOTHER_REGION)
		second->region++;
	else if (wrong == OUTSIDE)
		second->offset = 3 * SLAB;
	else if (wrong == MISALIGNED)
		second->offset = SLAB + 4096;
	else if (wrong == TWO_SLABS_IN_ONE)
		second->bytes = 2 * SLAB;
	else if (wrong == PADDING)
		part->zero = 1;
	else if (wrong == ENTRY_PADDING)
		second->zero = 1;
	else if (wrong == THE_SAME_TWICE)
		second->offset = SLAB;
	else if (wrong == FEWER_FDS)
		fds = 1;
	else if (wrong == MORE_FDS)
		fds = 3;
	else if (wrong == NOT_ALL)
		part->count = 1, fds = 1, size -= sizeof(*second);
	else if (wrong == TOO_SHORT)
		size -= 8;
	else if (wrong == COUNT_OVERFLOWS)
		part->count = UINT32_MAX;
	else if (wrong == BARE)
		size = sizeof(part->header), fds = 0;

	return fake_reply_message(self, request, part, size, self->slabs, fds);
}

static void test_wrong_answers(void **state)
{
	(void)state;
	enum wrong wrong;
	for (wrong = 0; wrong < WRONGS; wrong++) {
		struct hbm_region *region = make_region(4);

		fake.arg = &wrong;
		fake.answer = answer_wrong;
		int rc = commit_one(region, 1, 2);
		if (rc != -EPROTO)
			fail_msg("wrong answer %d: hbm_commit() returned %d", (int)wrong, rc);

		assert_int_equal(live("mappings"), 0);
		connect_again();
		assert_int_equal(live("handles"), 0);
	}
}

/* An fd that is no slab: the device refuses it, and the commit is undone. */
static bool answer_not_a_slab(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *asked = (const void *)request;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	char ns[sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)ns;
	part->count = 2;
	for (uint64_t i = 0; i < 2; i++)
		part->ranges[i] =
			(struct hbm_wire_range){asked->ranges[0].region, 0, i * SLAB, SLAB};

	return fake_reply_message(self, request, part, sizeof(ns),
				  (int[]){self->slabs[0], self->fences}, 2);
}

static void test_an_fd_that_is_no_slab(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(2);
	fake.answer = answer_not_a_slab;
	assert_int_equal(commit_one(region, 0, 2), HBM_DEVICE);
	assert_int_equal(live("mappings"), 0);
	fake.answer = NULL;
	assert_int_equal(commit_one(region, 0, 2), 0);
}

/* The same, but answered only when the client has filled the socket. */
static sem_t full;

static bool answer_when_full(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	while (sem_wait(&full) < 0)
		;
	return answer_not_a_slab(self, request);
}

/* The undoing has to wait for room, and the requests that fill the socket for their
 * answers. */
static void test_undoing_when_the_socket_is_full(void **state)
{
	(void)state;
	enum { KEYS = 8000, REQUESTS = 50 };
	hbm_key *keys = malloc(KEYS * sizeof(*keys));
	memset(keys, 1, KEYS * sizeof(*keys));
	hbm_ticket commit, tickets[REQUESTS];
	assert_int_equal(sem_init(&full, 0, 0), 0);
	struct hbm_region *region = make_region(2);
	struct hbm_range range = {region, 0, 2 * SLAB};
	fake.answer = answer_when_full;
	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &commit), 0);

	for (int i = 0; i < REQUESTS; i++) {
		/* Two messages of this length are what a socket takes by default. */
		if (i == 2)
			sem_post(&full);
		assert_int_equal(
			hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, KEYS, NULL, &tickets[i]),
			0);
	}

	assert_int_equal(hbm_wait(hbm, commit, -1), HBM_DEVICE);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 1);
	for (int i = 0; i < REQUESTS; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), HBM_OK);
	fake.answer = NULL;
	assert_int_equal(commit_one(region, 0, 2), 0);
	sem_destroy(&full);
	free(keys);
}

/* Commits 6 slabs where only `room` more descriptors may be opened while the replies are
 * handled. */
static int commit_with_room_for(struct hbm_region *region, rlim_t room)
{
	hbm_ticket ticket;
	struct hbm_range range = {region, 0, 6 * SLAB};
	unsigned int before = fake.done[HBM_WIRE_COMMIT];

	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
	fake_await(&fake, HBM_WIRE_COMMIT, before + 1);
	struct rlimit old, few;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(0);
	close(next);
	few = old;
	few.rlim_cur = (rlim_t)next + room;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int rc = hbm_wait(hbm, ticket, -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

	return rc;
}

/* The commit is undone, in whichever part of the reply the descriptors run out, or in the
 * driver, which needs one for each slab; the connection goes on. */
static void test_no_room_for_fds(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(6);
	for (fake.part = 1; fake.part <= 6; fake.part++) {
		unsigned int undone = 0;
		int rc = -EMFILE;

		for (rlim_t room = 0; rc != HBM_OK; room++) {
			unsigned int before = fake.seen[HBM_WIRE_DECOMMIT];

			rc = commit_with_room_for(region, room);
			if (rc == HBM_OK)
				break;

			assert_int_equal(rc, -EMFILE);
			assert_non_null(strstr(hbm_error(hbm), "RLIMIT_NOFILE"));
			assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], before + 1);
			assert_int_equal(live("mappings"), 0);
			assert_int_equal(live("handles"), 0);
			undone++;
		}

		assert_in_range(undone, 6, 20);
		assert_int_equal(decommit_one(region, 0, 6), 0);
	}
}

/* Lost descriptors do not excuse a part that is wrong in itself. */
static bool answer_lost_and_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *asked = (const void *)request;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	/* A struct with an array of one range at its end. */
	_Alignas(struct hbm_wire_ranges) char
		part[sizeof(struct hbm_wire_ranges) + sizeof(struct hbm_wire_range)] = {0};
	struct hbm_wire_ranges *ranges = (void *)part;
	ranges->count = 1;
	ranges->ranges[0] = asked->ranges[0];
	ranges->ranges[0].bytes = SLAB;
	ranges->ranges[0].offset = 6 * SLAB; /* was not asked for */

	return fake_reply_message(self, request, part, sizeof(part), self->slabs, 3);
}

static void test_no_room_for_fds_of_a_wrong_part(void **state)
{
	(void)state;
	struct hbm_region *region = make_region(8);
	fake.answer = answer_lost_and_wrong;
	assert_int_equal(commit_with_room_for(region, 1), -EPROTO);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
	assert_int_equal(live("mappings"), 0);
}

/* ---- The caller's context ---- */

static void test_the_callers_context_stays(void **state)
{
	(void)state;
	const struct driver *driver = fake.driver;
	CUdevice device;
	CUcontext mine, current;
	assert_int_equal(driver->cuDeviceGet(&device, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&mine, device), CUDA_SUCCESS);

	for (int i = 0; i < 2; i++) {
		CUcontext before = i ? mine : NULL;

		assert_int_equal(driver->cuCtxSetCurrent(before), CUDA_SUCCESS);
		struct hbm_region *region = make_region(2);
		uint64_t address;
		assert_int_equal(commit_one(region, 0, 2), 0);
		assert_int_equal(decommit_one(region, 0, 1), 0);
		assert_int_equal(hbm_fence_device(hbm, 0, 1, &address), 0);
		assert_int_equal(hbm_region_destroy(hbm, region), 0);
		assert_int_equal(driver->cuCtxGetCurrent(&current), CUDA_SUCCESS);
		assert_ptr_equal(current, before);
	}

	assert_int_equal(driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(device), CUDA_SUCCESS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_devices_counted_differently),
		TEST(test_device_not_seen),
		TEST(test_devices_that_do_not_tell),
		TEST(test_create_rounds_up),
		TEST(test_create_refuses_nonsense),
		TEST(test_create_refused_by_the_daemon),
		TEST(test_close_destroys),
		TEST(test_close_without_an_answer),
		TEST(test_close_in_a_child),
		TEST(test_a_child_is_refused),
		TEST(test_destroy_of_none),
		TEST(test_commit_maps_the_slabs_in_place),
		TEST(test_parts_of_every_size),
		TEST(test_more_slabs_than_a_message_has_fds),
		TEST(test_ranges_are_checked_here),
		TEST(test_slabs_are_committed_once),
		TEST(test_several_under_way),
		TEST(test_destroy_waits_for_commits),
		TEST(test_commit_refused_by_the_daemon),
		TEST(test_a_reply_has_an_end),
		TEST(test_refused_in_the_middle),
		TEST(test_death_in_the_middle),
		TEST(test_every_device_call_of_a_commit_fails),
		TEST(test_a_handle_is_not_released_twice),
		TEST(test_every_device_call_of_a_creation_fails),
		TEST(test_unmapping_fails),
		TEST(test_wrong_answers),
		TEST(test_an_fd_that_is_no_slab),
		TEST(test_undoing_when_the_socket_is_full),
		TEST(test_no_room_for_fds),
		TEST(test_no_room_for_fds_of_a_wrong_part),
		TEST(test_the_callers_context_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
