/* SPDX-License-Identifier: Apache-2.0 */
/* page: see page.h. */
#include "client/sequence/page.h"

#include "client/sequence/books.h"
#include "client/sequence/pool.h"

#include <assert.h>
#include <stdlib.h>

bool hbm_page_prepare(struct hbm_pool *pool, struct page_table *table, size_t count)
{
	if (!table->list)
		table->list = calloc(pool->slot_slabs, sizeof(*table->list));
	if (!table->list)
		return false;

	while (pool->spare_count < count) {
		struct page *page = calloc(1, sizeof(*page));

		if (!page)
			return false;
		page->next = pool->spare_pages;
		pool->spare_pages = page;
		pool->spare_count++;
	}

	return true;
}

/* ---- Who has it ---- */

static void page_count(const struct hbm_pool *pool, struct page_table *table, int64_t change)
{
	table->shared += (uint64_t)change;
	pool->sharing_changed(pool, table);
}

/* Of a page with one: if that is a slot, it shares the slab from now on, or no longer does. */
static void page_count_last(const struct hbm_pool *pool, const struct page *page, int64_t change)
{
	if (page->slots == 1 && page->who != 0)
		page_count(pool, (struct page_table *)page->who, change);
}

/* So many more slots have its slab than slabs are the pool's. */
static void page_count_again(struct hbm_pool *pool, const struct page *page, int64_t change)
{
	if (page->mapped > 1 || page->kind == PAGE_BORROWED)
		hbm_books_count(pool, change * (int64_t)pool->slab);
}

static struct page *page_new(struct hbm_pool *pool, struct page_table *table)
{
	struct page *page = pool->spare_pages;

	assert(page);
	pool->spare_pages = page->next;
	pool->spare_count--;
	*page = (struct page){.slots = 1, .mapped = 1, .who = (uintptr_t)table};

	return page;
}

/* The cache has the slab of a page, too. */
static void page_join_cache(const struct hbm_pool *pool, struct page *page, enum page_kind kind,
			    const struct origin *origin)
{
	page->kind = kind;
	page->origin = *origin;
	page_count_last(pool, page, 1);
	page->slots++;
}

void hbm_page_lend(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		   const struct origin *origin)
{
	struct page **page = &table->list[offset / pool->slab];

	if (!*page)
		*page = page_new(pool, table);
	if ((*page)->kind == PAGE_PRIVATE)
		page_join_cache(pool, *page, PAGE_LENT, origin);
}

void hbm_page_borrow(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		     const struct origin *origin)
{
	struct page **page = &table->list[offset / pool->slab];

	assert(!*page);
	*page = page_new(pool, table);
	page_join_cache(pool, *page, PAGE_BORROWED, origin);
	page_count_again(pool, *page, -1);
}

struct page *hbm_page_hold(struct hbm_pool *pool, struct page_table *table, uint64_t offset)
{
	struct page **page = &table->list[offset / pool->slab];

	if (!*page)
		*page = page_new(pool, table);
	page_count_last(pool, *page, 1);
	(*page)->slots++;

	return *page;
}

void hbm_page_put(struct hbm_pool *pool, struct page_table *table, uint64_t offset,
		  struct page *page)
{
	assert(!table->list[offset / pool->slab]);
	table->list[offset / pool->slab] = page;
	page->who ^= (uintptr_t)table;
	page->mapped++;
	page_count_again(pool, page, -1);
	if (page->slots > 1)
		page_count(pool, table, 1);
}

void hbm_page_share(struct hbm_pool *pool, struct page_table *source, struct page_table *target,
		    uint64_t offset)
{
	hbm_page_put(pool, target, offset, hbm_page_hold(pool, source, offset));
}

void hbm_page_release(struct hbm_pool *pool, struct page *page)
{
	const uint32_t cache = page->kind != PAGE_PRIVATE;

	if (--page->slots == cache)
		free(page);
	else
		page_count_last(pool, page, -1);
}

void hbm_page_drop(struct hbm_pool *pool, struct page_table *table, uint64_t offset)
{
	const uint64_t i = offset / pool->slab;
	struct page *page = table->list ? table->list[i] : NULL;

	if (!page)
		return;

	table->list[i] = NULL;
	page->who ^= (uintptr_t)table;
	page_count_again(pool, page, 1);
	page->mapped--;
	if (page->slots > 1)
		page_count(pool, table, -1);
	hbm_page_release(pool, page);
}

static struct page *page_at(const struct hbm_pool *pool, const struct page_table *table,
			    uint64_t offset)
{
	return table->list ? table->list[offset / pool->slab] : NULL;
}

struct page *hbm_page_of(const struct hbm_pool *pool, const struct page_table *table,
			 uint64_t offset)
{
	struct page *page = page_at(pool, table, offset);

	return page && page->slots > 1 ? page : NULL;
}

bool hbm_page_is_shared(const struct hbm_pool *pool, const struct page_table *table,
			uint64_t offset)
{
	return hbm_page_of(pool, table, offset);
}

bool hbm_page_is_borrowed(const struct hbm_pool *pool, const struct page_table *table,
			  uint64_t offset)
{
	const struct page *page = page_at(pool, table, offset);

	return page && page->kind == PAGE_BORROWED;
}

bool hbm_page_is_same(const struct hbm_pool *pool, const struct page_table *a,
		      const struct page_table *b, uint64_t offset)
{
	const uint64_t i = offset / pool->slab;

	return a->list && b->list && a->list[i] && a->list[i] == b->list[i];
}

void hbm_page_clear(struct hbm_pool *pool, struct page_table *table)
{
	for (uint64_t i = 0; table->list && i < pool->slot_slabs; i++)
		hbm_page_drop(pool, table, i * pool->slab);
	free(table->list);
	table->list = NULL;
}

void hbm_page_free_spare(struct hbm_pool *pool)
{
	while (pool->spare_pages) {
		struct page *page = pool->spare_pages;

		pool->spare_pages = page->next;
		free(page);
	}
	pool->spare_count = 0;
}
