/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that are killed while the device works for them: a kernel writes to their
 * region, a queue of copies into it is long, and the daemon stores and loads its blocks.
 * Once the daemon has taken the memory back nothing of all that may arrive in it any
 * more: the next client that gets it finds what it wrote itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/busy.h"
#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 65536u
#define BATCH 32u
#define SLAB (2ull << 20)
/* of the victim: blocks in the first two, then the kernel's, then the copies' */
#define SLABS 16ull
#define KERNEL_AT (2 * SLAB)
#define COPIES_AT (9 * SLAB)
#define COPIES_BYTES ((SLABS * SLAB) - COPIES_AT)
#define COPIES 1000
#define AT_WORK_MS 60000
#define WROTE 0x5adbadc0ffee5adbull

static struct leaks leaks;
static struct spawn daemon_;

static int setup(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=4MiB", "ddr.size=8MiB", "nvme.size=16MiB",
					   NULL};
	leaks_begin(&leaks);
	spawn_init(&daemon_);
	spawn_start(&daemon_, sets, NULL);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_free(&daemon_);
	assert_int_equal(leaks_end(&leaks), 0);

	return 0;
}

/* ---- The victim ---- */

static void must(const char *what, int64_t result)
{
	if (result != 0) {
		fprintf(stderr, "client: %s: %lld\n", what, (long long)result);
		_exit(3);
	}
}

static CUstream stream(const struct driver *driver)
{
	CUstream stream = NULL;
	must("stream", driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	return stream;
}

static void start_kernel(struct kv *kv, CUstream stream)
{
	static struct busy busy;
	must("kernel", busy_open(&busy, kv->driver));
	must("launch", busy_launch(&busy, stream, hbm_region_address(kv->region) + KERNEL_AT,
				   COPIES_AT - KERNEL_AT, WROTE, AT_WORK_MS));
}

static void *source_of_copies(const struct driver *driver)
{
	void *host =
		mmap(NULL, COPIES_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must("mmap", host == MAP_FAILED);
	memset(host, 0x77, COPIES_BYTES);
	must("register",
	     driver->cuMemHostRegister(host, COPIES_BYTES, CU_MEMHOSTREGISTER_PORTABLE));

	return host;
}

static void queue_copies(struct kv *kv, const void *host, CUstream stream)
{
	for (int i = 0; i < COPIES; i++)
		must("copy",
		     kv->driver->cuMemcpyHtoDAsync(hbm_region_address(kv->region) + COPIES_AT, host,
						   COPIES_BYTES, stream));
}

/* The kernel runs: its last word is there. */
static void await_kernel(struct kv *kv)
{
	for (uint64_t word = 0; word != WROTE;)
		kv_read(kv, &word, hbm_region_address(kv->region) + COPIES_AT - sizeof(word),
			sizeof(word));
}

static void work_until_killed(const struct spawn *spawn, uint64_t number)
{
	static struct hbm_block blocks[BATCH];
	static struct hbm_segment segments[BATCH];
	static hbm_result results[BATCH];
	struct kv kv;
	hbm_ticket ticket;

	kv_open(&kv, spawn, 0, BLOCK, SLABS * SLAB / BLOCK);
	must("context", kv.driver->cuCtxSetCurrent(kv.context));

	/* Nothing is made once the kernel runs: a driver may wait for it before it
	 * registers memory. */
	void *host = source_of_copies(kv.driver);
	CUstream work = stream(kv.driver), queue = stream(kv.driver);
	start_kernel(&kv, work);
	queue_copies(&kv, host, queue);
	await_kernel(&kv);
	child_tell();
	kv_blocks(&kv, 0, (number + 1) * 1000, BATCH, 0, blocks, segments);

	for (;;) {
		must("store", hbm_submit_store(kv.hbm, kv.ns, blocks, BATCH, HBM_NO_FENCES, results,
					       &ticket));
		must("load", hbm_submit_load(kv.hbm, kv.ns, blocks, BATCH, HBM_NO_FENCES, results,
					     &ticket));
		must("evict", hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL));
		must("wait", hbm_wait(kv.hbm, ticket, 60000));
	}
}

/* ---- Who comes after it ---- */

static int keep_device(const void *record, size_t bytes, void *arg)
{
	assert_int_equal(bytes, sizeof(struct hbm_wire_device));
	memcpy(arg, record, bytes);
	return 0;
}

/*
 * Takes all memory there is for regions, so that it has the victim's, writes all of it,
 * and looks at it a little later.
 */
static void take_all_and_look(void)
{
	struct kv kv = {.hbm = spawn_connect(&daemon_)};
	struct hbm_wire_device device = {0};
	char *bytes = malloc(SLAB), *seen = malloc(SLAB);

	assert_non_null(bytes);
	assert_non_null(seen);
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_DEVICES, keep_device, &device), 0);
	kv.region = kv_region(&kv, device.regions);
	kv_enter(&kv, kv.hbm, 0);

	for (uint64_t at = 0; at < device.regions; at += SLAB) {
		kv_fill(at + 1, bytes, SLAB);
		kv_write(&kv, hbm_region_address(kv.region) + at, bytes, SLAB);
	}

	nanosleep(&(const struct timespec){.tv_nsec = 20000000},
		  NULL); /* for what would still come */

	for (uint64_t at = 0; at < device.regions; at += SLAB) {
		kv_fill(at + 1, bytes, SLAB);
		kv_read(&kv, seen, hbm_region_address(kv.region) + at, SLAB);
		assert_memory_equal(seen, bytes, SLAB);
	}

	kv_close(&kv);
	free(bytes);
	free(seen);
}

static void test_nothing_comes_after_a_killed_client(void **state)
{
	(void)state;
	struct seed seed;
	seed_open(&seed, "test_kernel_death");

	for (uint64_t round = 0; round < (getenv("HBM_TEST_LONG") ? 100 : 4); round++) {
		struct child child;

		child_start(&child, "work_until_killed", &daemon_, round);
		child_await(&child);
		nanosleep(&(const struct timespec){.tv_nsec = (long)seed_below(&seed, 30000000)},
			  NULL);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		spawn_settle(&daemon_);
		take_all_and_look();
	}
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"work_until_killed", work_until_killed},
						  {NULL, NULL}};
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_comes_after_a_killed_client, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
