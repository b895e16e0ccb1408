/* SPDX-License-Identifier: Apache-2.0 */
/* growth: maps what sequences of a pool need, and finds the memory for it. What is beyond
 * their credit is reserved first. */
#pragma once

struct hbm_pool;

/* Commits pool->grow, all or none. Where the daemon has no memory left, warm slabs of the
 * pool are given back: as many as are needed, then all of them, then those that open sequences
 * have and do not need. */
int hbm_growth_map(struct hbm_pool *pool);
