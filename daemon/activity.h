/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activity: who was busy when. Each kind of hop (device to host, NVMe write, ...) has a count of movements under way,
 * and from the changes of these counts come the time it was busy, the share of that time in which the other side (NVMe
 * for device copies, device copies for NVMe) was busy too, and its bandwidth while busy. The last movements are kept as
 * intervals for a timeline. Callable from any thread; one short lock.
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct activity;

int activity_new(struct activity **out);
struct activity *activity_free(struct activity *activity);
/* Now, for activity_end. */
uint64_t activity_begin(struct activity *activity, enum hbm_hop hop);
void activity_end(struct activity *activity, enum hbm_hop hop, uint32_t device, uint64_t started_ns, uint64_t count,
		  uint64_t bytes, uint64_t errors);
void activity_hop(struct activity *activity, enum hbm_hop hop, struct hbm_wire_hop *record);
/* Bytes per second while busy; 0 while nothing has been measured. */
double activity_bandwidth(struct activity *activity, enum hbm_hop hop);
/* Copies at most `room` intervals from the cursor-th on (counted since start); the number copied. Intervals that have
 * been overwritten are skipped: *cursor is moved to the first one copied. */
uint32_t activity_intervals(struct activity *activity, uint64_t *cursor, struct hbm_wire_interval *out, uint32_t room);
