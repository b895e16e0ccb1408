/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr_nodes: which NUMA node each part of the daemon's host memory is of. With ddr.numa =
 * node the staging buffer and the DDR tier are each divided equally among the nodes, so that
 * a block lies at the node its device is at; with interleave their pages are of all nodes in
 * turn; with off they are as the kernel places them.
 *
 * A part is no smaller than the largest block. Where it would be, nothing is divided and
 * pages are interleaved.
 */
#pragma once

#include "daemon/base/numa.h"
#include "daemon/tier/tier.h"

struct config;

struct ddr_nodes {
	const struct numa *numa;
	bool interleaved;
	int failed; /* why the kernel refused, negative errno; atomic */
};

/* Decides for host memory at `base`: staging in [0, low), the tier in [low, high). After
 * tier_init() of both, and before they grow. */
void ddr_nodes_divide(struct ddr_nodes *nodes, const struct config *config, const struct numa *numa,
		      struct tier *staging, struct tier *ddr, uint64_t low, uint64_t high);
/* Binds [from, from + bytes) of the memory, which has no pages yet. What the kernel refuses
 * is logged once. Any thread. */
void ddr_nodes_place(struct ddr_nodes *nodes, const struct tier *staging, const struct tier *ddr,
		     uint64_t from, uint64_t bytes);
