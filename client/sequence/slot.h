/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: the part of a pool's region that one sequence has while it is open. A slot that no
 * sequence has keeps slabs of its last one mapped (warm), for the next.
 */
#pragma once

#include "client/sequence/page.h"
#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct account;
struct hbm_layout;
struct hbm_pool;
struct hbm_sequence;
struct ranges;

struct slot {
	struct list link;              /* in pool->warm or pool->cold while it is free */
	struct hbm_sequence *sequence; /* NULL: it is free */
	struct account *account;       /* the sequence's */
	uint64_t slabs;                /* mapped in it */
	struct page_table pages;
	uint32_t record; /* of its sequence on the board */
};

uint32_t hbm_slot_index(const struct hbm_pool *pool, const struct slot *slot);
/* Bytes from the region's begin to the slot's. */
uint64_t hbm_slot_offset(const struct hbm_pool *pool, const struct slot *slot);
/* Whether a slab is mapped; and nowhere else, so that it may be written. Offset in the slot. */
bool hbm_slot_has(const struct hbm_pool *pool, const struct slot *slot, uint64_t offset);
bool hbm_slot_owns(const struct hbm_pool *pool, const struct slot *slot, uint64_t offset);
/* The bytes of all slabs that are mapped nowhere else. */
uint64_t hbm_slot_owned_bytes(const struct hbm_pool *pool, const struct slot *slot);
/* How it is to be mapped where another slot gets it, too: flags of a share. */
uint32_t hbm_slot_share_flags(const struct hbm_pool *pool, const struct slot *slot,
			      uint64_t offset);
/* A sequence has it, with that record: what is mapped is shown there from now on. */
void hbm_slot_begin(const struct hbm_pool *pool, struct slot *slot, struct hbm_sequence *sequence,
		    uint32_t record);
/* pool->sharing_changed. */
void hbm_slot_sharing_changed(const struct hbm_pool *pool, const struct page_table *table);
/* So many more or fewer are mapped in it. */
void hbm_slot_add(struct hbm_pool *pool, struct slot *slot, int64_t slabs);
/* Adds to the ranges the runs of slabs within bytes of the slot that are mapped, or that are
 * not. */
void hbm_slot_runs(struct hbm_pool *pool, const struct slot *slot, uint64_t offset, uint64_t bytes,
		   bool mapped, struct ranges *ranges);
/* Adds the runs of mapped slabs that so many tokens of a layout do not need; or of these, those
 * that no other sequence has. */
void hbm_slot_beyond(struct hbm_pool *pool, const struct hbm_layout *layout,
		     const struct slot *slot, uint64_t tokens, struct ranges *ranges);
void hbm_slot_owned_beyond(struct hbm_pool *pool, const struct hbm_layout *layout,
			   const struct slot *slot, uint64_t tokens, struct ranges *ranges);
/* Adds its slabs, within the bytes, that other slots or the cache have, too. */
void hbm_slot_shared(struct hbm_pool *pool, const struct slot *slot, uint64_t offset,
		     uint64_t bytes, struct ranges *ranges);
/* A free slot for a sequence that is expected to need so many slabs: the one with the fewest
 * that has enough, else the one with the most. NULL: all are taken. The caller gives it a
 * sequence. */
struct slot *hbm_slot_take(struct hbm_pool *pool, uint64_t slabs);
/* A free slot for slabs that others have: the one with the fewest of its own. */
struct slot *hbm_slot_take_empty(struct hbm_pool *pool);
/* Its sequence has gone. What is mapped in it is warm. */
void hbm_slot_free(struct hbm_pool *pool, struct slot *slot);
