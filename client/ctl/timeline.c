/* SPDX-License-Identifier: Apache-2.0 */
/* timeline: see timeline.h. */
#include "client/ctl/timeline.h"

#include <errno.h>
#include <stdlib.h>

static int timeline_by_start(const void *a, const void *b)
{
	const struct hbm_wire_interval *x = a, *y = b;
	return (x->start_ns > y->start_ns) - (x->start_ns < y->start_ns);
}

static void timeline_find_bounds(const struct hbm_wire_interval *intervals, size_t count,
				 uint64_t last_ns, struct timeline *timeline)
{
	timeline->start_ns = UINT64_MAX;
	for (size_t i = 0; i < count; i++) {
		if (intervals[i].start_ns < timeline->start_ns)
			timeline->start_ns = intervals[i].start_ns;
		if (intervals[i].end_ns > timeline->end_ns)
			timeline->end_ns = intervals[i].end_ns;
	}

	if (last_ns && last_ns < timeline->end_ns &&
	    timeline->end_ns - last_ns > timeline->start_ns)
		timeline->start_ns = timeline->end_ns - last_ns;

	if (timeline->end_ns <= timeline->start_ns)
		timeline->end_ns = timeline->start_ns + 1;
}

/* Adds [from, to), seconds in units of slices from the start, to the slices it lies in. */
static void timeline_add_busy(double *slices, size_t width, double from, double to)
{
	from = from < 0 ? 0 : from;
	to = to > (double)width ? (double)width : to;
	for (size_t s = (size_t)from; s < width && (double)s < to; s++) {
		double begin = from > (double)s ? from : (double)s;
		double end = to < (double)(s + 1) ? to : (double)(s + 1);
		slices[s] += end - begin;
	}
}

/* One link's row: the union of its intervals, which come in the order of their starts. */
static void timeline_fill_row(const struct hbm_wire_interval *intervals, size_t count,
			      uint32_t link, struct timeline *timeline)
{
	double *slices = timeline->busy + (size_t)link * timeline->width;
	double scale = (double)timeline->width / (double)(timeline->end_ns - timeline->start_ns);
	uint64_t covered = timeline->start_ns;
	for (size_t i = 0; i < count; i++) {
		uint64_t from = intervals[i].start_ns > covered ? intervals[i].start_ns : covered;
		if (intervals[i].link != link || intervals[i].end_ns <= from)
			continue;
		timeline_add_busy(slices, timeline->width,
				  (double)(from - timeline->start_ns) * scale,
				  (double)(intervals[i].end_ns - timeline->start_ns) * scale);
		covered = intervals[i].end_ns;
	}
}

int timeline_make(struct hbm_wire_interval *intervals, size_t count, uint64_t last_ns, size_t width,
		  struct timeline *out)
{
	struct timeline timeline = {.width = width};

	if (count == 0)
		return -ENODATA;

	timeline.busy = calloc(width * HBM_LINKS, sizeof(*timeline.busy));
	if (!timeline.busy)
		return -ENOMEM;

	qsort(intervals, count, sizeof(*intervals), timeline_by_start);
	timeline_find_bounds(intervals, count, last_ns, &timeline);
	for (uint32_t link = 0; link < HBM_LINKS; link++)
		timeline_fill_row(intervals, count, link, &timeline);
	*out = timeline;

	return 0;
}

void timeline_clear(struct timeline *timeline)
{
	free(timeline->busy);
	*timeline = (struct timeline){0};
}

double timeline_busy(const struct timeline *timeline, uint32_t link, size_t slice)
{
	double busy = timeline->busy[(size_t)link * timeline->width + slice];
	return busy > 1 ? 1 : busy;
}
