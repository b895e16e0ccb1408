/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr_nodes.h"

#include <string.h>

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/ddr_size.h"

#define HUGE_PAGE DDR_SIZE_HUGE_PAGE

/* ---- dividing ---- */

/* Parts begin at whole huge pages of the memory, where [low, high) is the tier. */
static void ddr_nodes_divide_tier(const struct ddr_nodes *nodes, struct tier *tier, uint64_t low,
				  uint64_t high)
{
	uint64_t begins[NUMA_NODES_MAX] = {0}, part = (high - low) / nodes->numa->count;

	for (uint32_t i = 1; i < nodes->numa->count; i++)
		begins[i] = (low + i * part + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE - low;

	tier_divide(tier, begins, nodes->numa->count);
}

static bool ddr_nodes_is_large(const struct ddr_nodes *nodes, uint64_t bytes, uint64_t block)
{
	return bytes / nodes->numa->count >= block + HUGE_PAGE;
}

void ddr_nodes_divide(struct ddr_nodes *nodes, const struct config *config, const struct numa *numa,
		      struct tier *staging, struct tier *ddr, uint64_t low, uint64_t high)
{
	uint64_t block = config->limit_block_bytes;

	*nodes = (struct ddr_nodes){.numa = numa,
				    .interleaved = config->ddr_numa == CONFIG_NUMA_INTERLEAVE};
	if (config->ddr_numa != CONFIG_NUMA_NODE || numa->count == 1)
		return;

	if (!ddr_nodes_is_large(nodes, low, block) ||
	    (high > low && !ddr_nodes_is_large(nodes, high - low, block))) {
		nodes->interleaved = true;
		log_notice("ddr: %u NUMA nodes: a part of ddr.size or ddr.staging would be smaller "
			   "than limits.block_bytes, so pages are interleaved",
			   numa->count);
		return;
	}

	ddr_nodes_divide_tier(nodes, staging, 0, low);
	if (high > low)
		ddr_nodes_divide_tier(nodes, ddr, low, high);
}

/* ---- placing ---- */

static void ddr_nodes_note(struct ddr_nodes *nodes, int r)
{
	int none = 0;

	if (r < 0 && __atomic_compare_exchange_n(&nodes->failed, &none, r, false, __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
		log_notice("ddr: cannot choose the NUMA node of its memory: %s; the kernel does",
			   strerror(-r));
}

/* The pages of one tier in [from, from + bytes), all counted from the tier's begin. */
static void ddr_nodes_place_in(struct ddr_nodes *nodes, const struct tier *tier, uint64_t from,
			       uint64_t end)
{
	for (uint32_t i = 0; i < tier->part_count; i++) {
		uint64_t begin = tier->parts[i].begin;
		uint64_t next = i + 1 < tier->part_count ? tier->parts[i + 1].begin : UINT64_MAX;

		begin = begin > from ? begin : from;
		next = next < end ? next : end;
		if (begin < next)
			ddr_nodes_note(nodes, numa_place(nodes->numa, tier->host + begin,
							 next - begin, i));
	}
}

void ddr_nodes_place(struct ddr_nodes *nodes, const struct tier *staging, const struct tier *ddr,
		     uint64_t from, uint64_t bytes)
{
	uint64_t low = (uint64_t)(ddr->host - staging->host), end = from + bytes;

	if (nodes->interleaved) {
		ddr_nodes_note(nodes, numa_interleave(nodes->numa, staging->host + from, bytes));
		return;
	}

	if (from < low)
		ddr_nodes_place_in(nodes, staging, from, end < low ? end : low);
	if (end > low)
		ddr_nodes_place_in(nodes, ddr, from > low ? from - low : 0, end - low);
}
