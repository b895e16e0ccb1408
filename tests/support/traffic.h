/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic: what engines do with a cache, generated for the tests of what moves blocks:
 * chains are used, block by block loaded if it is there and stored if not; blocks are
 * pinned, dropped and pushed out. The contents of a block are a function of its namespace
 * and key, and every load compares every byte. Where blocks are encoded, those of every fourth
 * key are noise, zeros, numbers of 16 bits, and two bytes that alternate. A test sets up traffic->rig.config between
 * traffic_new() and traffic_open().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/move/load.h"
#include "daemon/move/store.h"
#include "tests/support/seed.h"
#include "tests/support/tier_rig.h"

enum {
	TRAFFIC_SLOTS = 48, /* transfers in flight, at most */
	TRAFFIC_NAMESPACES = 4,
	TRAFFIC_KEYS = 160,
	TRAFFIC_CHAIN = 8,
	TRAFFIC_SPANS = 4,
};

struct traffic;

/* One store or load, with its slot of client memory. */
struct traffic_work {
	struct store store;
	struct load load;
	struct device *device;
	uint32_t span_count;
	struct traffic *traffic;
	struct span spans[TRAFFIC_SPANS];
	uint32_t slot, ns, key;
	bool busy;
};

struct traffic {
	struct rig rig;
	struct seed seed;
	uint64_t block_bytes[TRAFFIC_NAMESPACES];
	struct hbm_wire_encoding encodings[TRAFFIC_NAMESPACES]; /* raw unless a test sets them */
	uint16_t ns[TRAFFIC_NAMESPACES];
	uint32_t namespaces;
	struct traffic_work works[TRAFFIC_SLOTS];
	uint32_t busy, wanted_busy; /* in flight; in flight when traffic_wait() returns */
	uint32_t pinned[TRAFFIC_NAMESPACES][TRAFFIC_KEYS];
	struct charge pins[TRAFFIC_NAMESPACES][TRAFFIC_KEYS];
	uint64_t piece; /* of a transfer: transfer.h */
	bool faulty;    /* failures are expected */
	uint64_t loads, stores, failed_loads, failed_stores;
};

extern const uint64_t traffic_one_size[1];                     /* 64 KiB */
extern const uint64_t traffic_mixed_sizes[TRAFFIC_NAMESPACES]; /* 4 KiB to 512 KiB */

/* The name is printed with the seed. */
struct traffic *traffic_new(const char *name);
/* Opens the rig, and a namespace for each size of block. */
void traffic_open(struct traffic *traffic, uint32_t namespaces, const uint64_t *block_bytes);
void traffic_close(struct traffic *traffic); /* the cache empties; it may be opened again */
void traffic_free(struct traffic *traffic);
/* The end of most tests: all is at rest; closes and frees. */
void traffic_end(struct traffic *traffic);

/* The number of a block; 0: it is not in the index. */
uint32_t traffic_find(struct traffic *traffic, uint32_t ns, uint32_t key);
/* What an engine does with the first `count` keys of a chain: what is there is loaded,
 * what is not is stored. */
void traffic_use(struct traffic *traffic, uint32_t ns, uint32_t first, uint32_t count,
		 uint32_t device);
/* Begins a load of a block of namespace 0, to device 0; the pump is not run. */
void traffic_load(struct traffic *traffic, uint32_t key);
/* Waits until at most `busy` loads and stores are in flight. */
void traffic_wait(struct traffic *traffic, uint32_t busy);
void traffic_pin(struct traffic *traffic, uint32_t ns, uint32_t key);
void traffic_unpin(struct traffic *traffic, uint32_t ns, uint32_t key);
/* Changes a byte of a block in the NVMe file. */
void traffic_corrupt_file(struct traffic *traffic, uint32_t number, uint64_t at);

void traffic_random_operation(struct traffic *traffic);
/* So many random operations; then nothing is pinned or moves. */
void traffic_random(struct traffic *traffic, unsigned operations);
