/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_contents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ROOM_LEAST 64u

/* One of the blocks while they are sorted. */
struct catalog_rank {
	uint64_t stamp;
	uint32_t number; /* in blocks */
};

/* Finds blocks by their keys, while they are sorted: open addressing. */
struct catalog_keys {
	const struct catalog_block *blocks;
	uint32_t *slots;       /* number + 1; 0: vacant */
	uint64_t mask, secret; /* clients choose the keys */
	bool twice;            /* a key has several blocks */
};

/* Digits that stamps are sorted by. */
#define DIGIT_BITS 11u
#define DIGITS (1u << DIGIT_BITS)

/* Blocks and slots are all over memory: those that are next are fetched ahead. */
#define AHEAD 8u

enum { CATALOG_WAITS, CATALOG_CLIMBED, CATALOG_EMITTED };

/* ---- arrays that grow ---- */

/* Room for one more member of that size. */
static int catalog_contents_grow(void **array, uint32_t *room, uint32_t count, size_t size)
{
	if (count < *room)
		return 0;
	if (*room > UINT32_MAX / 2)
		return -ENOMEM;

	uint32_t more = *room < ROOM_LEAST ? ROOM_LEAST : *room * 2;
	void *grown = reallocarray(*array, more, size);
	if (!grown)
		return -ENOMEM;

	*array = grown;
	*room = more;

	return 0;
}

int catalog_contents_refuse(struct catalog_contents *contents, int64_t unit)
{
	void *refused = contents->refused;
	int r = catalog_contents_grow(&refused, &contents->refused_room, contents->refused_count,
				      sizeof(*contents->refused));
	contents->refused = refused;
	if (r == 0)
		contents->refused[contents->refused_count++] = unit;

	return r;
}

/* ---- reading ---- */

int catalog_contents_add_namespace(struct catalog_contents *contents, int64_t id, const void *bytes,
				   size_t size)
{
	struct catalog_namespace ns;
	void *namespaces = contents->namespaces;
	if (id <= 0)
		return 0;
	if ((uint64_t)id > contents->ns)
		contents->ns = (uint64_t)id;
	if (!catalog_namespace_read(&ns, bytes, size) || ns.id != (uint64_t)id)
		return 0;

	int r = catalog_contents_grow(&namespaces, &contents->namespace_room,
				      contents->namespace_count, sizeof(ns));
	contents->namespaces = namespaces;
	if (r == 0)
		contents->namespaces[contents->namespace_count++] = ns;

	return r;
}

static int catalog_contents_compare_ids(const void *id, const void *ns)
{
	uint64_t a = *(const uint64_t *)id, b = ((const struct catalog_namespace *)ns)->id;

	return (a > b) - (a < b);
}

const struct catalog_namespace *catalog_contents_namespace(const struct catalog_contents *contents,
							   uint64_t id)
{
	if (contents->namespace_count == 0)
		return NULL;

	return bsearch(&id, contents->namespaces, contents->namespace_count,
		       sizeof(*contents->namespaces), catalog_contents_compare_ids);
}

static bool catalog_contents_fits(const struct catalog_contents *contents,
				  const struct catalog_bounds *bounds,
				  const struct catalog_block *block)
{
	return block->unit < bounds->units && block->units <= bounds->units - block->unit &&
	       (bounds->trust_unchecked || block->flags & CATALOG_CHECKSUMMED) &&
	       catalog_contents_namespace(contents, block->ns) != NULL;
}

/* The one that the block overlaps: only the last can be, because those before it end where it
 * begins, or before. NULL: none. */
static const struct catalog_block *
catalog_contents_overlapped(const struct catalog_contents *contents,
			    const struct catalog_block *block)
{
	if (contents->count == 0)
		return NULL;

	const struct catalog_block *last = &contents->blocks[contents->count - 1];

	return block->unit - last->unit < last->units ? last : NULL;
}

static int catalog_contents_keep(struct catalog_contents *contents,
				 const struct catalog_block *block)
{
	const struct catalog_block *other = catalog_contents_overlapped(contents, block);
	void *blocks = contents->blocks;
	int r = 0;

	if (other && other->stamp > block->stamp)
		return catalog_contents_refuse(contents, block->unit);
	if (other)
		r = catalog_contents_refuse(contents, other->unit);
	if (r < 0)
		return r;

	contents->count -= other != NULL;
	r = catalog_contents_grow(&blocks, &contents->room, contents->count, sizeof(*block));
	contents->blocks = blocks;
	if (r == 0)
		contents->blocks[contents->count++] = *block;

	return r;
}

int catalog_contents_add_block(struct catalog_contents *contents,
			       const struct catalog_bounds *bounds, int64_t unit, const void *bytes,
			       size_t size)
{
	struct catalog_block block;
	bool is_sound = catalog_block_read(&block, bytes, size) && block.unit == unit;

	if (is_sound && block.stamp > contents->stamp)
		contents->stamp = block.stamp;
	if (!is_sound || !bounds->trust_any || contents->count >= bounds->blocks ||
	    !catalog_contents_fits(contents, bounds, &block))
		return catalog_contents_refuse(contents, unit);

	return catalog_contents_keep(contents, &block);
}

