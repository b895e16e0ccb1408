/* SPDX-License-Identifier: Apache-2.0 */
/* compaction: makes the moves of a pool, in order on its stream. */
#pragma once

#include <stdbool.h>

struct hbm_pool;

/* Queues all. What the device refuses is tried once more. False: refused, and *moved says
 * whether some of them have been queued. */
bool hbm_compaction_queue(struct hbm_pool *pool, bool *moved);
