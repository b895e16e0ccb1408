/* SPDX-License-Identifier: Apache-2.0 */
/* Address space begins where a large page does, has exactly its bytes, and nothing behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/address_space.h"
#include "tests/support/leaks.h"

#define PAGE 4096u
#define RANGES 16u

/* Whether there is memory at that address, asked of the kernel. */
static bool is_readable(const char *at)
{
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	bool is = write(pipes[1], at, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);

	return is;
}

static void test_it_is_aligned_and_exact(void **state)
{
	char *ranges[RANGES];
	unsigned long before;

	(void)state;
	(void)leaks_address_space(); /* what it needs itself */
	before = leaks_address_space();
	for (unsigned i = 0; i < RANGES; i++) {
		ranges[i] = address_space_reserve((i + 1) * PAGE);
		assert_non_null(ranges[i]);
		assert_int_equal((uintptr_t)ranges[i] % ADDRESS_SPACE_ALIGNMENT, 0);
		assert_false(is_readable(ranges[i]));
	}
	assert_int_equal(leaks_address_space() - before, RANGES * (RANGES + 1) / 2);
	for (unsigned i = 0; i < RANGES; i++)
		assert_int_equal(munmap(ranges[i], (i + 1) * PAGE), 0);
	assert_int_equal(leaks_address_space(), before);
}

static void test_it_is_emptied_and_stays(void **state)
{
	char *range = address_space_reserve(2 * PAGE);

	(void)state;
	assert_non_null(range);
	assert_ptr_equal(mmap(range, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 range);
	range[0] = 1;
	assert_true(is_readable(range));
	assert_true(address_space_empty(range, PAGE));
	assert_false(is_readable(range));

	/* Nobody else gets it. */
	assert_ptr_equal(mmap(range, PAGE, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
			 MAP_FAILED);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(munmap(range, 2 * PAGE), 0);
}

static void test_what_there_is_not(void **state)
{
	unsigned long before;

	(void)state;
	(void)leaks_address_space();
	before = leaks_address_space();
	errno = 0;
	assert_null(address_space_reserve(SIZE_MAX - PAGE + 1));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_null(address_space_reserve((SIZE_MAX >> 1) / PAGE * PAGE));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_false(address_space_empty((void *)1, PAGE));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(leaks_address_space(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_aligned_and_exact),
		cmocka_unit_test(test_it_is_emptied_and_stays),
		cmocka_unit_test(test_what_there_is_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
