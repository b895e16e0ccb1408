/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters: what the daemon counts since its start: one member for each counter of the
 * status record (wire_records.h), of the same name. The server and the cache each have one
 * and count in it what happens there; QUERY shows the sums. Loop thread only.
 */
#pragma once

#include <hbm/wire.h>

#define COUNTERS_FACT(type, member, dimension)
#define COUNTERS_INFO(type, member, dimension)
#define COUNTERS_GAUGE(type, member, dimension)
#define COUNTERS_COUNTER(type, member, dimension) type member dimension;
#define COUNTERS_MEMBER(R, type, member, dimension, form, place, figure, ...)                      \
	COUNTERS_##figure(type, member, dimension)

struct counters {
	HBM_RECORD_STATUS(COUNTERS_MEMBER, )
};

/* Adds the counters to those of a status record. */
void counters_add(const struct counters *counters, struct hbm_wire_status *status);
