/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_stats: how busy each link was. Each link (device to host, NVMe write, ...) has a
 * count of transfers in flight. From its changes come the time the link was busy, the
 * share of that time in which the other side (NVMe for device copies, device copies for
 * NVMe) was busy too, and the bandwidth while busy. The last transfers are kept as
 * intervals for a timeline. Until a link has been used, its bandwidth is what a probe at
 * startup has measured, which counts as nothing else. Callable from any thread; one short
 * lock.
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct link_stats;

/* How device copies were issued: contiguous pieces, after merging, and their bytes. */
enum link_way { LINK_WAY_SINGLE, LINK_WAY_ROWS, LINK_WAY_BATCH, LINK_WAYS };

struct link_ways {
	uint64_t pieces[LINK_WAYS], bytes[LINK_WAYS];
	uint64_t direct; /* copies that the loop issued */
};

int link_stats_new(struct link_stats **out);
struct link_stats *link_stats_free(struct link_stats *link_stats);
/* Returns the current time, for link_stats_end. */
uint64_t link_stats_begin(struct link_stats *link_stats, enum hbm_link link);
void link_stats_end(struct link_stats *link_stats, enum hbm_link link, uint32_t device,
		    uint64_t started_ns, uint64_t count, uint64_t bytes, uint64_t errors);
void link_stats_ways(struct link_stats *link_stats, enum hbm_link link,
		     const struct link_ways *ways); /* adds them */
void link_stats_link(struct link_stats *link_stats, enum hbm_link link,
		     struct hbm_wire_link *record);
/* Bytes per second while busy. Before the first transfer: what was seeded, or 0. */
double link_stats_bandwidth(struct link_stats *link_stats, enum hbm_link link);
/* Sets the bandwidth until the first transfer, from a probe. Counts as nothing else. */
void link_stats_seed(struct link_stats *link_stats, enum hbm_link link, double bytes_s);
/* Copies at most `room` intervals from the cursor-th on (counted since start); the number
 * copied. Intervals that have been overwritten are skipped: *cursor is moved to the first
 * one copied. */
uint32_t link_stats_intervals(struct link_stats *link_stats, uint64_t *cursor,
			      struct hbm_wire_interval *out, uint32_t room);
