/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of block numbers whose records may be wrong, against a model that is an array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "daemon/catalog/catalog_changes.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#define NUMBERS 50u

static void test_against_a_model(void **state)
{
	struct catalog_changes changes;
	struct leaks leaks;
	struct seed seed;
	uint32_t queue[NUMBERS], count = 0;
	bool recorded[NUMBERS + 1] = {false};
	uint64_t records = 0;

	(void)state;
	leaks_begin(&leaks);
	seed_open(&seed, "test_against_a_model");
	assert_int_equal(catalog_changes_open(&changes, NUMBERS), 0);
	for (int i = 0; i < 20000; i++) {
		uint32_t number = 1 + (uint32_t)seed_below(&seed, NUMBERS);
		bool queued = false;

		switch (seed_below(&seed, 3)) {
		case 0:
			for (uint32_t k = 0; k < count; k++)
				queued |= queue[k] == number;
			if (!queued)
				queue[count++] = number;
			catalog_changes_mark(&changes, number);
			break;
		case 1:
			assert_int_equal(catalog_changes_take(&changes), count > 0 ? queue[0] : 0);
			if (count > 0)
				memmove(queue, &queue[1], --count * sizeof(queue[0]));
			break;
		default:
			records += recorded[number] ? UINT64_MAX : 1;
			recorded[number] = !recorded[number];
			catalog_changes_record(&changes, number, recorded[number] ? 7 : 0, 9);
			break;
		}
		assert_int_equal(changes.queued, count);
		assert_int_equal(changes.records, records);
	}

	catalog_changes_close(&changes);
	catalog_changes_close(&changes);
	assert_int_equal(leaks_end(&leaks), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
