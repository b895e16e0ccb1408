/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for the catalog, whose own times are an hour here: what is queued is flushed at once,
 * what fails is tried again a second later, and a job that hangs while blocks come back keeps nobody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/catalog/catalog.h"
#include "daemon/catalog/catalog_store.h"
#include "daemon/loop/loop.h"
#include "tests/support/cache_rig.h"
#include "tests/support/catalog_rows.h"

#define COUNT 10u
#define HOUR_NS (3600 * UINT64_C(1000000000))
#define LOOK_NS UINT64_C(2000000)            /* between looks at what a test waits for */
#define GUARD_NS (20 * UINT64_C(1000000000)) /* it does not come: far above what it takes */

static struct cache_rig rig;
static struct loop *loop;
static struct catalog *catalog;
static char folder[64], path[80];
static int fd; /* of the NVMe file */
static struct timer look;
static uint64_t begun_ns;
static bool (*awaited)(void);
static bool fitting; /* the namespace that is found may be restored */

static struct catalog_barrier barrier;
static unsigned done, failed;

static void note_done(struct catalog_barrier *it)
{
	(void)it;
	done++;
}

static void note_failed(struct catalog_barrier *it)
{
	(void)it;
	failed++;
}

static void bar(void)
{
	done = failed = 0;
	barrier = (struct catalog_barrier){.done = note_done, .failed = note_failed};
	catalog_flush_all(catalog, &barrier);
}

/* ---- writes of the catalog's file that hang ---- */

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static bool holding;

static ssize_t held_pwrite(int file, const void *bytes, size_t size, off_t at)
{
	pthread_mutex_lock(&held);
	pthread_mutex_unlock(&held);

	return pwrite(file, bytes, size, at);
}

static void hold(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	pthread_mutex_lock(&held);
	holding = true;
	assert_int_equal(
		vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)(void *)held_pwrite),
		SQLITE_OK);
}

static void let_go(void)
{
	if (holding)
		pthread_mutex_unlock(&held);
	holding = false;
}

/* ---- a catalog ---- */

/* Called as blocks come back: no job is busy then. */
static bool fits(void *arg, const struct namespace_identity *identity)
{
	(void)arg;
	(void)identity;
	if (!fitting) {
		assert_int_equal(catalog_state(catalog), CATALOG_RECOVERY);
		bar();
		hold();
	}

	return fitting;
}

static void progress(void *arg)
{
	(void)arg;
}

static void look_again(struct timer *timer)
{
	if (awaited() || clock_now() - begun_ns > GUARD_NS)
		loop_stop(loop);
	else
		loop_timer_set(loop, timer, clock_now() + LOOK_NS);
}

static void await(bool (*is_so)(void))
{
	awaited = is_so;
	begun_ns = clock_now();
	look.fire = look_again;
	loop_timer_set(loop, &look, begun_ns);
	assert_int_equal(loop_run(loop), 0);
	assert_true(is_so());
}

static bool has_settled(void)
{
	return catalog_has_settled(catalog);
}

static bool is_told(void)
{
	return done + failed > 0;
}

static bool is_fine(void)
{
	return catalog_figures(catalog).failing == 0;
}

static void open_catalog(bool restored, uint64_t timeout_ns)
{
	static const uint8_t file[CATALOG_FILE_ID] = {1};
	const struct catalog_options options = {.loop = loop,
						.cache = rig.cache,
						.path = path,
						.file = file,
						.fd = fd,
						.checksums = true,
						.commit_ns = HOUR_NS,
						.flush_ns = HOUR_NS,
						.timeout_ns = timeout_ns,
						.fits = fits,
						.progress = progress};

	fitting = restored;
	done = failed = 0;
	assert_int_equal(catalog_open(&catalog, &options), 0);
}

static int setup(void **state)
{
	static const uint64_t units[] = {20, 20, (COUNT + 1) * CATALOG_ROW_UNITS};
	char data[96];

	(void)state;
	cache_rig_open(&rig, "test_catalog", 1, units);
	rig.cache->nvme->claiming = true;
	snprintf(folder, sizeof(folder), "/tmp/hbmd-test.XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/catalog", folder);
	snprintf(data, sizeof(data), "%s/data", folder);
	fd = open(data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	catalog_rows_store(path, COUNT);
	assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);

	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"catalog", "catalog-wal", "catalog-shm", "data"};
	char name[128];
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	(void)state;
	let_go();
	catalog = catalog_close(catalog, false);
	loop = loop_free(loop);
	(void)vfs->xSetSystemCall(vfs, "pwrite64", NULL);
	close(fd);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), "%s/%s", folder, names[i]);
		unlink(name);
	}
	assert_int_equal(rmdir(folder), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);

	return 0;
}

/* A barrier does not wait for nvme.catalog_ms, whether something is queued or not. */
static void test_a_barrier_is_flushed_at_once(void **state)
{
	(void)state;
	open_catalog(true, HOUR_NS);
	await(has_settled);
	bar();
	await(is_told);
	assert_int_equal(done, 1);
}

/* It is tried again although what is queued has an hour. */
static void test_a_failure_is_tried_again(void **state)
{
	int good = dup(fd), ends[2];
	struct hbm_wire_key key = catalog_row_key(1);

	(void)state;
	open_catalog(true, HOUR_NS);
	await(has_settled);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(dup2(ends[1], fd), fd); /* cannot be flushed */
	bar();
	await(is_told);
	assert_int_equal(failed, 1);
	assert_false(is_fine());
	cache_drop(rig.cache, cache_find(rig.cache, 1, &key));
	assert_int_equal(dup2(good, fd), fd);
	await(is_fine);
	close(good);
	close(ends[0]);
	close(ends[1]);
}

/* Records are to be removed, which hangs, and a client has come to wait before. */
static void test_a_hang_while_blocks_come_back(void **state)
{
	(void)state;
	open_catalog(false, LOOK_NS);
	await(is_told);
	assert_int_equal(failed, 1);
	assert_int_equal(catalog_state(catalog), CATALOG_RECOVERY);
	let_go();
	await(has_settled);
	assert_int_equal(catalog_figures(catalog).refused, COUNT);
	assert_int_equal(done, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_barrier_is_flushed_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failure_is_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_hang_while_blocks_come_back, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
