/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published memory: it outlives the process that made it, whatever end that came to, and other
 * processes map it without a copy. What is published is bounded, nobody else sees it, and all
 * of it comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SLAB (2 * MIB)
#define BLOCK SLAB /* one a slab, so that each has other bytes */
#define SLABS 4u
#define BYTES (SLABS * SLAB)
#define NAME "weights-1"
#define STEPS 9u /* of a client that is killed */
#define CALLS_MAX 64u

static unsigned fds;
static struct kv kv;

static int setup_with(void **state, const char *const *sets)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, 1);

	return 0;
}

static int setup(void **state)
{
	return setup_with(state, NULL);
}

static int setup_limits(void **state)
{
	static const char *const sets[] = {"limits.publications=2", NULL};

	return setup_with(state, sets);
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);

	return stage_teardown(state);
}

/* ---- What is asked and seen ---- */

static struct hbm_wire_device device(void)
{
	return device_record(kv.hbm);
}

static void wait_for_leased(uint64_t bytes)
{
	for (int i = 0; i < 20000; i++) {
		struct hbm_wire_device now = device();

		if (now.leased == bytes && now.quarantined + now.retiring + now.held == 0)
			return;
		poll(NULL, 0, 1);
	}

	fail_msg("%llu bytes are leased", (unsigned long long)device().leased);
}

struct published {
	const char *name;
	unsigned count;
	struct hbm_wire_region record;
};

static int published_record(const void *record, size_t bytes, void *arg)
{
	struct published *published = arg;
	const struct hbm_wire_region *region = record;

	assert_int_equal(bytes, sizeof(*region));
	if (region->session == 0 && (!published->name || !strcmp(region->name, published->name))) {
		published->count++;
		published->record = *region;
	}

	return 0;
}

/* Those of that name, or (NULL) all. */
static struct published published(const char *name)
{
	struct published published = {.name = name};

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_REGIONS, published_record, &published), 0);

	return published;
}

static int publish(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes,
		   const char *name)
{
	const struct hbm_publish_options options = {.name = name};

	return hbm_region_publish(hbm, region, offset, bytes, &options);
}

static void must(struct hbm *hbm, int rc)
{
	if (rc) {
		fprintf(stderr, "client: %s: %s\n", hbm_strerror(rc), hbm_error(hbm));
		_exit(3);
	}
}

static struct hbm_region *attach(struct kv *client, uint32_t flags)
{
	struct hbm_region *region = NULL;

	must(client->hbm, hbm_region_attach(client->hbm, HBM_OWN_UID, NAME, flags, &region));

	return region;
}

static bool has_the_bytes(struct kv *client, struct hbm_region *region)
{
	static unsigned char want[BLOCK], got[BLOCK];

	for (uint64_t i = 0; i < SLABS; i++) {
		kv_fill(1 + i, want, BLOCK);
		kv_read(client, got, hbm_region_address(region) + i * SLAB, BLOCK);
		if (memcmp(got, want, BLOCK) != 0)
			return false;
	}

	return true;
}

/* ---- Other processes ---- */

static void fill(struct kv *client, struct hbm_region *region)
{
	static unsigned char bytes[BLOCK];

	for (uint64_t i = 0; i < SLABS; i++) {
		kv_fill(1 + i, bytes, BLOCK);
		kv_write(client, hbm_region_address(region) + i * SLAB, bytes, BLOCK);
	}
}

/* Loads weights, publishes them, and lives until it is killed. */
static void publisher(const struct spawn *spawn, uint64_t number)
{
	(void)number;
	struct kv client;

	kv_open(&client, spawn, 0, BLOCK, 1);
	struct hbm_region *region = kv_region(&client, BYTES);
	fill(&client, region);
	must(client.hbm, publish(client.hbm, region, 0, BYTES, NAME));
	child_tell();
	for (;;)
		pause();
}

/* Its exit status says whether the bytes are right. */
static void reader(const struct spawn *spawn, uint64_t number)
{
	(void)number;
	struct kv client;

	kv_open(&client, spawn, 0, BLOCK, 1);
	struct hbm_region *region = attach(&client, 0);
	bool right = has_the_bytes(&client, region);
	must(client.hbm, hbm_region_destroy(client.hbm, region));
	kv_close(&client);
	if (!right)
		_exit(4);
}

static void die_after(uint64_t last, uint64_t *step)
{
	if ((*step)++ == last)
		kill(getpid(), SIGKILL);
}

