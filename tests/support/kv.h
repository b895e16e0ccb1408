/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv: a small serving process for tests: a connection, a committed region seen as slots
 * of one block each, a namespace, and a way to write and read the region's bytes. What a
 * block holds is made from its key, its length and the position of every word, so wrong
 * bytes are seen wherever they come from. Blocks are named by small numbers; 0 is no
 * block.
 */
#pragma once

#include "tests/support/spawn.h"

#include "kernels/driver/driver.h"

struct kv {
	struct hbm *hbm;
	struct driver *driver;
	uint32_t device;   /* as the daemon counts */
	CUdevice handle;   /* the same one, here */
	CUcontext context; /* its own */
	struct hbm_region *region;
	uint32_t ns;
	uint64_t block_bytes;
	void *buffer; /* one block */
};

/* Connects, opens the namespace "kv" of such blocks and commits a region of at least
 * `slots` of them; fails the test if anything of that is refused. */
void kv_open(struct kv *kv, const struct spawn *spawn, uint32_t device, uint64_t block_bytes,
	     uint64_t slots);
void kv_close(struct kv *kv);
/* Only the device, beside a connection of one's own that has a region: for kv_write() and
 * kv_read(). */
void kv_enter(struct kv *kv, struct hbm *hbm, uint32_t device);
void kv_leave(struct kv *kv);
/* Another region of the connection's device, all of it committed. */
struct hbm_region *kv_region(struct kv *kv, uint64_t bytes);

hbm_key kv_key(uint64_t block);
/* The bytes of a block. */
void kv_fill(uint64_t block, void *bytes, uint64_t size);
void kv_put(struct kv *kv, uint64_t slot, uint64_t block); /* writes a block's bytes into a slot */
void kv_wipe(struct kv *kv, uint64_t slot);
uint64_t kv_holds(struct kv *kv, uint64_t slot,
		  uint64_t block); /* 1 if the slot holds exactly that, else 0 */
/* The same anywhere in device memory. */
void kv_write(struct kv *kv, uint64_t address, const void *bytes, uint64_t size);
void kv_read(struct kv *kv, void *bytes, uint64_t address, uint64_t size);

/* Stores slots [first_slot, + count) as blocks [first, + count), a chain that continues
 * `parent`. What the call says; results may be NULL. kv_store writes the slots first. */
int kv_store(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count, uint64_t parent,
	     hbm_result *results);
/* The same of roots, with the tier, pin, lend and durable of a block. */
int kv_store_roots(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count,
		   const struct hbm_block *as, hbm_result *results);
/* Wipes the slots, loads, and fails the test where a loaded block is not what it should
 * be. Where the call itself is refused, its status. */
int kv_load(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count,
	    hbm_result *results);
/* The blocks of one request, for the asynchronous forms: each with one segment. The
 * arrays are the caller's. */
void kv_blocks(struct kv *kv, uint64_t first_slot, uint64_t first, uint64_t count, uint64_t parent,
	       struct hbm_block *blocks, struct hbm_segment *segments);
/* LOOKUP, PREFETCH, TOUCH, PIN, UNPIN and REMOVE of blocks [first, + count); results may
 * be NULL. */
int kv_keys(struct kv *kv, enum hbm_wire_opcode op, uint64_t first, uint64_t count, uint32_t flags,
	    hbm_result *results);
uint32_t kv_lookup(struct kv *kv, uint64_t first, uint64_t count,
		   hbm_result *results); /* leading resident run */
/* The tier a block belongs to; HBM_TIER_NONE: it is not there. */
int kv_tier(struct kv *kv, uint64_t block);
/* Waits until nothing moves in the daemon. */
void kv_await_moves(struct kv *kv);
/* Evicts all that may go down to NVMe, and waits until it is there. In two steps: what is in
 * DDR goes on in one piece, while what is still arriving there would be written block by
 * block. */
void kv_push_to_nvme(struct kv *kv);
