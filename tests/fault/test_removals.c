/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks are removed, and a namespace dropped, while the daemon has not found again yet what is on
 * NVMe, as the disk of the catalog hangs (tests/support/disk.h): they wait, and nothing comes back,
 * neither in that daemon nor in the next. And while all is there: durable blocks do not come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/disk.h"

#define COUNT 16u

static const char *const sets[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
				   "nvme.catalog_ms=1", NULL};
static const char *const hurried[] = {"device.cache=4MiB", "ddr.size=4MiB",        "nvme.size=8MiB",
				      "nvme.catalog_ms=1", "nvme.timeout_ms=1000", NULL};
static const struct hbm_block durable = {.durable = true};
static struct disk disk;

static int setup(void **state)
{
	catalog_stage_setup(state);
	disk_open(&disk, &daemon_);

	return 0;
}

static int teardown(void **state)
{
	disk_close(&disk);

	return stage_teardown(state);
}

static void begin(const char *const *with)
{
	spawn_start(&daemon_, with, disk.env);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
}

/* Two times COUNT durable blocks, and a daemon that has not found them yet. */
static void store_and_kill(const char *const *with)
{
	begin(sets);
	for (uint64_t first = 1; first < 200; first += 100)
		assert_int_equal(kv_store_roots(&kv, 0, first, COUNT, &durable, results), 0);
	catalog_stage_kill();
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, 1, 0);
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, with, disk.env);
	while (!spawn_logged(&daemon_, "serving"))
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	assert_int_equal(catalog_stage_status().catalog_restored, 0);
}

static void *mend(void *arg)
{
	(void)arg;
	nanosleep(&(const struct timespec){.tv_nsec = 100000000}, NULL);
	disk_mend(&disk);

	return NULL;
}

static uint64_t found(uint64_t first)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < COUNT; i++)
		count += kv_lookup(&kv, first + i, 1, NULL);

	return count;
}

/* Until the changes are committed. */
static void await_records(uint64_t count)
{
	catalog_stage_await_records(count);
	catalog_stage_kill();
	begin(sets);
	assert_int_equal(catalog_stage_status().catalog_restored, count);
}

static void test_blocks_are_removed(void **state)
{
	pthread_t thread;

	(void)state;
	store_and_kill(sets);
	assert_int_equal(pthread_create(&thread, NULL, mend, NULL), 0);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, COUNT, 0, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, HBM_OK);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(found(1), 0);
	assert_int_equal(found(101), COUNT);
	await_records(COUNT);
	assert_int_equal(found(1), 0);
	assert_int_equal(found(101), COUNT);
	catalog_stage_finish();
}

static void test_a_namespace_is_dropped(void **state)
{
	struct hbm_amount dropped;
	pthread_t thread;

	(void)state;
	store_and_kill(sets);
	assert_int_equal(pthread_create(&thread, NULL, mend, NULL), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, &dropped), 0);
	assert_int_equal(dropped.blocks, 2 * COUNT);
	assert_int_equal(pthread_join(thread, NULL), 0);
	await_records(0);
	assert_int_equal(found(1) + found(101), 0);
	catalog_stage_finish();
}

/* It is refused, and all is there when the disk answers. */
static void test_it_takes_too_long(void **state)
{
	(void)state;
	store_and_kill(hurried);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, COUNT, 0, results), HBM_TIMEOUT);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, NULL), HBM_TIMEOUT);
	disk_mend(&disk);
	while (catalog_stage_status().catalog_restored < 2 * COUNT)
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	assert_int_equal(found(1) + found(101), 2 * COUNT);
	catalog_stage_finish();
}

/* ---- While all is there ---- */

/* Changes wait for a minute, unless somebody waits for them. */
static const char *const slow[] = {"device.cache=4MiB",
				   "ddr.size=4MiB",
				   "nvme.size=8MiB",
				   "nvme.catalog_ms=60000",
				   "nvme.timeout_ms=10000",
				   "nvme.catalog_flush_ms=60000",
				   NULL};

static void remove_all(uint64_t first, int status)
{
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, first, COUNT, 0, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, status);
}

