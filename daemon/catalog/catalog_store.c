/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_store.h"

#include "daemon/catalog/catalog_file.h"

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u           /* of a database: SQLite's default */
#define ROW_BYTES 128u       /* of a block, with its share of the tree */
#define NAMESPACE_BYTES 512u /* the same */
#define PAGES_LEAST 256u     /* for the rest */
#define STOP_STEP 4096u      /* rows between two looks at `stop` */

enum catalog_statement {
	CATALOG_BEGIN,
	CATALOG_COMMIT,
	CATALOG_ROLLBACK,
	CATALOG_MARK,
	CATALOG_PUT_BLOCK,
	CATALOG_REMOVE_BLOCK,
	CATALOG_REMOVE_UNIT,
	CATALOG_PUT_NAMESPACE,
	CATALOG_REMOVE_NAMESPACE,
	CATALOG_STATEMENTS /* one past the last */
};

static const char *const catalog_store_sql[CATALOG_STATEMENTS] = {
	[CATALOG_BEGIN] = "BEGIN IMMEDIATE",
	[CATALOG_COMMIT] = "COMMIT",
	[CATALOG_ROLLBACK] = "ROLLBACK",
	[CATALOG_MARK] = "UPDATE head SET clean = ?1, flushes = flushes + 1",
	[CATALOG_PUT_BLOCK] =
		"INSERT OR REPLACE INTO blocks (unit, stamp, record) VALUES (?1, ?2, ?3)",
	[CATALOG_REMOVE_BLOCK] = "DELETE FROM blocks WHERE unit = ?1 AND stamp = ?2",
	[CATALOG_REMOVE_UNIT] = "DELETE FROM blocks WHERE unit = ?1",
	[CATALOG_PUT_NAMESPACE] = "INSERT OR REPLACE INTO namespaces (id, record) VALUES (?1, ?2)",
	[CATALOG_REMOVE_NAMESPACE] = "DELETE FROM namespaces WHERE id = ?1",
};

static const char catalog_store_schema[] =
	"BEGIN;"
	"CREATE TABLE head (file BLOB NOT NULL, clean INTEGER NOT NULL, flushes INTEGER NOT NULL);"
	"CREATE TABLE namespaces (id INTEGER PRIMARY KEY, record BLOB NOT NULL);"
	"CREATE TABLE blocks (unit INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, record BLOB NOT "
	"NULL);";

struct catalog_store {
	struct catalog_store_options options;
	char *path;
	sqlite3 *db;
	sqlite3_stmt *statements[CATALOG_STATEMENTS];
	enum catalog_found found;
	bool clean;
	bool flushes; /* the commits do at present */
};

/* ---- calls ---- */

static int catalog_store_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_SCHEMA:
	case SQLITE_ERROR: /* a table is not there, or another one */
	case SQLITE_MISMATCH:
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

static int catalog_store_exec(const struct catalog_store *store, const char *sql)
{
	return catalog_store_errno(sqlite3_exec(store->db, sql, NULL, NULL, NULL));
}

/* Of a database that cannot be opened the system says more. */
static int catalog_store_open_errno(sqlite3 *db, int rc)
{
	int error = db && rc == SQLITE_CANTOPEN ? sqlite3_system_errno(db) : 0;

	return error != 0 ? -error : catalog_store_errno(rc);
}

/* The statement, prepared when it is wanted first. */
static int catalog_store_statement(struct catalog_store *store, enum catalog_statement which,
				   sqlite3_stmt **out)
{
	int rc = SQLITE_OK;

	if (!store->statements[which])
		rc = sqlite3_prepare_v3(store->db, catalog_store_sql[which], -1,
					SQLITE_PREPARE_PERSISTENT, &store->statements[which], NULL);
	*out = store->statements[which];

	return catalog_store_errno(rc);
}

static int catalog_store_step(sqlite3_stmt *statement)
{
	int rc = sqlite3_step(statement);

	sqlite3_reset(statement);

	return catalog_store_errno(rc);
}

/* One with a number and bytes (or without), or with two numbers. */
static int catalog_store_run(struct catalog_store *store, enum catalog_statement which,
			     int64_t first, int64_t second)
{
	sqlite3_stmt *statement;
	int r = catalog_store_statement(store, which, &statement);
	if (r < 0)
		return r;

	if (sqlite3_bind_parameter_count(statement) >= 1)
		sqlite3_bind_int64(statement, 1, first);
	if (sqlite3_bind_parameter_count(statement) >= 2)
		sqlite3_bind_int64(statement, 2, second);

	return catalog_store_step(statement);
}

