/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru_model: how many blocks of a trace one least-recently-used list of a given capacity
 * hits: what the tiers of the daemon, taken together, must hit exactly. A request hits
 * its leading run of resident blocks, as they are when it arrives; then all its blocks
 * are used, from the tail to the head, so that a prefix is always newer than what
 * continues it.
 */
#pragma once

#include "tests/support/trace_file.h"

#include <stdint.h>

/* Hits of the trace's first `requests` requests in a list of `capacity` blocks. */
uint64_t lru_model_hits(const struct trace_file *trace, size_t requests, uint64_t capacity);
