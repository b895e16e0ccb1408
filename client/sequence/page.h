/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page: a slab that several slots of a pool have mapped, and how many. A slab that has been in
 * one slot only has no page; where a page is down to one, that slot owns its slab again.
 *
 * Each slot counts its slabs that others have, too. So that the last slot of a page is known
 * when the others have gone, a page has the exclusive or of its slots' tables.
 *
 * A slab that the cache has, too, has a page all the time, in which the cache counts as a
 * slot, and is not written any more: what the pool has lent to others, or has borrowed. The
 * latter is mapped read-only.
 *
 * Pages are made before the call that shares slabs, so that nothing can fail after it.
 */
#pragma once

#include "client/sequence/origin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hbm_pool;
struct stash_block;

enum page_kind { PAGE_PRIVATE, PAGE_LENT, PAGE_BORROWED };

struct page {
	uint32_t slots;  /* that have it mapped, and those that hold it, and the cache */
	uint32_t mapped; /* of them: that have it mapped */
	uintptr_t who;   /* exclusive or of the tables that have it, as addresses */
	enum page_kind kind;
	struct origin origin;      /* unless it is private */
	struct stash_block *block; /* of a suspend in the making: where it is stored */
	struct page *next;
};

/* Of a slot, by slab; NULL: nothing of it was ever shared. */
struct page_table {
	struct page **list;
	uint64_t shared; /* slabs that other slots have, too */
};

/* Makes so many pages, and room for them in the table. False: no memory. */
bool hbm_page_prepare(struct hbm_pool *pool, struct page_table *table, size_t count);
/* The slab at an offset of the source is mapped at the same of the target, too; both are
 * prepared. Offsets in the slots. */
void hbm_page_share(struct hbm_pool *pool, struct page_table *source, struct page_table *target,
		    uint64_t offset);
/* The slab has been lent from now on, as that; prepared. */
void hbm_page_lend(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		   const struct origin *origin);
/* A borrowed slab is mapped there now; prepared. */
void hbm_page_borrow(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		     const struct origin *origin);
bool hbm_page_is_borrowed(const struct hbm_pool *pool, const struct page_table *table,
			  uint64_t offset);
/* Keeps the page of a slab, which is made if there is none, while the slab moves; prepared. */
struct page *hbm_page_hold(struct hbm_pool *pool, struct page_table *table, uint64_t offset);
/* The slab of a page that was kept is mapped there now. */
void hbm_page_put(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		  struct page *page);
/* Or is not. */
void hbm_page_release(struct hbm_pool *pool, struct page *page);
/* The slab is no longer mapped in the slot. */
void hbm_page_drop(struct hbm_pool *pool, struct page_table *table, uint64_t offset);
/* Whether another slot has the slab at this offset, too, or the cache. */
bool hbm_page_is_shared(const struct hbm_pool *pool, const struct page_table *table,
			uint64_t offset);
/* The page of a slab that another slot has, too; NULL: none has. */
struct page *hbm_page_of(const struct hbm_pool *pool, const struct page_table *table,
			 uint64_t offset);
/* Whether two slots have the same slab there. */
bool hbm_page_is_same(const struct hbm_pool *pool, const struct page_table *a,
		      const struct page_table *b, uint64_t offset);
/* Those that were made and not used. */
void hbm_page_free_spare(struct hbm_pool *pool);
void hbm_page_clear(struct hbm_pool *pool, struct page_table *table);
