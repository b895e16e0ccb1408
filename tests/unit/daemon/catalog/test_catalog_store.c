/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's file: what is committed is found again, what is not ours stays, what is
 * damaged is made anew, and a write that fails changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/catalog/catalog_file.h"
#include "daemon/catalog/catalog_store.h"
#include "tests/support/catalog_rows.h"
#include "tests/support/file.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

static struct leaks leaks;
static char folder[64], path[96], error[512];
static struct catalog_store *store;
static struct catalog_contents contents;
static struct catalog_store_options options;
static atomic_bool stop;
static const struct catalog_bounds bounds = {
	.units = 1 << 20, .blocks = 100000, .trust_unchecked = true, .trust_any = true};

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	snprintf(folder, sizeof(folder), "/tmp/hbmd-test.XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/catalog", folder);
	options = (struct catalog_store_options){
		.path = path, .file = {1, 2, 3}, .blocks = 100000, .namespaces = 64};
	contents = (struct catalog_contents){0};
	atomic_store(&stop, false);

	return 0;
}

static int teardown(void **state)
{
	char name[128];

	(void)state;
	store = catalog_store_close(store);
	catalog_contents_clear(&contents);
	snprintf(name, sizeof(name), "%s-wal", path);
	unlink(name);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(leaks_end(&leaks), 0);

	return 0;
}

static int try_open(void)
{
	error[0] = '\0';
	return catalog_store_open(&store, &options, &(struct reason){error, sizeof(error)});
}

static void reopen(enum catalog_found found)
{
	store = catalog_store_close(store);
	if (try_open() != 0)
		fail_msg("%s", error);
	assert_int_equal(catalog_store_found(store), found);
}

static void read_all(uint32_t count)
{
	catalog_contents_clear(&contents);
	assert_int_equal(catalog_store_read(store, &bounds, &contents, &stop), 0);
	assert_int_equal(contents.count, count);
}

/* Puts rows [first, first + count) of namespace 1. */
static int put(uint32_t first, uint32_t count, bool flush)
{
	struct catalog_change *changes = calloc(count + 1, sizeof(*changes));
	struct catalog_namespace ns = catalog_row_namespace(1);
	struct catalog_batch batch = {
		.namespaces = &ns, .namespace_count = 1, .changes = changes, .change_count = count};

	for (uint32_t i = 0; i < count; i++)
		changes[i] = (struct catalog_change){.put = true,
						     .block = catalog_row(first + i, 0, first + i)};

	int r = catalog_store_apply(store, &batch, flush);
	free(changes);

	return r;
}

static int change(uint32_t old_unit, uint64_t old_stamp, const struct catalog_block *block)
{
	struct catalog_change one = {.old_unit = old_unit, .old_stamp = old_stamp};

	if (block) {
		one.put = true;
		one.block = *block;
	}

	return catalog_store_apply(
		store, &(struct catalog_batch){.changes = &one, .change_count = 1}, false);
}

/* ---- what is there ---- */

static void test_empty(void **state)
{
	struct stat st;

	(void)state;
	reopen(CATALOG_NEW);
	read_all(0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	reopen(CATALOG_READ);
	read_all(0);
}

static void test_records(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 1000, false), 0);
	reopen(CATALOG_READ);
	read_all(1000);
	assert_int_equal(contents.namespace_count, 1);
	assert_int_equal(contents.stamp, 1000);
	for (uint32_t n = 1; n <= 1000; n++) {
		struct catalog_block block = catalog_row(n, 0, n);
		assert_memory_equal(&contents.blocks[n - 1], &block, sizeof(block));
	}
}

/* A record goes by its unit and its stamp: another block's at the same place stays. */
static void test_removal(void **state)
{
	struct catalog_block other = catalog_row(2, 0, 77);

	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 3, false), 0);
	assert_int_equal(change(CATALOG_ROW_UNITS, 1, NULL), 0);
	read_all(2);
	assert_int_equal(change(0, 0, &other), 0);
	assert_int_equal(change(2 * CATALOG_ROW_UNITS, 2, NULL), 0);
	read_all(2);
	assert_int_equal(contents.blocks[0].stamp, 77);
	assert_int_equal(change(2 * CATALOG_ROW_UNITS, 77, NULL), 0);
	read_all(1);
}

/* In one batch what goes, goes first. */
static void test_exchange(void **state)
{
	struct catalog_change changes[2] = {
		{.put = true, .block = catalog_row(1, 0, 8)},
		{.old_unit = CATALOG_ROW_UNITS, .old_stamp = 1},
	};

	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 1, false), 0);
	assert_int_equal(
		catalog_store_apply(store,
				    &(struct catalog_batch){.changes = changes, .change_count = 2},
				    true),
		0);
	read_all(1);
	assert_int_equal(contents.blocks[0].stamp, 8);
}

