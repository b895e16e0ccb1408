/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watermark: a pool that suspends idle sequences by itself (balance.h), so that memory is free
 * when it is needed. It begins where less is free on the device than the low watermark, and
 * goes on up to the high one:
 *
 *	resting ---- free < low ----> at work ---- free >= high ----> resting
 *
 * One sequence is under way at a time, and nothing waits for it: who maps ahead, the pool's
 * thread or its user, looks after it in between. What is free is read in memory that the
 * daemon shares, without a call. A suspend that is refused, as the tier is full, is not tried
 * again for a while.
 */
#pragma once

#include <stdbool.h>

struct hbm;
struct hbm_pool;
struct hbm_pool_options;

/* HBM_INVALID, with the connection's line: the options make no sense. */
int hbm_watermark_check(struct hbm *hbm, const struct hbm_pool_options *options);
/* As they say. 0 or -ENOMEM. */
int hbm_watermark_open(struct hbm_pool *pool, const struct hbm_pool_options *options);
/* Nothing is under way, or it ends with the pool. */
void hbm_watermark_close(struct hbm_pool *pool);
/* Looks at what is under way, and begins what is due. Whether something is under way. */
bool hbm_watermark_go(struct hbm_pool *pool);
