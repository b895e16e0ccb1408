/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_numbers: numbers like those of a real KV block, with a few channels far larger than
 * the others, and, where a test wants, what no model should make: NaN and infinities.
 */
#pragma once

#include "tests/support/seed.h"

#include <stdbool.h>
#include <stdint.h>

/* Fills [tokens][channels] of a form of kernels/device/jobs.h. Every 61st channel is an
 * outlier; `wild`: one number in 50 is not finite. */
void kv_numbers_fill(struct seed *seed, uint16_t *numbers, uint64_t tokens, uint64_t channels,
		     uint32_t form, bool wild);