static void test_namespaces(void **state)
{
	uint64_t id = 1;

	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 2, false), 0);
	assert_int_equal(
		catalog_store_apply(store,
				    &(struct catalog_batch){.forgotten = &id, .forgotten_count = 1},
				    false),
		0);
	read_all(0);
	assert_int_equal(contents.refused_count, 2);
	read_all(0); /* and gone */
	assert_int_equal(contents.refused_count, 0);
}

static void test_clean(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_false(catalog_store_was_clean(store));
	assert_int_equal(catalog_store_mark(store, true), 0);
	reopen(CATALOG_READ);
	assert_true(catalog_store_was_clean(store));
	assert_int_equal(catalog_store_mark(store, false), 0);
	reopen(CATALOG_READ);
	assert_false(catalog_store_was_clean(store));
	assert_int_equal(catalog_store_mark(store, true), 0);
	assert_int_equal(put(1, 1, true), 0); /* a flush says so, too */
	reopen(CATALOG_READ);
	assert_false(catalog_store_was_clean(store));
}

static void test_stopped(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 10, false), 0);
	atomic_store(&stop, true);
	assert_int_equal(catalog_store_read(store, &bounds, &contents, &stop), -ECANCELED);
	assert_int_equal(contents.count, 0);
	atomic_store(&stop, false);
	read_all(10);
}

/* A process that ends with the log as it is. */
static void test_killed(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 10, false), 0);
	store = catalog_store_close(store);

	pid_t child = fork();
	if (child == 0) {
		bool ok = try_open() == 0 && put(11, 10, false) == 0;
		_exit(ok ? 0 : 1);
	}

	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	reopen(CATALOG_READ);
	read_all(20);
}

/* ---- what is not ours, or cannot be used ---- */

static void test_not_ours(void **state)
{
	char kept[64] = "";

	(void)state;
	file_write(path, "somebody's text, longer than the head of a database: "
			 "0123456789012345678901234567890123456789012345678901234567890123456789");
	assert_int_equal(try_open(), -EEXIST);
	assert_non_null(strstr(error, "not a catalog of hbmd"));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, kept, 15), 15);
	close(fd);
	assert_string_equal(kept, "somebody's text");
}

static void sql(const char *text)
{
	sqlite3 *db = NULL;

	store = catalog_store_close(store);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

static void test_other_database(void **state)
{
	(void)state;
	sql("CREATE TABLE theirs (x)");
	assert_int_equal(try_open(), -EEXIST);
}

static void test_folder(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try_open(), -EEXIST);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(try_open(), -ELOOP);
}

static void test_no_folder(void **state)
{
	(void)state;
	options.path = "/nowhere/at/all";
	assert_int_equal(try_open(), -ENOENT);
	assert_non_null(strstr(error, "/nowhere/at/all"));
}

static void test_unknown_version(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 10, true), 0);
	sql("PRAGMA user_version = 77");
	reopen(CATALOG_VERSION);
	read_all(0);
	reopen(CATALOG_READ);
}

static void test_other_file(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 10, true), 0);
	options.file[0] ^= 1;
	reopen(CATALOG_OTHER);
	read_all(0);
	reopen(CATALOG_READ);
}

static void test_no_table(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 10, true), 0);
	sql("DROP TABLE blocks");
	reopen(CATALOG_READ);
	read_all(0);
	assert_int_equal(catalog_store_found(store), CATALOG_DAMAGED);
	assert_int_equal(put(1, 5, true), 0);
	read_all(5);
	sql("DROP TABLE head");
	reopen(CATALOG_DAMAGED);
}

/* Columns of other types, numbers that are none of ours. */
static void test_odd_rows(void **state)
{
	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 3, true), 0);
	sql("INSERT INTO blocks VALUES (-5, 1, x'00'), (1000000000000, 1, 'text'), (9, 'a', 7);"
	    "INSERT INTO namespaces VALUES (-1, x'00'), (77, 'text')");
	reopen(CATALOG_READ);
	read_all(3);
	assert_int_equal(contents.refused_count, 3);
	read_all(3);
	assert_int_equal(contents.refused_count, 0);
}

/* What is read of rows as put() puts them is as it was written. */
static void read_sound(void)
{
	catalog_contents_clear(&contents);
	assert_int_equal(catalog_store_read(store, &bounds, &contents, &stop), 0);
	for (uint32_t i = 0; i < contents.count; i++) {
		uint32_t n = contents.blocks[i].unit / CATALOG_ROW_UNITS;
		struct catalog_block block = catalog_row(n, 0, n);
		assert_memory_equal(&contents.blocks[i], &block, sizeof(block));
	}
}

