/* SPDX-License-Identifier: Apache-2.0 */
/* books: see books.h. */
#include "client/sequence/books.h"

#include "client/connection.h"
#include "client/sequence/pool.h"

#include <assert.h>
#include <stdlib.h>

static struct books *books_find(const struct hbm *hbm, uint32_t device)
{
	list_for_each (node, &hbm->books) {
		struct books *books = container_of(node, struct books, link);

		if (books->device == device)
			return books;
	}

	return NULL;
}

bool hbm_books_join(struct hbm_pool *pool)
{
	struct books *books = books_find(pool->hbm, pool->region->device);

	if (!books) {
		books = calloc(1, sizeof(*books));
		if (!books)
			return false;
		books->device = pool->region->device;
		list_push_back(&pool->hbm->books, &books->link);
	}
	books->pools++;
	pool->books = books;

	return true;
}

void hbm_books_empty(struct hbm_pool *pool)
{
	struct books *books = pool->books;

	books->committed -= pool->committed;
	pool->committed = 0;
}

void hbm_books_leave(struct hbm_pool *pool)
{
	struct books *books = pool->books;

	pool->books = NULL;
	if (--books->pools > 0)
		return;

	list_remove(&books->link);
	free(books);
}

uint64_t hbm_books_due(const struct books *books, bool will_be)
{
	const bool is_any = will_be || books->credit + books->held > 0;

	return is_any ? books->committed + books->promised + books->held : 0;
}

void hbm_books_count(struct hbm_pool *pool, int64_t bytes)
{
	if (!pool->books)
		return;

	assert(bytes >= 0 || pool->committed >= (uint64_t)-bytes);
	pool->committed += (uint64_t)bytes;
	pool->books->committed += (uint64_t)bytes;
}

void hbm_books_look(struct hbm_pool *pool, struct account *account, uint64_t mapped)
{
	const uint64_t unused = account->credit > mapped ? account->credit - mapped : 0;

	pool->books->promised += unused - account->unused;
	account->unused = unused;
	pool->books->credit += account->credit - account->known;
	account->known = account->credit;
}