/* All that there is to do, under a name of its own; killed after that step. */
static void mortal(const struct spawn *spawn, uint64_t last)
{
	struct kv client;
	struct hbm_region *region, *attached, *again;
	uint64_t step = 0;

	kv_open(&client, spawn, 0, BLOCK, 1);
	region = kv_region(&client, BYTES);
	die_after(last, &step);
	must(client.hbm, publish(client.hbm, region, 0, BYTES, "mortal"));
	die_after(last, &step);
	must(client.hbm, hbm_region_attach(client.hbm, HBM_OWN_UID, "mortal", 0, &attached));
	die_after(last, &step);
	must(client.hbm, hbm_region_destroy(client.hbm, region));
	die_after(last, &step);
	must(client.hbm,
	     hbm_region_attach(client.hbm, HBM_OWN_UID, "mortal", HBM_ATTACH_WRITE, &again));
	die_after(last, &step);
	must(client.hbm, hbm_region_unpublish(client.hbm, HBM_OWN_UID, "mortal"));
	die_after(last, &step);
	must(client.hbm, hbm_region_destroy(client.hbm, attached));
	die_after(last, &step);
	must(client.hbm, hbm_region_destroy(client.hbm, again));
	die_after(last, &step);
	kv_close(&client);
	die_after(last, &step);
}

/* The device of this process fails at its n-th cuMemMap and so on: HBM_SOFT_FAIL. */
static void failing(const struct spawn *spawn, uint64_t number)
{
	(void)number;
	struct kv client;
	struct hbm_region *region = NULL;

	kv_open(&client, spawn, 0, BLOCK, 1);
	int rc = hbm_region_attach(client.hbm, HBM_OWN_UID, NAME, 0, &region);
	if (rc == 0)
		must(client.hbm, hbm_region_destroy(client.hbm, region));
	kv_close(&client);
	_exit(rc == 0 ? 0 : rc == HBM_DEVICE ? 5 : 6);
}

static const struct child_part parts[] = {{"publisher", publisher},
					  {"reader", reader},
					  {"mortal", mortal},
					  {"failing", failing},
					  {NULL, NULL}};

static void publish_and_die(void)
{
	struct child child;

	child_start(&child, "publisher", &daemon_, 0);
	child_await(&child);
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	wait_for_leased(SLAB + BYTES); /* this process has one */
}

static void unpublish(void)
{
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, NAME));
}

/* ---- The tests ---- */

static void test_the_next_process_has_it(void **state)
{
	(void)state;
	struct child child;

	publish_and_die();
	assert_int_equal(published(NAME).count, 1);
	assert_int_equal(published(NAME).record.committed, BYTES);
	assert_int_equal(published(NAME).record.attached, 0);

	for (unsigned i = 0; i < 3; i++) {
		child_start(&child, "reader", &daemon_, 0);
		assert_int_equal(child_wait(&child), 0);
	}

	struct hbm_region *region = attach(&kv, 0), *second = attach(&kv, 0);
	assert_true(has_the_bytes(&kv, region));
	assert_true(has_the_bytes(&kv, second));
	assert_int_equal(device().leased, SLAB + BYTES); /* nothing was copied */
	assert_int_equal(published(NAME).record.attached, 2);
	assert_int_equal(published(NAME).record.shared, BYTES);
	assert_true(spawn_balanced(&daemon_));

	/* Without its name it stays where it is attached. */
	unpublish();
	assert_int_equal(published(NAME).record.withdrawn, 1);
	assert_int_equal(hbm_region_attach(kv.hbm, HBM_OWN_UID, NAME, 0, &second), HBM_NOT_FOUND);
	assert_true(has_the_bytes(&kv, region));
	must(kv.hbm, hbm_region_destroy(kv.hbm, second));
	assert_true(has_the_bytes(&kv, region));
	assert_true(spawn_balanced(&daemon_));
	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	assert_int_equal(published(NULL).count, 0);
	wait_for_leased(SLAB);
}

static int load_into(struct hbm_region *region, hbm_result *result)
{
	const struct hbm_segment segment = {region, 0, BLOCK};
	const struct hbm_block block = {.key = kv_key(9), .segments = &segment, .segment_count = 1};

	return hbm_load(kv.hbm, kv.ns, &block, 1, result);
}