/* At any length: of the last page a part may be read. */
static void test_truncated(void **state)
{
	struct stat st;

	(void)state;
	reopen(CATALOG_NEW);
	assert_int_equal(put(1, 5000, true), 0);
	store = catalog_store_close(store);
	assert_int_equal(stat(path, &st), 0);

	for (off_t left = 0; left < st.st_size; left += st.st_size / 7) {
		assert_int_equal(truncate(path, left), 0);
		assert_int_equal(try_open(), 0);
		read_sound();
		assert_true(contents.count < 5000);
		if (left + 4096 < st.st_size)
			assert_int_equal(catalog_store_found(store),
					 left == 0 ? CATALOG_NEW : CATALOG_DAMAGED);
		assert_int_equal(put(1, 5000, true), 0);
		store = catalog_store_close(store);
	}
}

/* Bits that a disk has changed: what is read is what was written, or nothing; and the store
 * can be used afterwards. */
static void test_bit_rot(void **state)
{
	struct seed seed;
	struct stat st;

	(void)state;
	seed_open(&seed, "test_bit_rot");
	for (int round = 0; round < 60; round++) {
		unlink(path);
		assert_int_equal(try_open(), 0);
		assert_int_equal(put(1, 2000, true), 0);
		store = catalog_store_close(store);
		assert_int_equal(stat(path, &st), 0);

		int fd = open(path, O_RDWR | O_CLOEXEC);
		for (uint64_t n = 1 + seed_below(&seed, 200); n > 0; n--) {
			off_t at = 100 + (off_t)seed_below(&seed, (uint64_t)st.st_size - 100);
			unsigned char byte = 0;
			assert_int_equal(pread(fd, &byte, 1, at), 1);
			byte ^= (unsigned char)(1u << seed_below(&seed, 8));
			assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		}
		close(fd);

		assert_int_equal(try_open(), 0);
		read_sound();
		(void)put(5000, 100, true); /* it may fail, and does no harm */
		store = catalog_store_close(store);
	}
}

/* ---- writes that fail ---- */

/* Calls of SQLite that fail from the n-th on. */
static struct failing {
	const char *name;
	sqlite3_syscall_ptr real;
	int left; /* until the first that fails; < 0: none does */
	int error;
} failing = {.left = -1};

static bool fails(void)
{
	if (failing.left < 0 || failing.left-- > 0)
		return false;

	failing.left = 0;
	errno = failing.error;

	return true;
}

static ssize_t failing_pwrite(int fd, const void *bytes, size_t size, off_t at)
{
	return fails() ? -1 : pwrite(fd, bytes, size, at);
}

static void fail_from(int n, int with)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	failing.left = n;
	failing.error = with;
	assert_int_equal(
		vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)(void *)failing_pwrite),
		SQLITE_OK);
}

static void fail_no_more(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	failing.left = -1;
	assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite64", NULL), SQLITE_OK);
}

/* Every write of a commit, one after the other: it has changed all or nothing, and the next
 * one succeeds. */
static void failing_commits(int with, int status)
{
	bool succeeded = false;
	uint32_t have = 10;

	reopen(CATALOG_NEW);
	assert_int_equal(put(1, have, true), 0);
	for (int n = 0; !succeeded; n++) {
		assert_true(n < 1000);
		fail_from(n, with);
		int r = put(have + 1, 300, n % 2 == 0);
		fail_no_more();

		succeeded = r == 0;
		if (!succeeded)
			assert_int_equal(r, status);
		else
			have += 300;
		read_all(have);
	}

	assert_int_equal(put(have + 1, 10, false), 0);
	reopen(CATALOG_READ);
	read_all(have + 10);
}

static void test_disk_full(void **state)
{
	(void)state;
	failing_commits(ENOSPC, -ENOSPC);
}

static void test_disk_broken(void **state)
{
	(void)state;
	failing_commits(EIO, -EIO);
}

/* The n-th write of the creation: there is no half catalog afterwards. */
static void test_creation_fails(void **state)
{
	(void)state;
	int r = -1;
	for (int n = 0; r != 0; n++) {
		assert_true(n < 1000);
		fail_from(n, ENOSPC);
		r = try_open();
		fail_no_more();
		store = r == 0 ? store : NULL;
		if (r != 0)
			assert_int_equal(r, -ENOSPC);
	}

	reopen(CATALOG_READ);
	read_all(0);
}

/* It grows no further than its blocks may want. */
static void test_bounded(void **state)
{
	int r = 0;
	uint32_t n = 1;

	(void)state;
	options.blocks = options.namespaces = 1;
	reopen(CATALOG_NEW);
	for (; r == 0; n += 1000) {
		assert_true(n < 100000);
		r = put(n, 1000, false);
	}

	assert_int_equal(r, -ENOSPC);
	assert_int_equal(change(CATALOG_ROW_UNITS, 1, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exchange, setup, teardown),
		cmocka_unit_test_setup_teardown(test_namespaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_database, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bit_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_creation_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
