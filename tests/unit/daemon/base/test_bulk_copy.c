/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/base/bulk_copy.h"
#include "tests/support/seed.h"

#define MOST (4u * BULK_COPY_LEAST)
#define MARGIN 128u
#define ROUNDS 2000u

static unsigned char from[MOST + MARGIN], to[MARGIN + MOST + MARGIN], expected[sizeof(to)];

static void check(size_t at, size_t source, size_t bytes)
{
	memset(to, 0xa5, sizeof(to));
	memset(expected, 0xa5, sizeof(expected));
	memcpy(expected + at, from + source, bytes);
	bulk_copy(to + at, from + source, bytes);
	assert_memory_equal(to, expected, sizeof(to));
}

static void test_sizes_and_places(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "test_bulk_copy");
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)seed_next(&seed);
	for (unsigned i = 0; i < ROUNDS; i++)
		check(seed_below(&seed, MARGIN), seed_below(&seed, MARGIN),
		      seed_below(&seed, MOST + 1));
}

static void test_edges(void **state)
{
	(void)state;
	static const size_t sizes[] = {0,
				       1,
				       BULK_COPY_LEAST - 1,
				       BULK_COPY_LEAST,
				       BULK_COPY_LEAST + 1,
				       BULK_COPY_LEAST + 4095,
				       MOST - 1,
				       MOST};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		check(0, 0, sizes[i]);
		check(1, 0, sizes[i]);
		check(63, 1, sizes[i]);
		check(64, 64, sizes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_and_places),
		cmocka_unit_test(test_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
