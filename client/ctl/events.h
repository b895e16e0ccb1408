/* SPDX-License-Identifier: Apache-2.0 */
/* events: what has happened to sequences, as clients say, in the order of time. */
#pragma once

#include "client/ctl/query.h"

#include <stdint.h>

/* Sorts the records of HBM_QUERY_EVENTS by time, and drops those before from_ns and all but the
 * last `most`. */
void events_select(struct query *events, uint64_t from_ns, uint64_t most);
/* A table, its times in ms from start_ns on; nothing if there are no events. CTL_DONE, or how
 * hbmctl ends. */
int events_print(const struct query *events, uint64_t start_ns);
