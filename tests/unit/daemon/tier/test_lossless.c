/* SPDX-License-Identifier: Apache-2.0 */
/* The lossless encoding: the same bytes come back whatever they are; real numbers become
 * smaller; and neither side writes beyond its room, wrong input or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/tier/lossless.h"
#include "kernels/device/jobs.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/seed.h"

#define BYTES_MAX (3 * LOSSLESS_CHUNK + 4096)
#define RED 0x5a

/* Memory that ends where nothing is mapped, and before which there are bytes to look at. */
struct zone {
	char *map, *bytes;
	size_t map_bytes, count;
};

static void zone_open(struct zone *zone, size_t count)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (count + page - 1) / page + 2;

	zone->count = count;
	zone->map_bytes = pages * page;
	zone->map = mmap(NULL, zone->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	assert_true(zone->map != MAP_FAILED);
	assert_int_equal(mprotect(zone->map + zone->map_bytes - page, page, PROT_NONE), 0);
	zone->bytes = zone->map + zone->map_bytes - page - count;
	memset(zone->map, RED, (size_t)(zone->bytes - zone->map));
}

static void zone_close(struct zone *zone)
{
	for (const char *red = zone->map; red < zone->bytes; red++)
		assert_int_equal(*red, RED);
	munmap(zone->map, zone->map_bytes);
}

/* ---- bytes ---- */

static void fill_zero(struct seed *seed, unsigned char *bytes, size_t count)
{
	(void)seed;
	memset(bytes, 0, count);
}

static void fill_random(struct seed *seed, unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)seed_next(seed);
}

static void fill_alternating(struct seed *seed, unsigned char *bytes, size_t count)
{
	unsigned char other = (unsigned char)seed_next(seed);

	for (size_t i = 0; i < count; i++)
		bytes[i] = i % 2 ? 0xff : other;
}

/* Compressible pieces and random ones of any length, side by side. */
static void fill_mixed(struct seed *seed, unsigned char *bytes, size_t count)
{
	for (size_t at = 0, piece; at < count; at += piece) {
		piece = seed_below(seed, 9000) + 1;
		piece = piece < count - at ? piece : count - at;
		if (seed_below(seed, 2))
			fill_random(seed, bytes + at, piece);
		else
			memset(bytes + at, (int)seed_below(seed, 256), piece);
	}
}

static void fill_numbers(struct seed *seed, unsigned char *bytes, size_t count)
{
	enum { CHANNELS = 128 };
	uint64_t tokens = (count + 1) / 2 / CHANNELS + 1;
	uint16_t *numbers = malloc(tokens * CHANNELS * sizeof(*numbers));

	assert_non_null(numbers);
	kv_numbers_fill(seed, numbers, tokens, CHANNELS, NUMBER_BF16, seed_below(seed, 2));
	memcpy(bytes, numbers, count);
	free(numbers);
}

typedef void fill_fn(struct seed *seed, unsigned char *bytes, size_t count);

static fill_fn *const fills[] = {fill_zero, fill_random, fill_alternating, fill_mixed,
				 fill_numbers};
enum { FILLS = sizeof(fills) / sizeof(fills[0]) };

static const unsigned elements[] = {1, 2, 4};

static size_t any_size(struct seed *seed)
{
	static const size_t sizes[] = {1,
				       2,
				       3,
				       5,
				       4096,
				       65536,
				       LOSSLESS_CHUNK - 1,
				       LOSSLESS_CHUNK,
				       LOSSLESS_CHUNK + 1,
				       LOSSLESS_CHUNK + 4096,
				       BYTES_MAX};
	const size_t count = sizeof(sizes) / sizeof(sizes[0]);
	size_t pick = seed_below(seed, count + 2);

	return pick < count ? sizes[pick] : seed_below(seed, BYTES_MAX) + 1;
}

/* ---- tests ---- */

/* Encodes into exactly that room. */
static uint64_t encode_into(struct lossless *lossless, size_t room, const struct zone *from,
			    unsigned element, char *keep)
{
	struct zone to;

	zone_open(&to, room);
	uint64_t size =
		lossless_encode(lossless, to.bytes, room, from->bytes, from->count, element);
	assert_in_range(size, 0, room);
	if (keep)
		memcpy(keep, to.bytes, size);
	zone_close(&to);

	return size;
}

static void assert_decodes(struct lossless *lossless, const struct zone *from, const char *encoded,
			   uint64_t size, unsigned element)
{
	struct zone in, out;

	zone_open(&in, size);
	memcpy(in.bytes, encoded, size);
	zone_open(&out, from->count);
	assert_true(lossless_decode(lossless, out.bytes, out.count, in.bytes, in.count, element));
	assert_memory_equal(out.bytes, from->bytes, from->count);
	zone_close(&out);
	zone_close(&in);
}