static int catalog_store_simply(struct catalog_store *store, enum catalog_statement which)
{
	return catalog_store_run(store, which, 0, 0);
}

static int catalog_store_put_block(struct catalog_store *store, const struct catalog_block *block)
{
	sqlite3_stmt *statement;
	int r = catalog_store_statement(store, CATALOG_PUT_BLOCK, &statement);
	if (r < 0)
		return r;

	sqlite3_bind_int64(statement, 1, block->unit);
	sqlite3_bind_int64(statement, 2, (int64_t)block->stamp);
	sqlite3_bind_blob(statement, 3, block, sizeof(*block), SQLITE_STATIC);

	return catalog_store_step(statement);
}

static int catalog_store_put_namespace(struct catalog_store *store,
				       const struct catalog_namespace *ns)
{
	sqlite3_stmt *statement;
	int r = catalog_store_statement(store, CATALOG_PUT_NAMESPACE, &statement);
	if (r < 0)
		return r;

	sqlite3_bind_int64(statement, 1, (int64_t)ns->id);
	sqlite3_bind_blob(statement, 2, ns, sizeof(*ns), SQLITE_STATIC);

	return catalog_store_step(statement);
}

/* ---- transactions ---- */

/* Whether commits flush from now on. A pragma does what it says when it is compiled, so it is no
 * statement to keep. */
static int catalog_store_set_flushing(struct catalog_store *store, bool flush)
{
	int r = 0;

	if (store->flushes != flush)
		r = catalog_store_exec(store, flush ? "PRAGMA synchronous = FULL"
						    : "PRAGMA synchronous = NORMAL");
	if (r == 0)
		store->flushes = flush;

	return r;
}

static int catalog_store_begin(struct catalog_store *store, bool flush)
{
	int r = catalog_store_set_flushing(store, flush);

	return r < 0 ? r : catalog_store_simply(store, CATALOG_BEGIN);
}

/* A failed transaction leaves nothing. */
static int catalog_store_end(struct catalog_store *store, int r)
{
	if (r == 0)
		r = catalog_store_simply(store, CATALOG_COMMIT);
	if (r < 0 && !sqlite3_get_autocommit(store->db))
		(void)catalog_store_simply(store, CATALOG_ROLLBACK);

	return r;
}

static int catalog_store_make_changes(struct catalog_store *store,
				      const struct catalog_batch *batch)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < batch->forgotten_count; i++)
		r = catalog_store_run(store, CATALOG_REMOVE_NAMESPACE, (int64_t)batch->forgotten[i],
				      0);
	for (uint32_t i = 0; r == 0 && i < batch->namespace_count; i++)
		r = catalog_store_put_namespace(store, &batch->namespaces[i]);
	for (uint32_t i = 0; r == 0 && i < batch->change_count; i++)
		if (batch->changes[i].old_stamp != 0)
			r = catalog_store_run(store, CATALOG_REMOVE_BLOCK,
					      batch->changes[i].old_unit,
					      (int64_t)batch->changes[i].old_stamp);
	for (uint32_t i = 0; r == 0 && i < batch->change_count; i++)
		if (batch->changes[i].put)
			r = catalog_store_put_block(store, &batch->changes[i].block);

	return r;
}

int catalog_store_apply(struct catalog_store *store, const struct catalog_batch *batch, bool flush)
{
	int r = catalog_store_begin(store, flush);
	if (r < 0)
		return r;

	/* Only a commit of something that is another than before flushes. */
	r = flush ? catalog_store_run(store, CATALOG_MARK, false, 0) : 0;
	if (r == 0)
		r = catalog_store_make_changes(store, batch);

	return catalog_store_end(store, r);
}

int catalog_store_mark(struct catalog_store *store, bool clean)
{
	int r = catalog_store_begin(store, true);

	return r < 0 ? r
		     : catalog_store_end(store, catalog_store_run(store, CATALOG_MARK, clean, 0));
}

int catalog_store_remove(struct catalog_store *store, const int64_t *units, uint32_t count)
{
	int r = catalog_store_begin(store, false);
	if (r < 0)
		return r;

	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = catalog_store_run(store, CATALOG_REMOVE_UNIT, units[i], 0);

	return catalog_store_end(store, r);
}

/* ---- reading ---- */

struct catalog_reading {
	struct catalog_store *store;
	const struct catalog_bounds *bounds;
	struct catalog_contents *contents;
	const atomic_bool *stop;
	int (*add)(const struct catalog_reading *reading, int64_t id, const void *bytes,
		   size_t size);
};

