/* SPDX-License-Identifier: Apache-2.0 */
/*
 * footprint: how much memory the daemon can take at most beside its tiers (and their
 * headroom and the staging buffers): the sum of all that clients can make grow, each at its
 * limit. Whoever adds something that a client can make grow adds it here.
 *
 * 	index		the index, and the tables of extents: limits.blocks
 * 	requests	messages, batches, replies: twice limits.request_bytes_total, as sessions
 * 			that have less than an equal share go on above it; and for each session
 * 			the largest request, which it may always have, as its size is known only
 * 			once it has begun
 * 	sessions	the session, fence page and socket buffer of each, and its namespace
 * 			opens: limits.sessions and silent
 * 	pins		limits.pins_total
 * 	regions		limits.regions_total, and a slot for each slab of address_space_total
 * 	slabs		one for each 2 MiB of the devices
 * 	namespaces	limits.namespaces
 * 	moves		limits.moves
 * 	state		what outlives the process: a record for each session, slab, slot, ...
 * 	daemon		what it takes itself: the program, stacks, rings, the log's queue,
 * 			what the checksum threads encode with
 *
 * All of it is memory of the process, but for the socket buffers, which are the kernel's;
 * descriptors cost the kernel some more, and are bounded by limits.descriptors and
 * RLIMIT_NOFILE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct config;
struct devices;

struct footprint {
	uint64_t index, requests, sessions, pins, regions, slabs, lent, namespaces, moves, state,
		daemon;
};

/* Of that configuration with these devices. */
struct footprint footprint_of(const struct config *config, const struct devices *devices);
uint64_t footprint_total(const struct footprint *footprint);
/* "at most 3213 MiB beside the tiers: index 1000, ...", cut to size. Returns text. */
const char *footprint_text(const struct footprint *footprint, char *text, size_t size);