/* ---- the order ---- */

static uint64_t catalog_keys_hash(const struct catalog_keys *keys, uint64_t ns,
				  const struct hbm_wire_key *key)
{
	return XXH3_64bits_withSeed(key->bytes, sizeof(key->bytes), keys->secret ^ (ns << 32));
}

static int catalog_keys_open(struct catalog_keys *keys, const struct catalog_contents *contents)
{
	uint64_t slots = ROOM_LEAST;

	while (slots < 2ull * contents->count)
		slots *= 2;
	*keys = (struct catalog_keys){.blocks = contents->blocks,
				      .slots = calloc(slots, sizeof(*keys->slots)),
				      .mask = slots - 1};

	return keys->slots && getrandom(&keys->secret, sizeof(keys->secret), 0) > 0 ? 0 : -ENOMEM;
}

/* Of the blocks that are next, by rank: has their slots fetched. */
static void catalog_keys_look_ahead(const struct catalog_keys *keys,
				    const struct catalog_rank *ranks, uint32_t left)
{
	if (left > 2 * AHEAD)
		__builtin_prefetch(&keys->blocks[ranks[2 * AHEAD].number]);
	if (left <= AHEAD)
		return;

	const struct catalog_block *next = &keys->blocks[ranks[AHEAD].number];

	__builtin_prefetch(
		&keys->slots[catalog_keys_hash(keys, next->ns, &next->key) & keys->mask]);
}

/* The slot of that key, or the vacant one where it would be. */
static uint32_t *catalog_keys_slot(const struct catalog_keys *keys, uint64_t ns,
				   const struct hbm_wire_key *key)
{
	uint64_t at = catalog_keys_hash(keys, ns, key) & keys->mask;

	for (; keys->slots[at] != 0; at = (at + 1) & keys->mask) {
		const struct catalog_block *block = &keys->blocks[keys->slots[at] - 1];
		if (block->ns == ns && memcmp(&block->key, key, sizeof(*key)) == 0)
			break;
	}

	return &keys->slots[at];
}

/* By one digit of the stamps, the largest first; what has the same stays in its order. */
static void catalog_rank_sort_digit(const struct catalog_rank *from, struct catalog_rank *to,
				    uint32_t count, unsigned shift)
{
	uint32_t begins[DIGITS] = {0}, begin = 0;

	for (uint32_t i = 0; i < count; i++)
		begins[from[i].stamp >> shift & (DIGITS - 1)]++;
	for (uint32_t digit = DIGITS; digit-- > 0;) {
		uint32_t many = begins[digit];

		begins[digit] = begin;
		begin += many;
	}

	for (uint32_t i = 0; i < count; i++)
		to[begins[from[i].stamp >> shift & (DIGITS - 1)]++] = from[i];
}

/* The newest first. Both have that many; the result is in one of them, which is returned. Only the
 * digits in which stamps differ take time, and those of what was written in a row are few. */
static struct catalog_rank *catalog_rank_sort(struct catalog_rank *ranks, struct catalog_rank *room,
					      uint32_t count)
{
	uint64_t differ = 0;

	for (uint32_t i = 1; i < count; i++)
		differ |= ranks[i].stamp ^ ranks[0].stamp;

	for (unsigned shift = 0; shift < 64 && differ >> shift != 0; shift += DIGIT_BITS) {
		struct catalog_rank *sorted = room;
		if ((differ >> shift & (DIGITS - 1)) == 0)
			continue;

		catalog_rank_sort_digit(ranks, sorted, count, shift);
		room = ranks;
		ranks = sorted;
	}

	return ranks;
}

static bool catalog_contents_is_root(const struct catalog_block *block)
{
	static const struct hbm_wire_key zero;

	return memcmp(&block->parent, &zero, sizeof(zero)) == 0;
}

static bool catalog_contents_is_parent(const struct catalog_contents *contents, uint32_t number,
				       const struct catalog_block *block)
{
	const struct catalog_block *parent = &contents->blocks[number];

	return parent->ns == block->ns &&
	       memcmp(&parent->key, &block->parent, sizeof(parent->key)) == 0;
}

/* One more than its parent's number, where that lies beside it, as what is stored together does; 0:
 * it does not. */
static uint32_t catalog_contents_parent_beside(const struct catalog_contents *contents,
					       uint32_t number)
{
	const struct catalog_block *block = &contents->blocks[number];

	if (number > 0 && catalog_contents_is_parent(contents, number - 1, block))
		return number;
	if (number + 1 < contents->count && catalog_contents_is_parent(contents, number + 1, block))
		return number + 2;

	return 0;
}

/* The same of any; 0: it is a root, or its parent is not there. */
static uint32_t catalog_contents_parent(const struct catalog_contents *contents,
					const struct catalog_keys *keys, uint32_t number)
{
	const struct catalog_block *block = &contents->blocks[number];
	if (catalog_contents_is_root(block))
		return 0;

	uint32_t beside = keys->twice ? 0 : catalog_contents_parent_beside(contents, number);

	return beside != 0 || !keys->slots ? beside
					   : *catalog_keys_slot(keys, block->ns, &block->parent);
}

