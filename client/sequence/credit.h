/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credit: memory that the daemon promises to a pool for the tokens that its sequences are
 * expected to get, before they need it. Steps within it are not refused for want of memory;
 * more tokens take what is not promised.
 */
#pragma once

#include <stdint.h>

struct hbm_pool;
struct hbm_sequence_options;

/* What a sequence with these options is promised: bytes; 0 if nothing is expected. */
uint64_t hbm_credit_bytes(const struct hbm_pool *pool, const struct hbm_sequence_options *options);
/* Waits for so much at most timeout_ms, after who asked before. Warm slabs go first. The lock
 * is held, and let go of while it waits. */
int hbm_credit_take(struct hbm_pool *pool, uint64_t bytes, uint32_t timeout_ms);
int hbm_credit_return(struct hbm_pool *pool, uint64_t bytes);
