/* SPDX-License-Identifier: Apache-2.0 */
/* copies: device memory copied on the stream of a pool. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbm_pool;

/* Sees to it that there is a stream. */
bool hbm_copies_prepare(struct hbm_pool *pool);
/* Queues a copy. False: the device refuses; hbm_copies_fail() says so. */
bool hbm_copies_queue(struct hbm_pool *pool, uint64_t target, uint64_t source, uint64_t bytes);
/* Waits for the stream. Where the device refuses, copies may go on: nothing of the pool is
 * unmapped, and no sequence opened or forked, before that is over. */
bool hbm_copies_wait(struct hbm_pool *pool);
/* The same, only where that was refused the last time. */
bool hbm_copies_settle(struct hbm_pool *pool);
/* Where the caller has no stream that orders what follows: waits. */
bool hbm_copies_finish(struct hbm_pool *pool);
void hbm_copies_close(struct hbm_pool *pool);
/* The line of a refusal; HBM_DEVICE. */
int hbm_copies_fail(struct hbm_pool *pool);
