/* SPDX-License-Identifier: Apache-2.0 */
/* What a catalog's file has comes back on a loop, beside requests: a lookup finds what has come so
 * far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/catalog/catalog.h"
#include "daemon/catalog/catalog_store.h"
#include "daemon/loop/loop.h"
#include "tests/support/cache_rig.h"
#include "tests/support/catalog_rows.h"

#define COUNT 3000u

static struct cache_rig rig;
static struct loop *loop;
static struct catalog *catalog;
static struct post post;
static uint64_t lookups, hits, misses;

static int setup(void **state)
{
	static const uint64_t units[] = {20, 20, (COUNT + 1) * CATALOG_ROW_UNITS};

	(void)state;
	cache_rig_open(&rig, "test_catalog_start", 1, units);
	rig.cache->nvme->claiming = true;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);

	return 0;
}

/* A client's request in every turn. */
static void look_up_again(struct post *self)
{
	uint16_t ns = 0;

	for (uint16_t i = 1; i < 4 && ns == 0; i++)
		ns = namespaces_get(rig.cache->namespaces, i) ? i : 0;
	if (catalog_state(catalog) == CATALOG_RECOVERY && ns != 0) {
		struct hbm_wire_key first = catalog_row_key(COUNT), last = catalog_row_key(1);

		lookups++;
		hits += cache_find(rig.cache, ns, &first) != 0;
		misses += cache_find(rig.cache, ns, &last) == 0;
	}

	if (catalog_has_settled(catalog))
		loop_stop(loop);
	else
		loop_post(loop, self);
}

static bool fits(void *arg, const struct namespace_identity *identity)
{
	(void)arg;
	(void)identity;

	return true;
}

static void progress(void *arg)
{
	(void)arg;
}

static void test_lookups_are_answered(void **state)
{
	static const uint8_t file[CATALOG_FILE_ID] = {1};
	char folder[] = "/tmp/hbmd-test.XXXXXX", path[64], name[80];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/catalog", folder);
	catalog_rows_store(path, COUNT);
	assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);
	const struct catalog_options options = {.loop = loop,
						.cache = rig.cache,
						.path = path,
						.file = file,
						.fd = -1,
						.checksums = true,
						.commit_ns = 1,
						.flush_ns = UINT64_MAX / 4,
						.fits = fits,
						.progress = progress};
	lookups = hits = misses = 0;
	assert_int_equal(catalog_open(&catalog, &options), 0);
	post.run = look_up_again;
	loop_post(loop, &post);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(catalog_state(catalog), CATALOG_KEEPING);
	assert_int_equal(catalog_figures(catalog).restored, COUNT);

	/* The first to come was there before the last. */
	assert_true(lookups >= 2);
	assert_true(hits > 0 && misses > 0 && hits + misses > lookups);
	catalog = catalog_close(catalog, false);
	loop = loop_free(loop);
	snprintf(name, sizeof(name), "%s-wal", path);
	unlink(name);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lookups_are_answered, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
