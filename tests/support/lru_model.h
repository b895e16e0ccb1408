/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru_model: one least-recently-used list of a given capacity: what the tiers of the
 * daemon, taken together, must hold and hit exactly. A request hits its leading run of
 * resident blocks, as they are when it arrives; then all its blocks are used, from the
 * tail to the head, so that a prefix is always newer than what continues it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/trace_file.h"

struct lru;

/* An empty list for blocks [0, distinct). */
struct lru *lru_new(uint32_t distinct, uint64_t capacity);
void lru_free(struct lru *lru);
/* How many blocks the request hits. */
uint64_t lru_request(struct lru *lru, const uint32_t *blocks, size_t count);
uint64_t lru_count(const struct lru *lru);
bool lru_has(const struct lru *lru, uint32_t block);
/* How many are newer than a block that is in the list. */
uint64_t lru_rank(const struct lru *lru, uint32_t block);

/* Hits of the trace's first `requests` requests in a list of `capacity` blocks. */
uint64_t lru_model_hits(const struct trace_file *trace, size_t requests, uint64_t capacity);