static void test_access(void **state)
{
	(void)state;
	hbm_result result;

	publish_and_die();
	assert_int_equal(kv_store(&kv, 0, 9, 1, 0, NULL), 0);
	struct hbm_region *reads = attach(&kv, 0), *writes = attach(&kv, HBM_ATTACH_WRITE);

	kv.driver->cuCtxSetCurrent(kv.context);
	assert_int_not_equal(kv.driver->cuMemcpyHtoD(hbm_region_address(reads), "abc", 4),
			     CUDA_SUCCESS);
	assert_int_equal(load_into(reads, &result), HBM_DENIED);
	assert_non_null(strstr(hbm_error(kv.hbm), "read-only"));
	assert_true(has_the_bytes(&kv, writes));

	/* What is written is what all have. */
	assert_int_equal(load_into(writes, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	static unsigned char want[BLOCK], got[BLOCK];
	kv_fill(9, want, BLOCK);
	kv_read(&kv, got, hbm_region_address(reads), BLOCK);
	assert_memory_equal(got, want, BLOCK);

	/* Its slabs back other regions, as readable as they are here. */
	const struct hbm_region_options options = {.address_space = BYTES, .slab = SLAB};
	struct hbm_region *sequence;
	must(kv.hbm, hbm_region_create(kv.hbm, &options, &sequence));
	struct hbm_share share = {.source = reads, .target = sequence, .bytes = SLAB};
	assert_int_equal(hbm_share(kv.hbm, &share, 1), HBM_DENIED);
	share.flags = HBM_SHARE_READ_ONLY;
	assert_int_equal(hbm_share(kv.hbm, &share, 1), 0);
	kv_read(&kv, got, hbm_region_address(sequence), BLOCK);
	assert_memory_equal(got, want, BLOCK);

	unpublish();
	must(kv.hbm, hbm_region_destroy(kv.hbm, reads));
	must(kv.hbm, hbm_region_destroy(kv.hbm, writes));
	assert_int_equal(published(NULL).count, 1); /* the sequence has a slab */
	assert_true(spawn_balanced(&daemon_));
	must(kv.hbm, hbm_region_destroy(kv.hbm, sequence));
	assert_int_equal(published(NULL).count, 0);
	wait_for_leased(SLAB);
}

static void test_a_creator_goes_on(void **state)
{
	(void)state;
	struct hbm_region *region = kv_region(&kv, BYTES), *attached;

	fill(&kv, region);
	must(kv.hbm, publish(kv.hbm, region, 0, BYTES, NAME));
	assert_int_equal(publish(kv.hbm, region, 0, BYTES, NAME), HBM_EXISTS);
	assert_int_equal(publish(kv.hbm, region, SLAB, SLAB, "part"), HBM_EXISTS);
	attached = attach(&kv, 0);
	assert_int_equal(publish(kv.hbm, attached, 0, BYTES, "again"), HBM_DENIED);

	/* A decommit gives up its own mapping alone. */
	const struct hbm_range range = {region, SLAB, SLAB};
	must(kv.hbm, hbm_decommit(kv.hbm, &range, 1));
	assert_true(has_the_bytes(&kv, attached));
	must(kv.hbm, hbm_commit(kv.hbm, &range, 1));
	static unsigned char bytes[BLOCK];
	kv_write(&kv, hbm_region_address(region) + SLAB, bytes, BLOCK); /* other memory */
	assert_true(has_the_bytes(&kv, attached));
	assert_true(spawn_balanced(&daemon_));

	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	assert_true(has_the_bytes(&kv, attached));
	must(kv.hbm, hbm_region_destroy(kv.hbm, attached));
	unpublish();
	assert_int_equal(published(NULL).count, 0);
	wait_for_leased(SLAB);
}

static void test_a_new_name(void **state)
{
	(void)state;
	struct hbm_region *region = kv_region(&kv, BYTES);

	must(kv.hbm, publish(kv.hbm, region, 0, BYTES, "old"));
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "old"));
	assert_int_equal(publish(kv.hbm, region, SLAB, SLAB, "part"), HBM_EXISTS);
	must(kv.hbm, publish(kv.hbm, region, 0, BYTES, "new"));
	assert_int_equal(published(NULL).count, 1);
	assert_int_equal(published("new").record.withdrawn, 0);
	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	assert_int_equal(published("new").count, 1);
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "new"));
	wait_for_leased(SLAB);
}

