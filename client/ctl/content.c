/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content: see content.h. Word i multiplies (seed + i) by an odd constant, folds the
 * halves, and combines them with the second half of the key. One multiplication a word is
 * about as fast as memory bandwidth, and a shifted or repeated piece of a block does not
 * compare equal.
 */
#include "client/ctl/content.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

/* any constant; a change of it changes the keys of every run */
#define KEY_SEED 0x68626d6374ull
#define MULTIPLIER 0x9e3779b97f4a7c15ull
#define WORDS_AT_ONCE 512 /* compared before the first look at the outcome */

struct sequence {
	uint64_t first, second;
};

static struct sequence sequence_of(const hbm_key *key, uint64_t bytes)
{
	struct sequence s;
	static_assert(sizeof(s) == sizeof(*key), "two words of key");
	memcpy(&s, key, sizeof(s));
	s.first += bytes * MULTIPLIER;
	return s;
}

static inline uint64_t content_word_at(struct sequence s, uint64_t i)
{
	uint64_t product = (s.first + i) * MULTIPLIER;
	return (product ^ (product >> 32)) + s.second;
}

hbm_key content_key(uint64_t id)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(&id, sizeof(id), KEY_SEED);
	hbm_key key;

	if (hash.low64 == 0 && hash.high64 == 0)
		hash.low64 = 1;

	memcpy(key.bytes, &hash.low64, 8);
	memcpy(key.bytes + 8, &hash.high64, 8);

	return key;
}

void content_fill(const hbm_key *key, uint64_t bytes, void *buffer)
{
	struct sequence s = sequence_of(key, bytes);
	uint64_t *words = buffer;
	for (uint64_t i = 0; i < bytes / 8; i++)
		words[i] = content_word_at(s, i);

	uint64_t last = content_word_at(s, bytes / 8);
	memcpy(words + bytes / 8, &last, bytes % 8);
}

/* Within the bytes of word i, of which the lowest is the first. */
static uint64_t content_differs_at(uint64_t i, uint64_t difference)
{
	return 8 * i + (uint64_t)__builtin_ctzll(difference) / 8;
}

static uint64_t content_first_difference(struct sequence s, const uint64_t *words, uint64_t from)
{
	for (uint64_t i = from;; i++) {
		uint64_t difference = words[i] ^ content_word_at(s, i);
		if (difference)
			return content_differs_at(i, difference);
	}
}

uint64_t content_compare(const hbm_key *key, uint64_t bytes, const void *buffer)
{
	struct sequence s = sequence_of(key, bytes);
	const uint64_t *words = buffer;
	uint64_t count = bytes / 8;

	for (uint64_t from = 0; from < count; from += WORDS_AT_ONCE) {
		uint64_t to = from + WORDS_AT_ONCE < count ? from + WORDS_AT_ONCE : count;
		uint64_t wrong = 0;
		for (uint64_t i = from; i < to; i++)
			wrong |= words[i] ^ content_word_at(s, i);
		if (wrong)
			return content_first_difference(s, words, from);
	}

	/* what is left of a word */
	uint64_t last = content_word_at(s, count), found = last;
	memcpy(&found, words + count, bytes % 8);

	return found == last ? CONTENT_SAME : content_differs_at(count, found ^ last);
}