static int catalog_reading_add_namespace(const struct catalog_reading *reading, int64_t id,
					 const void *bytes, size_t size)
{
	return catalog_contents_add_namespace(reading->contents, id, bytes, size);
}

static int catalog_reading_add_block(const struct catalog_reading *reading, int64_t id,
				     const void *bytes, size_t size)
{
	return catalog_contents_add_block(reading->contents, reading->bounds, id, bytes, size);
}

/* The rows of a table, each a number and bytes. */
static int catalog_reading_rows(const struct catalog_reading *reading, const char *sql)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(reading->store->db, sql, -1, &statement, NULL), r = 0;
	if (rc != SQLITE_OK)
		return catalog_store_errno(rc);

	for (uint32_t count = 0; r == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW; count++) {
		const void *bytes = sqlite3_column_blob(statement, 1);
		size_t size = (size_t)sqlite3_column_bytes(statement, 1);

		r = reading->add(reading, sqlite3_column_int64(statement, 0), bytes ? bytes : "",
				 bytes ? size : 0);
		if (r == 0 && count % STOP_STEP == 0 && atomic_load(reading->stop))
			r = -ECANCELED;
	}

	sqlite3_finalize(statement);

	return r < 0 ? r : catalog_store_errno(rc);
}

static int catalog_reading_all(struct catalog_reading *reading)
{
	reading->add = catalog_reading_add_namespace;
	int r = catalog_reading_rows(reading, "SELECT id, record FROM namespaces ORDER BY id");
	if (r < 0)
		return r;

	reading->add = catalog_reading_add_block;
	r = catalog_reading_rows(reading, "SELECT unit, record FROM blocks ORDER BY unit");

	return r < 0 ? r : catalog_contents_sort(reading->contents);
}

/* ---- opening ---- */

static int catalog_store_open_database(struct catalog_store *store, const char *path)
{
	int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
				 NULL);

	return catalog_store_open_errno(store->db, rc);
}

/* What hbmd wants of a connection. The log's index is in memory, because no other process has the
 * file; of the database few pages are kept. */
static int catalog_store_connect(struct catalog_store *store)
{
	const struct catalog_store_options *options = &store->options;
	uint64_t pages =
		(options->blocks * ROW_BYTES + options->namespaces * NAMESPACE_BYTES) / PAGE +
		PAGES_LEAST;
	char sql[512];
	int r = catalog_store_open_database(store, store->path);
	if (r < 0)
		return r;

	(void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	snprintf(sql, sizeof(sql),
		 "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; "
		 "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = %llu; "
		 "PRAGMA cache_size = -2048; PRAGMA secure_delete = ON; "
		 "PRAGMA max_page_count = %llu; "
		 "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
		 (unsigned long long)CATALOG_LOG_BYTES, (unsigned long long)pages);

	return catalog_store_exec(store, sql);
}

static void catalog_store_disconnect(struct catalog_store *store)
{
	for (int i = 0; i < CATALOG_STATEMENTS; i++) {
		sqlite3_finalize(store->statements[i]);
		store->statements[i] = NULL;
	}

	sqlite3_close(store->db);
	store->db = NULL;
	store->flushes = false;
}

/* The head of a database that exists. -ESTALE: of another NVMe file. */
static int catalog_store_read_head(struct catalog_store *store)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(store->db, "SELECT file, clean FROM head", -1, &statement,
				    NULL),
	    r = catalog_store_errno(rc);
	if (r < 0)
		return r;

	rc = sqlite3_step(statement);
	if (rc != SQLITE_ROW)
		r = rc == SQLITE_DONE ? -EUCLEAN : catalog_store_errno(rc);
	else if (sqlite3_column_bytes(statement, 0) != CATALOG_FILE_ID ||
		 memcmp(sqlite3_column_blob(statement, 0), store->options.file, CATALOG_FILE_ID) !=
			 0)
		r = -ESTALE;
	else
		store->clean = sqlite3_column_int(statement, 1) == 1;

	sqlite3_finalize(statement);

	return r;
}

static int catalog_store_insert_head(struct catalog_store *store)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(store->db, "INSERT INTO head VALUES (?1, 0, 0)", -1, &statement,
				    NULL);
	if (rc != SQLITE_OK)
		return catalog_store_errno(rc);

	sqlite3_bind_blob(statement, 1, store->options.file, CATALOG_FILE_ID, SQLITE_STATIC);
	rc = sqlite3_step(statement);
	sqlite3_finalize(statement);

	return catalog_store_errno(rc);
}

