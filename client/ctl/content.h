/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content: what the blocks of a replay hold. A block's key is made from its number in the
 * trace; its bytes are made from its key, its size and their own position, so that a
 * block swapped with another, moved within itself or cut short is noticed at the first
 * byte. Nothing is stored: what was expected is made again when it is compared.
 */
#pragma once

#include <hbm/hbm.h>
#include <stdint.h>

#define CONTENT_SAME UINT64_MAX

/* The key of the block with this number: the same in every run; never all zero. */
hbm_key content_key(uint64_t id);
/* bytes: a multiple of 8. buffer: aligned to 8. */
void content_fill(const hbm_key *key, uint64_t bytes, void *buffer);
/* The offset of the first byte that is not what content_fill() makes, or CONTENT_SAME. */
uint64_t content_compare(const hbm_key *key, uint64_t bytes, const void *buffer);
