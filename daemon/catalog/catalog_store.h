/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_store: the file of the catalog: an SQLite database with a write-ahead log, and
 * nothing that is not in the tables below. Calls block, and belong to one thread at a time.
 *
 * 	head		one row: the label of the NVMe file that it is of; whether hbmd was
 * 			stopped cleanly since; how many flushes there were
 * 	namespaces	id, record
 * 	blocks		unit, stamp, record
 *
 * Why SQLite: a transaction in its log is safe from a kill without a flush, and whatever of the
 * log a power cut leaves is a number of whole transactions, because each frame has a
 * checksum over all before it. So changes cost no flush, and a flush is needed only for what
 * must be durable. What is damaged is an error code, never a fault of the process, which a
 * mapped tree of pages cannot say of a disk that changes bits.
 *
 * 	               the file is
 * 	CATALOG_READ	ours, of this NVMe file, of this version
 * 	CATALOG_NEW	absent, or empty
 * 	CATALOG_OTHER	ours, of another NVMe file		\
 * 	CATALOG_VERSION	ours, of a version that is not known	 } made anew, empty
 * 	CATALOG_DAMAGED	ours, and it cannot be read		/
 *
 * A file that is not ours is refused, and left as it is.
 *
 * The database has a largest size, by the blocks that there may be; its log is cut to
 * CATALOG_LOG_BYTES whenever it has been written back.
 */
#pragma once

#include "daemon/base/reason.h"
#include "daemon/catalog/catalog_contents.h"

#include <stdatomic.h>

#define CATALOG_LOG_BYTES (16ull << 20)
#define CATALOG_VERSION_NUMBER 2 /* of the tables and records */
#define CATALOG_FILE_ID 16       /* bytes */

enum catalog_found {
	CATALOG_READ,
	CATALOG_NEW,
	CATALOG_OTHER,
	CATALOG_VERSION,
	CATALOG_DAMAGED,
};

struct catalog_store;

struct catalog_store_options {
	const char *path;
	uint8_t file[CATALOG_FILE_ID]; /* the label of the NVMe file */
	uint64_t blocks, namespaces;   /* at most */
};

/* A change of one block: its record goes, or comes, or both. */
struct catalog_change {
	uint32_t old_unit;  /* where there is a record of that stamp */
	uint64_t old_stamp; /* 0: there is none */
	bool put;           /* `block` is its record now, at block.unit */
	struct catalog_block block;
};

/* One transaction: in this order. */
struct catalog_batch {
	const uint64_t *forgotten; /* ids of namespaces */
	const struct catalog_namespace *namespaces;
	const struct catalog_change *changes; /* first all that go, then all that come */
	uint32_t forgotten_count, namespace_count, change_count;
};

/* -EEXIST: something that is not ours; or another negative errno. A line in reason. */
int catalog_store_open(struct catalog_store **out, const struct catalog_store_options *options,
		       const struct reason *reason);
/* Ends what is not committed. Accepts NULL, returns NULL. */
struct catalog_store *catalog_store_close(struct catalog_store *store);
enum catalog_found catalog_store_found(const struct catalog_store *store);
/* Why what was there is not read, as the end of a sentence; NULL: it is, or there was nothing. */
const char *catalog_store_found_why(const struct catalog_store *store);
/* Whether the daemon that had it last stopped cleanly. */
bool catalog_store_was_clean(const struct catalog_store *store);

/* Reads all of it, until *stop: -ECANCELED. What turns out to be damaged is made anew: the
 * contents are empty then. What is refused is removed. */
int catalog_store_read(struct catalog_store *store, const struct catalog_bounds *bounds,
		       struct catalog_contents *contents, const atomic_bool *stop);
/* Makes the changes; with `flush` they are on the disk, and all before them. Negative errno:
 * nothing has changed. */
int catalog_store_apply(struct catalog_store *store, const struct catalog_batch *batch, bool flush);
/* Says whether hbmd has stopped cleanly; on the disk when this returns. */
int catalog_store_mark(struct catalog_store *store, bool clean);
/* Removes the records at these units. */
int catalog_store_remove(struct catalog_store *store, const int64_t *units, uint32_t count);