static void test_the_same_bytes_come_back(void **state)
{
	struct seed seed;
	struct lossless *lossless = NULL;
	const size_t most = 2 * BYTES_MAX;
	char *encoded = malloc(most);

	(void)state;
	seed_open(&seed, __func__);
	assert_non_null(encoded);
	assert_int_equal(lossless_new(&lossless), 0);

	for (unsigned i = 0; i < 60 * FILLS; i++) {
		unsigned element = elements[i % 3];
		struct zone from;
		zone_open(&from, any_size(&seed));
		fills[i % FILLS](&seed, (unsigned char *)from.bytes, from.count);

		uint64_t size = encode_into(lossless, most, &from, element, encoded);
		assert_in_range(size, 1, most);
		assert_decodes(lossless, &from, encoded, size, element);

		/* into as much as it takes, and not into less */
		assert_int_equal(encode_into(lossless, size, &from, element, NULL), size);
		assert_int_equal(encode_into(lossless, size - 1, &from, element, NULL), 0);
		if (size > 1)
			encode_into(lossless, seed_below(&seed, size), &from, element, NULL);
		zone_close(&from);
	}

	lossless_free(lossless);
	free(encoded);
}

static uint64_t size_of(fill_fn *fill, unsigned element)
{
	struct seed seed = {.state = 1};
	struct lossless *lossless = NULL;
	struct zone from;

	assert_int_equal(lossless_new(&lossless), 0);
	zone_open(&from, BYTES_MAX);
	fill(&seed, (unsigned char *)from.bytes, from.count);
	uint64_t size = encode_into(lossless, 2 * BYTES_MAX, &from, element, NULL);
	zone_close(&from);
	lossless_free(lossless);

	return size;
}

static void test_numbers_become_smaller_and_noise_hardly_larger(void **state)
{
	(void)state;
	assert_in_range(size_of(fill_zero, 2), 1, BYTES_MAX / 100);
	assert_in_range(size_of(fill_numbers, 2), 1, BYTES_MAX * 3 / 4);
	assert_in_range(size_of(fill_random, 2), BYTES_MAX, BYTES_MAX + 4 * 2 * 4);
	/* as bf16 they are what they are: planes of other elements mix them */
	assert_in_range(size_of(fill_numbers, 2), 1, size_of(fill_numbers, 1) - 1);
}

static void spoil(struct seed *seed, char *encoded, uint64_t size)
{
	uint64_t count = seed_below(seed, 4) + 1;

	/* the sizes of planes as often as the rest */
	for (uint64_t i = 0; i < count; i++) {
		uint64_t limit = seed_below(seed, 2) && size > 16 ? 16 : size;
		encoded[seed_below(seed, limit)] ^= (char)(1 << seed_below(seed, 8));
	}
}

/* Bytes that are wrong, cut, or of another element: it ends, and writes nowhere else. */
static void test_wrong_bytes_do_no_harm(void **state)
{
	struct seed seed;
	struct lossless *lossless = NULL;
	const size_t most = 2 * BYTES_MAX;
	char *encoded = malloc(most);

	(void)state;
	seed_open(&seed, __func__);
	assert_non_null(encoded);
	assert_int_equal(lossless_new(&lossless), 0);

	for (unsigned i = 0; i < 400; i++) {
		struct zone from, in, out;
		zone_open(&from, any_size(&seed));
		fills[i % FILLS](&seed, (unsigned char *)from.bytes, from.count);
		uint64_t size = encode_into(lossless, most, &from, elements[i % 3], encoded);
		uint64_t cut = i % 4 == 0 ? seed_below(&seed, size) : size;

		zone_open(&in, cut);
		memcpy(in.bytes, encoded, cut);
		if (i % 4 == 1)
			fill_random(&seed, (unsigned char *)in.bytes, in.count);
		else if (cut > 0)
			spoil(&seed, in.bytes, in.count);

		zone_open(&out, from.count);
		(void)lossless_decode(lossless, out.bytes, out.count, in.bytes, in.count,
				      elements[seed_below(&seed, 3)]);
		zone_close(&out);
		zone_close(&in);
		zone_close(&from);
	}

	lossless_free(lossless);
	free(encoded);
}

/* Whatever is missing at the end, it is seen. */
static void test_cut_bytes_are_refused(void **state)
{
	struct seed seed = {.state = 7};
	struct lossless *lossless = NULL;
	char *encoded = malloc(BYTES_MAX);
	struct zone from, out;

	(void)state;
	assert_non_null(encoded);
	assert_int_equal(lossless_new(&lossless), 0);
	zone_open(&from, LOSSLESS_CHUNK + 4096);
	zone_open(&out, from.count);
	fill_numbers(&seed, (unsigned char *)from.bytes, from.count);
	uint64_t size = encode_into(lossless, BYTES_MAX, &from, 2, encoded);

	for (uint64_t cut = 0; cut < size; cut += seed_below(&seed, 2000) + 1)
		assert_false(lossless_decode(lossless, out.bytes, out.count, encoded, cut, 2));
	assert_false(lossless_decode(lossless, out.bytes, out.count, encoded, size - 1, 2));
	assert_true(lossless_decode(lossless, out.bytes, out.count, encoded, size, 2));

	zone_close(&out);
	zone_close(&from);
	lossless_free(lossless);
	free(encoded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_bytes_come_back),
		cmocka_unit_test(test_numbers_become_smaller_and_noise_hardly_larger),
		cmocka_unit_test(test_wrong_bytes_do_no_harm),
		cmocka_unit_test(test_cut_bytes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
