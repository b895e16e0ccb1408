/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content: the bytes of a replay's blocks. A block's key is computed from its number in the
 * trace. Its bytes are computed from its key, its size and their offsets, so that a
 * comparison finds a block that was swapped, shifted or cut short. Nothing is stored: a
 * comparison computes the expected bytes again.
 */
#pragma once

#include <hbm/hbm.h>
#include <stdint.h>

#define CONTENT_SAME UINT64_MAX

/* The key of the block with this number: the same in every run; never all zero. */
hbm_key content_key(uint64_t id);
/* buffer: aligned to 8. */
void content_fill(const hbm_key *key, uint64_t bytes, void *buffer);
/* The offset of the first byte that differs from content_fill()'s, or CONTENT_SAME. */
uint64_t content_compare(const hbm_key *key, uint64_t bytes, const void *buffer);
