/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend_index: finds lent slabs in a time that does not grow with their number: those of a user
 * that are idle, and those that have room for another block of a user and namespace.
 */
#include "daemon/region/lend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void lend_index_init(struct lend *lend)
{
	list_init(&lend->idle);
	for (size_t i = 0; i < LEND_USER_BUCKETS; i++)
		list_init(&lend->users[i]);
	for (size_t i = 0; i < LEND_PACKED_BUCKETS; i++)
		list_init(&lend->packed[i]);
}

/* ---- what is idle ---- */

static struct list *lend_index_users(const struct lend *lend, const struct user *user)
{
	return (struct list *)&lend->users[user->uid % LEND_USER_BUCKETS];
}

static struct lend_user *lend_index_find(const struct lend *lend, const struct user *user)
{
	list_for_each (node, lend_index_users(lend, user)) {
		struct lend_user *of = container_of(node, struct lend_user, link);
		if (of->user == user)
			return of;
	}

	return NULL;
}

int lend_index_add(struct lend *lend, struct lent *lent)
{
	struct lend_user *of = lend_index_find(lend, lent->user);

	if (!of) {
		of = calloc(1, sizeof(*of));
		if (!of)
			return -ENOMEM;

		of->user = lent->user;
		list_init(&of->idle);
		list_push_back(lend_index_users(lend, lent->user), &of->link);
	}

	of->refs++;
	lent->of = of;

	return 0;
}

void lend_index_remove(struct lent *lent)
{
	struct lend_user *of = lent->of;

	lent->of = NULL;
	if (--of->refs > 0)
		return;

	assert(list_empty(&of->idle) && of->idle_bytes == 0);
	list_remove(&of->link);
	free(of);
}

void lend_index_idle(struct lend *lend, struct lent *lent)
{
	list_push_back(&lend->idle, &lent->idle);
	list_push_back(&lent->of->idle, &lent->idle_of_user);
	lent->of->idle_bytes += lent_bytes(lent);
}

void lend_index_busy(struct lend *lend, struct lent *lent)
{
	if (lend->give_next == &lent->idle)
		lend->give_next = lent->idle.next;
	list_remove(&lent->idle);
	list_remove(&lent->idle_of_user);
	lent->of->idle_bytes -= lent_bytes(lent);
}

struct lent *lend_index_oldest(const struct lend *lend, const struct user *user)
{
	const struct lend_user *of = lend_index_find(lend, user);

	return of && !list_empty(&of->idle) ? container_of(of->idle.next, struct lent, idle_of_user)
					    : NULL;
}

uint64_t lend_index_idle_of(const struct lend *lend, const struct user *user)
{
	const struct lend_user *of = lend_index_find(lend, user);

	return of ? of->idle_bytes : 0;
}

/* ---- what has room ---- */

static struct list *lend_index_bucket(const struct lend *lend, const struct user *user, uint16_t ns)
{
	return (struct list *)&lend->packed[(user->uid * 31 + ns) % LEND_PACKED_BUCKETS];
}

void lend_index_sort(struct lend *lend, struct lent *lent, bool takes_more)
{
	list_remove(&lent->packed);
	if (takes_more)
		list_push_back(lend_index_bucket(lend, lent->user, lent->ns), &lent->packed);
}

struct lent *lend_index_packed(const struct lend *lend, const struct user *user, uint16_t ns)
{
	unsigned left = LEND_PACKED_LOOK;

	list_for_each (node, lend_index_bucket(lend, user, ns)) {
		struct lent *lent = container_of(node, struct lent, packed);
		if (lent->ns == ns && lent->user == user)
			return lent;
		if (--left == 0)
			break;
	}

	return NULL;
}
