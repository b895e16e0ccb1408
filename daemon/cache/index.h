/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: which blocks exist. A table of fixed-size entries named by number (0: none),
 * and a hash over (namespace, key) that finds them. The table's address space is reserved
 * once for [limits] blocks; pages are touched as blocks come, and numbers are reused last
 * freed first, so memory follows the number of blocks.
 *
 * The hash grows by linear hashing: each insertion splits at most one bucket, so no
 * insertion is slow, and there is one bucket for each block of the table's highest count.
 * The hash is keyed with a secret of this process: clients choose the keys.
 *
 * The modules that own an entry's other members define their meaning.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One block; 88 bytes, so that with its share of hash and extents an entry stays under
 * 96. Numbers refer to the same table. The members that a search compares come first, in one
 * cache line for most entries, because they decide how long a lookup takes. */
struct block {
	/* index.c */
	struct hbm_wire_key key;
	uint32_t hash_next;
	uint16_t ns; /* namespace number */

	/* block.c, to the end except where named */
	uint16_t target : 7, /* number of the tier where the policy wants it; 0: nowhere */
		actual : 7,  /* number of the tier that has its bytes; 0: none */
		level : 2;   /* cache_retain.c: the part of its tier's order that it is in */
	uint32_t stored_units : 24, state : 3, checksummed : 1, queued : 1, dropping : 1,
		copied : 1,         /* it has a copy in copies.h */
		incompressible : 1; /* it was encoded for a disk, and took no less */
	uint32_t refs;         /* pins, and children that have references: not evicted while > 0 */
	uint32_t touched;      /* cache.c: the last pass that used it */
	uint32_t newer, older; /* its tier's order; of blocks in none: cache_drop.c's */
	uint32_t parent, child, sibling, sibling_back; /* tree.c */
	uint32_t pins;                                 /* of refs: its own */
	uint64_t checksum;                             /* XXH3-64 of its bytes */
	uint32_t unit; /* the extent's offset in its tier, in EXTENT_UNIT */
	uint32_t queue_next;
	uint32_t move : 31;      /* the number of the transfer that moves it, or 0 */
	uint32_t unverified : 1; /* the daemon before left its bytes; not compared yet */
	uint32_t users : 31;     /* transfers that read its place, or wait to */
	uint32_t durable : 1;    /* it stays in the NVMe tier (cache.h) */
};
static_assert(sizeof(struct block) == 88, "the index budget");

struct index;

uint64_t index_bytes_for(uint64_t max_blocks);          /* its tables, when full */
int index_new(struct index **out, uint64_t max_blocks); /* -ENOMEM, -EINVAL */
struct index *index_free(struct index *index);

struct block *index_table(struct index *index); /* the table; valid for the life of the index */

/* The key will be looked for or inserted soon: prefetches its bucket, or, a while after that and
 * with `once_more`, the first entry of the bucket. */
void index_expect(const struct index *index, uint16_t ns, const struct hbm_wire_key *key,
		  bool once_more);
/* About `count` entries will be inserted: makes the hash as large as they need, so that it does not
 * grow with each of them. No-op unless the index has never had an entry. */
void index_expect_many(struct index *index, uint64_t count);
/* The block of that key, or 0. */
uint32_t index_find(const struct index *index, uint16_t ns, const struct hbm_wire_key *key);
/* How many entries are compared with the key for that. Which bucket a key is in depends on its
 * namespace and on a secret, so that this tells nothing of the keys of other namespaces. */
uint32_t index_compared(const struct index *index, uint16_t ns, const struct hbm_wire_key *key);
/* The same as index_find() for `count` keys at once, with overlapped memory accesses. Stops at the first
 * absent key. Returns how many were found, their numbers in found. */
size_t index_find_chain(const struct index *index, uint16_t ns, const struct hbm_wire_key *keys,
			size_t count, uint32_t *found);
/* Inserts a new entry, zeroed except for namespace and key, which must be absent; 0: the
 * table is full. */
uint32_t index_insert(struct index *index, uint16_t ns, const struct hbm_wire_key *key);
/* Takes it out of the hash; the entry stays until index_release(). */
void index_remove(struct index *index, uint32_t number);
void index_release(struct index *index, uint32_t number); /* the number may be reused */

uint64_t index_count(const struct index *index); /* entries in use */
uint64_t index_max(const struct index *index);
/* No number above this has been used: for walks. */
uint32_t index_highest(const struct index *index);
bool index_used(const struct index *index, uint32_t number); /* in use, dropped ones included */
uint64_t index_memory(const struct index *index); /* bytes of table and hash touched so far */
