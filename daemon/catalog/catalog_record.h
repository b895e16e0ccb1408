/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_record: what the catalog says of one block, and of one namespace, as it lies in the
 * file. Each ends with a check over the rest: the store's pages have none, so a record that
 * a disk has changed is found here, and is none.
 *
 * A record is a struct in the byte order of the host, as the NVMe file's label is. Flags that
 * are not known, and what is to be zero and is not, make it none as well.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes have a checksum; without one they are trusted only after a clean stop. */
#define CATALOG_CHECKSUMMED 1u
/* It was stored to outlive a power cut. */
#define CATALOG_DURABLE 2u

/* Of a namespace: wipe_on_free. */
#define CATALOG_WIPE_ON_FREE 1u

/* A block with an extent in the NVMe tier. */
struct catalog_block {
	uint64_t ns;                /* the namespace's id in the catalog, never used again */
	struct hbm_wire_key key;    /* in that namespace */
	struct hbm_wire_key parent; /* all zero: a root */
	uint64_t checksum;          /* of its bytes, or 0 */
	uint64_t stamp;             /* no two records have the same; the larger is the newer */
	uint32_t unit, units;       /* the extent, in EXTENT_UNIT */
	uint32_t flags, zero;
	uint64_t check;
};
static_assert(sizeof(struct catalog_block) == 80, "the file");

struct catalog_namespace {
	uint64_t id;
	struct hbm_wire_namespace_spec spec; /* with its salt */
	struct hbm_wire_encoding encoding;
	uint32_t uid; /* who made it */
	uint32_t flags;
	char tenant[32];                 /* that had it; empty: none */
	char group[HBM_WIRE_NAME_BYTES]; /* empty: none */
	uint64_t check;
};
static_assert(sizeof(struct catalog_namespace) == 344, "the file");

/* Sets the check. */
void catalog_block_seal(struct catalog_block *block);
void catalog_namespace_seal(struct catalog_namespace *ns);
/* Reads bytes of the file. False: they are no record, and *block is not to be used. */
bool catalog_block_read(struct catalog_block *block, const void *bytes, size_t size);
bool catalog_namespace_read(struct catalog_namespace *ns, const void *bytes, size_t size);