/* The tables, in one transaction that is on the disk afterwards. */
static int catalog_store_fill(struct catalog_store *store)
{
	char sql[128];
	int r = catalog_store_exec(store, catalog_store_schema);

	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d",
		 CATALOG_APPLICATION, CATALOG_VERSION_NUMBER);
	if (r == 0)
		r = catalog_store_exec(store, sql);
	if (r == 0)
		r = catalog_store_insert_head(store);

	return r < 0 ? r : catalog_store_exec(store, "COMMIT");
}

/* Makes an empty database, under another name first: under its own there is always a whole
 * one. What was there goes. */
static int catalog_store_create(struct catalog_store *store)
{
	char path[PATH_MAX];

	catalog_store_disconnect(store);
	store->clean = false;
	int r = catalog_file_make(store->path, path, sizeof(path));
	if (r == 0)
		r = catalog_store_open_database(store, path);
	if (r == 0)
		r = catalog_store_fill(store);
	catalog_store_disconnect(store);
	if (r == 0)
		r = catalog_file_replace(store->path, path);

	return r < 0 ? r : catalog_store_connect(store);
}

/* What the file is, before the database opens it: a look at its first bytes tells ours. */
static int catalog_store_look(struct catalog_store *store, const struct reason *reason)
{
	struct catalog_file_head head;
	int r = catalog_file_look(store->path, &head);
	if (r < 0)
		return reason_set(reason, r, "%s: cannot read it: %s", store->path, strerror(-r));
	if (head.kind == CATALOG_FILE_STRANGE)
		return reason_set(reason, -EEXIST,
				  "%s holds data that is not a catalog of hbmd: move it away",
				  store->path);

	store->found = head.kind == CATALOG_FILE_ABSENT         ? CATALOG_NEW
		       : head.version != CATALOG_VERSION_NUMBER ? CATALOG_VERSION
								: CATALOG_READ;

	return 0;
}

static int catalog_store_set_up(struct catalog_store *store, const struct reason *reason)
{
	int r = catalog_store_look(store, reason);
	if (r < 0)
		return r;

	if (store->found == CATALOG_READ) {
		r = catalog_store_connect(store);
		if (r == 0)
			r = catalog_store_read_head(store);
		if (r == -ESTALE)
			store->found = CATALOG_OTHER;
		else if (r == -EUCLEAN)
			store->found = CATALOG_DAMAGED;
	}

	if (store->found != CATALOG_READ)
		r = catalog_store_create(store);
	if (r < 0)
		return reason_set(reason, r, "%s: cannot open the catalog: %s", store->path,
				  strerror(-r));

	return 0;
}

int catalog_store_open(struct catalog_store **out, const struct catalog_store_options *options,
		       const struct reason *reason)
{
	struct catalog_store *store = calloc(1, sizeof(*store));
	if (!store)
		return reason_set(reason, -ENOMEM, "the catalog: out of memory");

	store->options = *options;
	store->path = strdup(options->path);
	int r = store->path ? catalog_store_set_up(store, reason)
			    : reason_set(reason, -ENOMEM, "the catalog: out of memory");
	if (r < 0) {
		catalog_store_close(store);
		return r;
	}

	*out = store;

	return 0;
}

struct catalog_store *catalog_store_close(struct catalog_store *store)
{
	if (!store)
		return NULL;

	catalog_store_disconnect(store);
	free(store->path);
	free(store);

	return NULL;
}

enum catalog_found catalog_store_found(const struct catalog_store *store)
{
	return store->found;
}

const char *catalog_store_found_why(const struct catalog_store *store)
{
	static const char *const why[] = {
		[CATALOG_OTHER] = "is of another NVMe file",
		[CATALOG_VERSION] = "has a version that this hbmd does not know",
		[CATALOG_DAMAGED] = "is damaged",
	};

	return store->found > CATALOG_NEW ? why[store->found] : NULL;
}

bool catalog_store_was_clean(const struct catalog_store *store)
{
	return store->clean;
}

int catalog_store_read(struct catalog_store *store, const struct catalog_bounds *bounds,
		       struct catalog_contents *contents, const atomic_bool *stop)
{
	struct catalog_reading reading = {
		.store = store, .bounds = bounds, .contents = contents, .stop = stop};
	int r = catalog_reading_all(&reading);
	if (r < 0)
		catalog_contents_clear(contents);

	if (r == -EUCLEAN) {
		store->found = CATALOG_DAMAGED;
		return catalog_store_create(store);
	}

	return r < 0 || contents->refused_count == 0
		       ? r
		       : catalog_store_remove(store, contents->refused, contents->refused_count);
}
