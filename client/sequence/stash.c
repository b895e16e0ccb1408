/* SPDX-License-Identifier: Apache-2.0 */
/* stash: see stash.h. */
#include "client/sequence/stash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define STASH_KEYS 512 /* of one request to drop them */

int hbm_stash_open(struct stashes *stashes, struct hbm *hbm, uint64_t block_bytes, bool memory_only,
		   bool wipe_on_free)
{
	uint64_t random[2];
	char salt[33];

	if (stashes->is_open)
		return 0;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;

	snprintf(salt, sizeof(salt), "%016llx%016llx", (unsigned long long)random[0],
		 (unsigned long long)random[1]);
	const struct hbm_namespace_options options = {
		.model = "suspended",
		.salt = salt,
		.block_bytes = block_bytes,
		.ephemeral = true,
		.memory_only = memory_only,
		.wipe_on_free = wipe_on_free,
	};
	int r = hbm_namespace_open(hbm, &options, &stashes->ns);

	stashes->is_open = r == 0;

	return r;
}

/* ---- Blocks ---- */

static struct stash_block *stash_new_block(struct stashes *stashes)
{
	struct stash_block *block = calloc(1, sizeof(*block));

	if (!block)
		return NULL;

	const uint64_t words[2] = {++stashes->last_key, 0};

	static_assert(sizeof(block->key) == sizeof(words), "a key is two words");
	__builtin_memcpy(&block->key, words, sizeof(words));
	list_init(&block->link);

	return block;
}

static bool stash_make_room(struct stash *stash)
{
	if (stash->count < stash->room)
		return true;

	const size_t room = stash->room ? 2 * stash->room : 64;
	struct stash_slab *list = realloc(stash->list, room * sizeof(*list));

	if (!list)
		return false;
	stash->list = list;
	stash->room = room;

	return true;
}

struct stash_block *hbm_stash_add(struct stashes *stashes, struct stash *stash, uint64_t offset,
				  struct stash_block *block)
{
	if (!stash_make_room(stash))
		return NULL;
	if (!block)
		block = stash_new_block(stashes);
	if (!block)
		return NULL;

	block->users++;
	stash->list[stash->count++] = (struct stash_slab){offset, block};

	return block;
}

void hbm_stash_clear(struct stashes *stashes, struct stash *stash)
{
	for (size_t i = 0; i < stash->count; i++) {
		struct stash_block *block = stash->list[i].block;

		if (--block->users == 0)
			list_push_back(&stashes->unused, &block->link);
	}
	free(stash->list);
	*stash = (struct stash){0};
}

/* ---- Dropping ---- */

static size_t stash_list_keys(struct stashes *stashes, hbm_key *keys)
{
	size_t count = 0;

	list_for_each (node, &stashes->unused) {
		if (count == STASH_KEYS)
			break;
		keys[count++] = container_of(node, struct stash_block, link)->key;
	}

	return count;
}

static void stash_free_blocks(struct stashes *stashes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(container_of(list_pop_front(&stashes->unused), struct stash_block, link));
}

void hbm_stash_sweep(struct stashes *stashes, struct hbm *hbm)
{
	hbm_key keys[STASH_KEYS];
	size_t count;

	while ((count = stash_list_keys(stashes, keys)) > 0) {
		/* Those that were never stored are misses. */
		if (hbm_keys(hbm, HBM_WIRE_UNPIN, stashes->ns, 0, keys, count, NULL) ||
		    hbm_keys(hbm, HBM_WIRE_REMOVE, stashes->ns, 0, keys, count, NULL))
			return;
		stash_free_blocks(stashes, count);
	}
}

void hbm_stash_close(struct stashes *stashes, struct hbm *hbm)
{
	stash_free_blocks(stashes, list_length(&stashes->unused));
	if (stashes->is_open)
		hbm_namespace_close(hbm, stashes->ns);
	stashes->is_open = false;
}