static void test_refusals(void **state)
{
	(void)state;
	static const char *const names[] = {
		"",
		"a b",
		"tab\t",
		"line\n",
		"\x7f",
		"\xc3\xa4",
		"0123456789012345678901234567890123456789012345678901234567890123",
		NULL};
	struct hbm_region *region = kv_region(&kv, BYTES), *attached = NULL;
	const struct hbm_range hole = {region, 2 * SLAB, SLAB};

	for (size_t i = 0; names[i]; i++) {
		assert_int_equal(publish(kv.hbm, region, 0, BYTES, names[i]), HBM_INVALID);
		assert_int_equal(hbm_region_attach(kv.hbm, HBM_OWN_UID, names[i], 0, &attached),
				 HBM_INVALID);
		assert_int_equal(hbm_region_unpublish(kv.hbm, HBM_OWN_UID, names[i]), HBM_INVALID);
	}

	assert_int_equal(hbm_region_attach(kv.hbm, HBM_OWN_UID, NAME, 0, &attached), HBM_NOT_FOUND);
	assert_int_equal(hbm_region_unpublish(kv.hbm, HBM_OWN_UID, NAME), HBM_NOT_FOUND);
	assert_int_equal(hbm_region_attach(kv.hbm, HBM_OWN_UID, NAME, 2, &attached),
			 HBM_UNSUPPORTED);
	assert_int_equal(publish(kv.hbm, region, 1, SLAB, NAME), HBM_INVALID);
	assert_int_equal(publish(kv.hbm, region, 0, BYTES + SLAB, NAME), HBM_INVALID);
	assert_int_equal(publish(kv.hbm, NULL, 0, BYTES, NAME), HBM_INVALID);
	must(kv.hbm, hbm_decommit(kv.hbm, &hole, 1));
	assert_int_equal(publish(kv.hbm, region, 0, BYTES, NAME), HBM_NOT_FOUND);

	/* A slab twice. */
	const struct hbm_share share = {
		.source = region, .target = region, .target_offset = 2 * SLAB, .bytes = SLAB};
	must(kv.hbm, hbm_share(kv.hbm, &share, 1));
	assert_int_equal(publish(kv.hbm, region, 0, BYTES, NAME), HBM_INVALID);
	assert_non_null(strstr(hbm_error(kv.hbm), "twice"));
	must(kv.hbm, publish(kv.hbm, region, 0, SLAB, NAME)); /* once */
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, NAME));
	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	assert_int_equal(published(NULL).count, 0);
	wait_for_leased(SLAB);
}

static void test_limits(void **state)
{
	(void)state;
	struct hbm_region *region = kv_region(&kv, BYTES);

	must(kv.hbm, publish(kv.hbm, region, 0, SLAB, "one"));
	must(kv.hbm, publish(kv.hbm, region, SLAB, SLAB, "two"));
	assert_int_equal(publish(kv.hbm, region, 2 * SLAB, SLAB, "three"), HBM_LIMIT);
	assert_non_null(strstr(hbm_error(kv.hbm), "limits.publications"));
	assert_int_equal(hbmctl_limit_used("limits.publications"), 2);
	assert_int_equal(hbmctl_limit_used("limits.published_per_user"), 0); /* of operators */
	assert_true(spawn_balanced(&daemon_));

	/* What was withdrawn and is in use still counts. */
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "one"));
	assert_int_equal(publish(kv.hbm, region, 2 * SLAB, SLAB, "three"), HBM_LIMIT);
	const struct hbm_range range = {region, 0, SLAB};
	must(kv.hbm, hbm_decommit(kv.hbm, &range, 1));
	must(kv.hbm, publish(kv.hbm, region, 2 * SLAB, SLAB, "three"));
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "two"));
	must(kv.hbm, hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "three"));
	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	wait_for_leased(SLAB);
}

static void test_killed_at_every_step(void **state)
{
	(void)state;

	for (uint64_t last = 0; last < STEPS; last++) {
		struct child child;

		child_start(&child, "mortal", &daemon_, last);
		assert_int_equal(child_wait(&child), 128 + SIGKILL);
		assert_true(spawn_balanced(&daemon_));

		int rc = hbm_region_unpublish(kv.hbm, HBM_OWN_UID, "mortal");
		assert_int_equal(rc, last >= 1 && last < 5 ? 0 : HBM_NOT_FOUND);
		wait_for_leased(SLAB);
		assert_int_equal(published(NULL).count, 0);
	}
}

static void fail_each(const char *call)
{
	unsigned failed = 0;

	for (unsigned n = 1; n < CALLS_MAX; n++) {
		char fail[64];
		struct child child;

		snprintf(fail, sizeof(fail), "%s:%u", call, n);
		setenv("HBM_SOFT_FAIL", fail, 1);
		child_start(&child, "failing", &daemon_, 0);
		unsetenv("HBM_SOFT_FAIL");
		int rc = child_wait(&child);
		failed += rc != 0;
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(published(NAME).record.attached, 0);
		if (rc == 0)
			break;
	}

	assert_true(failed > 0 && failed < CALLS_MAX - 1);
}

static void test_a_device_that_fails(void **state)
{
	(void)state;

	publish_and_die();
	fail_each("cuMemImportFromShareableHandle");
	fail_each("cuMemAddressReserve");
	struct hbm_region *region = attach(&kv, 0);
	assert_true(has_the_bytes(&kv, region));
	must(kv.hbm, hbm_region_destroy(kv.hbm, region));
	unpublish();
	wait_for_leased(SLAB);
}

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_next_process_has_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_access, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_creator_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_new_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup_limits, teardown),
		cmocka_unit_test_setup_teardown(test_killed_at_every_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_device_that_fails, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
