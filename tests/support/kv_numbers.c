/* SPDX-License-Identifier: Apache-2.0 */
/* kv_numbers: see kv_numbers.h. */
#include "tests/support/kv_numbers.h"

#include <math.h>

#include "kernels/device/number.h"

/* Between -1 and 1, more often near 0. */
static float kv_numbers_one(struct seed *seed)
{
	float sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (float)seed_below(seed, 1u << 20) / 0x1p19f - 1;

	return sum / 4;
}

void kv_numbers_fill(struct seed *seed, uint16_t *numbers, uint64_t tokens, uint64_t channels,
		     uint32_t form, bool wild)
{
	static const float odd[] = {NAN, INFINITY, -INFINITY, 0};

	for (uint64_t i = 0; i < tokens * channels; i++) {
		const float scale = i % channels % 61 == 7 ? 60 : 1;
		const bool is_odd = wild && seed_below(seed, 50) == 0;

		numbers[i] = number_encode(
			is_odd ? odd[seed_below(seed, 4)] : kv_numbers_one(seed) * scale, form);
	}
}
