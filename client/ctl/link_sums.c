/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_sums: see link_sums.h. Movements overlap, so busy time is not the sum of theirs: the
 * beginnings and ends are walked in order of time with a count of what is in flight, as the
 * daemon does while they happen.
 */
#include "client/ctl/link_sums.h"

#include <errno.h>
#include <stdlib.h>

/* A movement begins or ends. */
struct change {
	uint64_t at_ns;
	uint32_t link;
	int32_t in_flight; /* 1 or -1 */
};

static int change_order(const void *a, const void *b)
{
	const struct change *x = a, *y = b;
	return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
}

bool link_sums_is_nvme(uint32_t link)
{
	return link == HBM_LINK_NVME_WRITE || link == HBM_LINK_NVME_READ;
}

/* An interval cut to the window; false: nothing is left of it. */
static bool link_sums_cut(const struct hbm_wire_interval *interval, uint64_t from_ns,
			  uint64_t to_ns, struct hbm_wire_interval *out)
{
	*out = *interval;
	out->start_ns = interval->start_ns < from_ns ? from_ns : interval->start_ns;
	out->end_ns = interval->end_ns > to_ns ? to_ns : interval->end_ns;
	if (interval->link >= HBM_LINKS || out->end_ns <= out->start_ns)
		return false;

	double share = (double)(out->end_ns - out->start_ns) /
		       (double)(interval->end_ns - interval->start_ns);
	if (share < 1)
		out->bytes = (uint64_t)((double)interval->bytes * share);

	return true;
}

/* `passed` ns with these movements in flight. */
static void link_sums_pass(const int32_t *in_flight, uint64_t passed, struct hbm_wire_link *links)
{
	int32_t side[2] = {0, 0};
	for (uint32_t link = 0; link < HBM_LINKS; link++)
		if (link < HBM_LINK_HASH)
			side[link_sums_is_nvme(link)] += in_flight[link];

	for (uint32_t link = 0; link < HBM_LINKS; link++) {
		if (in_flight[link] == 0)
			continue;
		links[link].busy_ns += passed;
		if (side[!link_sums_is_nvme(link)] > 0)
			links[link].overlapped_ns += passed;
	}
}

static void link_sums_walk(struct change *changes, size_t count, struct hbm_wire_link *links)
{
	int32_t in_flight[HBM_LINKS] = {0};

	qsort(changes, count, sizeof(*changes), change_order);
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			link_sums_pass(in_flight, changes[i].at_ns - changes[i - 1].at_ns, links);
		in_flight[changes[i].link] += changes[i].in_flight;
	}
}

int link_sums(const struct hbm_wire_interval *intervals, size_t count, uint64_t from_ns,
	      uint64_t to_ns, struct hbm_wire_link links[static HBM_LINKS])
{
	struct change *changes = calloc(count ? 2 * count : 1, sizeof(*changes));
	size_t used = 0;
	if (!changes)
		return -ENOMEM;

	for (uint32_t link = 0; link < HBM_LINKS; link++)
		links[link] = (struct hbm_wire_link){.link = link};

	for (size_t i = 0; i < count; i++) {
		struct hbm_wire_interval cut;
		if (!link_sums_cut(&intervals[i], from_ns, to_ns, &cut))
			continue;

		links[cut.link].count += cut.count;
		links[cut.link].bytes += cut.bytes;
		links[cut.link].errors += cut.errors;
		changes[used++] = (struct change){cut.start_ns, cut.link, 1};
		changes[used++] = (struct change){cut.end_ns, cut.link, -1};
	}

	link_sums_walk(changes, used, links);
	free(changes);

	return 0;
}
