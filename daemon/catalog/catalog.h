/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: what is in the NVMe tier, kept in a file beside it (catalog_store.h), so that it is
 * found again after a restart: for each block with an extent there, as its place or as its
 * copy, a record, and one for each namespace of such blocks.
 *
 * 	            the file is read             the blocks are back
 * 	READING -----------------> RECOVERING --------------------> KEEPING
 * 	   \  it cannot be opened, or there is no memory
 * 	    `------------------------------------------------------> WITHOUT
 *
 * READING	a thread of its own opens the file and reads it. The tier is not usable yet
 * RECOVERING	catalog_recovery.h, in the background of the loop
 * KEEPING	each change of an extent is a change of a record. The loop collects them, and
 * 		the thread commits them, a batch in a transaction; one at a time
 * WITHOUT	nothing is found again; all else is as ever
 *
 * What survives what, of a block whose bytes are in the tier:
 *
 * 	a clean stop	all of them
 * 	a kill		those whose record is committed: nvme.catalog_ms later
 * 	a power cut	those that are flushed: nvme.catalog_flush_ms later
 *
 * A flush is one of the data, then one of the catalog. A record may reach the disk without one,
 * and before the bytes that it names; and what is freed is used again at once, so after a kill or
 * a power cut a record may name an extent that has another block's bytes, or some of both. Its
 * checksum says so when it is loaded (move.h), and it is a miss. Without checksums
 * (hbmd.checksum = off) the records are therefore believed after a clean stop only.
 *
 * A block that moves within the tier is found in one of its two places at any time: the old one is
 * used again when the record of the new one is flushed (catalog_left.h).
 *
 * A durable block (cache.h) does not wait for these times: the client that stores it waits, and what
 * is there by then is flushed together, as soon as the flush before has ended (catalog_waits.h).
 *
 * A durable block that is removed is forgotten as it is kept: the removal waits for the flush of what
 * takes its record away (catalog_flush_all()). One that is not may be found again after a kill or a
 * power cut within these times.
 *
 * Where the file cannot be written, the records wait, the failure is counted and logged once,
 * and it is tried again every second; the tier works as ever. Everything is bounded: the
 * changes by a table of the blocks (catalog_changes.h), the batch, and the file.
 *
 * Blocks of an ephemeral namespace have no records: no client could open it again. What is read
 * has the salts of namespaces; the file is its owner's alone.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog_waits.h"

struct catalog;

enum catalog_state { CATALOG_READING, CATALOG_RECOVERY, CATALOG_KEEPING, CATALOG_WITHOUT };

struct catalog_options {
	struct loop *loop;
	struct cache *cache; /* its NVMe tier is claiming */
	const char *path;
	const uint8_t *file; /* id of the label of the NVMe file */
	int fd;              /* of the NVMe file, for its flush; borrowed */
	bool checksums;      /* blocks have them */
	uint64_t commit_ns, flush_ns;
	uint64_t timeout_ns; /* of a flush that a durable block waits for */
	/* Whether that namespace may have blocks of its size on NVMe. */
	bool (*fits)(void *arg, const struct namespace_identity *identity);
	void *fits_arg;
	/* The tier may be usable, or have more blocks. */
	void (*progress)(void *arg);
	void *arg;
};

struct catalog_figures {
	uint64_t records;   /* committed */
	uint64_t unflushed; /* changes that a power cut would take back */
	uint64_t restored;  /* blocks, at the start */
	uint64_t refused;   /* records, at the start */
	uint64_t failures;  /* of transactions and flushes */
	uint64_t failing;   /* 1: the last one failed, or there is no catalog that can be used */
	uint64_t durable;   /* blocks of which it was said that they are */
};

/* Begins to read. -ENOMEM, or an errno of the thread. */
int catalog_open(struct catalog **out, const struct catalog_options *options);
/* With `clean` nothing moves any more: writes what is left, flushes, and says in the file that
 * hbmd has stopped cleanly. The loop does not run. Accepts NULL, returns NULL. */
struct catalog *catalog_close(struct catalog *catalog, bool clean);

enum catalog_state catalog_state(const struct catalog *catalog);
/* Whether all that will come back has. */
static inline bool catalog_has_settled(const struct catalog *catalog)
{
	return catalog_state(catalog) >= CATALOG_KEEPING;
}
/* Whether what comes to NVMe has records. While it is read that is not known, and true. */
static inline bool catalog_keeps(const struct catalog *catalog)
{
	return catalog_state(catalog) != CATALOG_WITHOUT;
}
/* Waits until the block is durable, which it is to be (cache.h): ns, key, again and done are set.
 * done() may be called from within; otherwise it is called once, unless the catalog is closed
 * first. */
void catalog_await(struct catalog *catalog, struct catalog_wait *wait);
/* The calls of the barrier are set; one may be called from within, as without a file there is nothing
 * to wait for. Otherwise one is called once, unless the catalog is closed first. */
void catalog_flush_all(struct catalog *catalog, struct catalog_barrier *barrier);
/* How many durable blocks with a record were dropped so far; of no catalog 0. */
uint64_t catalog_forgets(const struct catalog *catalog);
/* Whether one of that namespace was, after so many of all, whose record is not off the disk: until a
 * flush it may be found again after a restart. */
bool catalog_has_to_forget(const struct catalog *catalog, const struct namespace *ns,
			   uint64_t since);
struct catalog_figures catalog_figures(const struct catalog *catalog);

/* The most memory that it takes for so many blocks. */
uint64_t catalog_bytes_for(uint64_t max_blocks);