/* Whether blocks have to be found by their keys. */
static bool catalog_contents_needs_keys(const struct catalog_contents *contents)
{
	for (uint32_t i = 0; i < contents->count; i++)
		if (contents->blocks[i].flags & CATALOG_DURABLE ||
		    (!catalog_contents_is_root(&contents->blocks[i]) &&
		     catalog_contents_parent_beside(contents, i) == 0))
			return true;

	return false;
}

/* Appends a block to the order, its ancestors that have not been emitted before it. */
static uint32_t catalog_contents_emit(struct catalog_contents *contents,
				      const struct catalog_keys *keys, uint8_t *state,
				      uint32_t number, uint32_t at)
{
	uint32_t first = at;

	while (state[number] == CATALOG_WAITS) {
		uint32_t parent = catalog_contents_parent(contents, keys, number);

		state[number] = CATALOG_CLIMBED;
		contents->order[at++] = number;
		if (parent == 0)
			break;
		number = parent - 1;
	}

	for (uint32_t low = first, high = at; low < high; low++, high--) {
		uint32_t swapped = contents->order[low];

		contents->order[low] = contents->order[high - 1];
		contents->order[high - 1] = swapped;
	}

	for (uint32_t i = first; i < at; i++)
		state[contents->order[i]] = CATALOG_EMITTED;

	return at;
}

/* And no newer one has its key. */
static bool catalog_contents_is_durable(const struct catalog_contents *contents,
					const struct catalog_keys *keys, uint32_t number)
{
	const struct catalog_block *block = &contents->blocks[number];

	return block->flags & CATALOG_DURABLE &&
	       *catalog_keys_slot(keys, block->ns, &block->key) == number + 1;
}

static void catalog_keys_fill(struct catalog_keys *keys, const struct catalog_rank *ranks,
			      uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct catalog_block *block = &keys->blocks[ranks[i].number];

		catalog_keys_look_ahead(keys, &ranks[i], count - i);
		uint32_t *slot = catalog_keys_slot(keys, block->ns, &block->key);
		if (*slot != 0)
			keys->twice = true; /* a newer one has the key */
		else
			*slot = ranks[i].number + 1;
	}
}

static void catalog_contents_order(struct catalog_contents *contents,
				   const struct catalog_keys *keys,
				   const struct catalog_rank *ranks, uint8_t *state)
{
	uint32_t at = 0, count = contents->count;

	for (uint32_t i = 0; keys->slots && i < count; i++)
		if (catalog_contents_is_durable(contents, keys, ranks[i].number))
			at = catalog_contents_emit(contents, keys, state, ranks[i].number, at);
	for (uint32_t i = 0; i < count; i++)
		at = catalog_contents_emit(contents, keys, state, ranks[i].number, at);
}

/* `ranks` has twice as many as there are blocks. */
static int catalog_contents_rank(struct catalog_contents *contents, struct catalog_rank *ranks,
				 uint8_t *state)
{
	uint32_t count = contents->count;
	struct catalog_keys keys = {0};
	int r = 0;

	for (uint32_t i = 0; i < count; i++)
		ranks[i] = (struct catalog_rank){contents->blocks[i].stamp, i};
	ranks = catalog_rank_sort(ranks, ranks + count, count);

	if (catalog_contents_needs_keys(contents))
		r = catalog_keys_open(&keys, contents);
	if (r == 0 && keys.slots)
		catalog_keys_fill(&keys, ranks, count);
	if (r == 0)
		catalog_contents_order(contents, &keys, ranks, state);
	free(keys.slots);

	return r;
}

int catalog_contents_sort(struct catalog_contents *contents)
{
	size_t room = (size_t)contents->count + 1;
	struct catalog_rank *ranks = reallocarray(NULL, 2 * room, sizeof(*ranks));
	uint8_t *state = calloc(room, sizeof(*state));

	contents->order = reallocarray(NULL, room, sizeof(*contents->order));
	int r = ranks && state && contents->order ? catalog_contents_rank(contents, ranks, state)
						  : -ENOMEM;

	free(state);
	free(ranks);

	return r;
}

void catalog_contents_clear(struct catalog_contents *contents)
{
	/* Salts are secrets. */
	if (contents->namespaces)
		explicit_bzero(contents->namespaces,
			       contents->namespace_room * sizeof(*contents->namespaces));
	free(contents->namespaces);
	free(contents->blocks);
	free(contents->order);
	free(contents->refused);
	*contents = (struct catalog_contents){0};
}

uint64_t catalog_contents_bytes_for(uint64_t blocks)
{
	/* Arrays double, and keys have up to four slots each; of an array that large what is not
	 * used yet takes no memory, and growing copies nothing. What is refused was no block, or
	 * is refused when the ranks, which take more, are gone. */
	return blocks * (sizeof(struct catalog_block) + 2 * sizeof(struct catalog_rank) +
			 5 * sizeof(uint32_t) + sizeof(uint8_t));
}
