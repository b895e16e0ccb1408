/* SPDX-License-Identifier: Apache-2.0 */
/* checked: arithmetic on untrusted numbers. True if the result fits and has been
 * stored. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* Whether [offset, offset + bytes) lies in [0, size). False for an empty range. */
static inline bool checked_range(uint64_t offset, uint64_t bytes, uint64_t size)
{
	uint64_t end;
	return bytes > 0 && checked_add(offset, bytes, &end) && end <= size;
}

static inline bool is_power_of_two(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

static inline bool is_aligned(uint64_t n, uint64_t unit)
{
	return n % unit == 0;
}