/* What was durable is so no more when the reply is there, nor are descendants. */
static void test_durable_ones_do_not_come_back(void **state)
{
	(void)state;
	begin(slow);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results), 0);
	assert_int_equal(kv_store_roots(&kv, 0, 101, COUNT, &durable, results), 0);
	remove_all(1, HBM_OK);
	catalog_stage_kill();
	begin(slow);
	assert_int_equal(catalog_stage_status().catalog_restored, COUNT);
	assert_int_equal(found(1), 0);
	assert_int_equal(found(101), COUNT);
	catalog_stage_finish();
}

static void test_a_namespace_does_not_come_back(void **state)
{
	struct hbm_amount dropped;

	(void)state;
	begin(slow);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results), 0);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, &dropped), HBM_OK);
	assert_int_equal(dropped.blocks, COUNT);
	catalog_stage_kill();
	begin(slow);
	assert_int_equal(found(1), 0);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results), 0);
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, UINT64_MAX, EIO);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, &dropped), HBM_IO);
	assert_int_equal(found(1), 0);
	disk_mend(&disk);
	catalog_stage_finish();
}

/* Others wait for no disk; what cannot be forgotten is said to be. */
static void test_the_disk_fails(void **state)
{
	(void)state;
	begin(slow);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results), 0);
	kv_stage_store(201, COUNT, 0);
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, UINT64_MAX, EIO);
	remove_all(201, HBM_OK);
	remove_all(1, HBM_IO);
	assert_int_equal(found(1), 0);
	remove_all(1, HBM_MISS);
	disk_mend(&disk);
	catalog_stage_finish();
}

/* Others' durable blocks may be on the disk still: whose are not durable wait for nothing, in the
 * same namespace or another. */
static void test_only_those_of_the_request_are_waited_for(void **state)
{
	const struct hbm_namespace_options options = {.model = "other",
						      .block_bytes = CATALOG_STAGE_BLOCK};
	struct hbm_amount dropped;

	(void)state;
	begin(slow);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results), 0);
	kv_stage_store(201, COUNT, 0);
	uint32_t first = kv.ns;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	kv_stage_store(301, COUNT, 0);
	kv_stage_store(401, COUNT, 0);
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, UINT64_MAX, EIO);

	kv.ns = first;
	remove_all(1, HBM_IO);
	remove_all(201, HBM_OK);
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	remove_all(301, HBM_OK);
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, &dropped), HBM_OK);
	assert_int_equal(dropped.blocks, COUNT);

	/* but a namespace is dropped when all that it had is */
	kv.ns = first;
	assert_int_equal(hbm_namespace_drop(kv.hbm, kv.ns, 0, &dropped), HBM_IO);
	disk_mend(&disk);
	catalog_stage_finish();
}

/* ---- A client that dies ---- */

/* A client that waits for it, in a process of its own. */
static _Noreturn void wait_for_it(int told)
{
	const struct hbm_namespace_options options = {.model = "kv",
						      .block_bytes = CATALOG_STAGE_BLOCK};
	struct hbm *hbm = spawn_connect(&daemon_);
	hbm_ticket ticket;
	uint32_t ns;

	if (hbm_namespace_open(hbm, &options, &ns) == 0 &&
	    hbm_submit_namespace_drop(hbm, ns, 0, NULL, &ticket) == 0 && write(told, "", 1) == 1)
		(void)hbm_wait(hbm, ticket, -1);
	_exit(1);
}

static int count_session(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(uint64_t *)arg;

	return 0;
}

static uint64_t sessions(void)
{
	uint64_t count = 0;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_SESSIONS, count_session, &count), 0);

	return count;
}

/* Until so many are connected. */
static void await_sessions(uint64_t count)
{
	for (int i = 0; sessions() != count; i++) {
		assert_true(i < 10000);
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

/* One that is dead keeps no session. */
static void test_its_client_dies(void **state)
{
	int told[2];
	char byte;

	(void)state;
	store_and_kill(sets);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0)
		wait_for_it(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1);
	close(told[0]);
	close(told[1]);
	await_sessions(2);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	await_sessions(1);
	disk_mend(&disk);
	while (catalog_stage_status().catalog_restored < 2 * COUNT)
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_blocks_are_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_namespace_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_takes_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_durable_ones_do_not_come_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_namespace_does_not_come_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_the_disk_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_those_of_the_request_are_waited_for,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_its_client_dies, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
