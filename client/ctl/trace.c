/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace: see trace.h. The picture shows the daemon's last few thousand movements; the
 * numbers below it are sums since the daemon started, or with --last of the window that the
 * picture shows. Events of sequences are those of the window, or with no window all that are
 * kept, but no more than asked for.
 */
#include "client/ctl/trace.h"
#include "client/ctl/ctl.h"
#include "client/ctl/events.h"
#include "client/ctl/link_sums.h"
#include "client/ctl/timeline.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LABEL_WIDTH 11
#define WIDTH_MIN 10
#define WIDTH_MAX 1000
#define NS_PER_MS 1000000
#define EVENTS_SHOWN 20

enum { TRACE_LAST, TRACE_WIDTH, TRACE_EVENTS };
const struct option_spec trace_options[] = {
	[TRACE_LAST] = {"last", "MS",
			"show only the last MS milliseconds; default 0: all that are kept"},
	[TRACE_WIDTH] = {"width", "N", "show N time slices; default: as many as fit the terminal"},
	[TRACE_EVENTS] = {"events", "N",
			  "show the last N events of sequences; default 20, 0 for none"},
	{NULL, NULL, NULL},
};

/* What is asked for. */
struct trace_wish {
	uint64_t last_ms, width, events;
};

/* What is shown. */
struct trace_queries {
	struct query links, intervals, events;
};

/* In the order in which a block goes down and comes back. */
static const uint32_t rows[] = {HBM_LINK_D2D,        HBM_LINK_D2H,       HBM_LINK_H2D,
				HBM_LINK_NVME_WRITE, HBM_LINK_NVME_READ, HBM_LINK_HASH};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static uint64_t trace_default_width(void)
{
	struct winsize size;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
	    size.ws_col > LABEL_WIDTH + 2 + WIDTH_MIN)
		return (uint64_t)size.ws_col - LABEL_WIDTH - 2;
	return 80 - LABEL_WIDTH - 2;
}

static const char *trace_shade(double busy)
{
	static const char *const ascii[] = {" ", ".", ":", "+", "#"};
	static const char *const blocks[] = {" ", "░", "▒", "▓", "█"};
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;

	/* A slice that was busy at all is visible. */
	size_t level = busy <= 0 ? 0 : 1 + (size_t)(busy * 3.999);

	level = level > 4 ? 4 : level;

	return utf8 ? blocks[level] : ascii[level];
}

static void trace_draw_axis(const struct timeline *timeline)
{
	char end[32];
	double ms = (double)(timeline->end_ns - timeline->start_ns) / NS_PER_MS;
	int length = snprintf(end, sizeof(end), "%.1f ms", ms);
	printf("%-*s 0%*s\n", LABEL_WIDTH, "", (int)timeline->width,
	       length < (int)timeline->width ? end : "");
}

static void trace_draw(const struct timeline *timeline)
{
	for (size_t r = 0; r < ROW_COUNT; r++) {
		printf("%-*s|", LABEL_WIDTH, view_name(&view_links, rows[r]));
		for (size_t s = 0; s < timeline->width; s++)
			fputs(trace_shade(timeline_busy(timeline, rows[r], s)), stdout);
		puts("|");
	}
	trace_draw_axis(timeline);
}

static int trace_print_links(const struct query *links)
{
	static const struct table_column columns[] = {
		{"LINK", false}, {"MOVEMENTS", true}, {"BYTES", true},  {"BUSY", true},
		{"GiB/s", true}, {"OVERLAP", true},   {"ERRORS", true}, {"OVERLAP IS WITH", false},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < links->count; i++) {
		const struct hbm_wire_link *link = query_record(links, i);

		table_cell(table, "%s", view_name(&view_links, link->link));
		table_cell(table, "%" PRIu64, link->count);
		table_cell(table, "%s", units_bytes(link->bytes).text);
		table_cell(table, "%s", units_duration_ns(link->busy_ns).text);
		table_cell(table, "%s", units_rate(link->bytes, link->busy_ns).text);
		table_cell(table, "%s", units_percent(link->overlapped_ns, link->busy_ns).text);
		table_cell(table, "%" PRIu64, link->errors);
		table_cell(table, "%s",
			   link_sums_is_nvme(link->link) ? "device copies" : "NVMe I/O");
	}

	return ctl_printed(table_finish(table, stdout));
}

static bool trace_has_pieces(const struct hbm_wire_link *link)
{
	return link->single_pieces + link->row_pieces + link->batch_pieces > 0;
}

static void trace_print_way(struct table *table, uint64_t pieces, uint64_t bytes)
{
	table_cell(table, "%" PRIu64, pieces);
	table_cell(table, "%s", units_bytes(bytes).text);
}

/* How the pieces of device copies were issued, and how many of the copies by the daemon's loop;
 * nothing of links that have copied none. */
static int trace_print_ways(const struct query *links)
{
	static const struct table_column columns[] = {
		{"LINK", false}, {"PIECES SINGLY", true}, {"BYTES", true}, {"AS ROWS", true},
		{"BYTES", true}, {"IN BATCHES", true},    {"BYTES", true}, {"BY THE LOOP", true},
	};
	struct table *table = NULL;

	for (size_t i = 0; i < links->count; i++) {
		const struct hbm_wire_link *link = query_record(links, i);
		if (!trace_has_pieces(link))
			continue;

		if (!table)
			table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
		table_cell(table, "%s", view_name(&view_links, link->link));
		trace_print_way(table, link->single_pieces, link->single_bytes);
		trace_print_way(table, link->row_pieces, link->row_bytes);
		trace_print_way(table, link->batch_pieces, link->batch_bytes);
		table_cell(table, "%" PRIu64, link->direct_copies);
	}

	if (!table)
		return CTL_DONE;

	putchar('\n');
	return ctl_printed(table_finish(table, stdout));
}

static json_t *trace_busy_json(const struct timeline *timeline, uint32_t link)
{
	json_t *array = json_array();
	for (size_t s = 0; timeline->busy && link < HBM_LINKS && s < timeline->width; s++)
		json_array_append_new(array, json_real(timeline_busy(timeline, link, s)));
	return array;
}

static json_t *trace_links_json(const struct query *links, const struct timeline *timeline)
{
	json_t *array = json_array();
	for (size_t i = 0; i < links->count; i++) {
		const struct hbm_wire_link *link = query_record(links, i);
		double share = link->busy_ns
				       ? 100.0 * (double)link->overlapped_ns / (double)link->busy_ns
				       : 0;
		json_t *object = view_json(record_of(HBM_QUERY_LINKS), link);
		json_object_set_new(object, "gib_s",
				    json_real(units_gib_s(link->bytes, link->busy_ns)));
		json_object_set_new(object, "overlapped_percent", json_real(share));
		json_object_set_new(object, "busy_share", trace_busy_json(timeline, link->link));
		json_array_append_new(array, object);
	}

	return array;
}

static json_t *trace_intervals_json(const struct query *intervals, uint64_t from_ns)
{
	const struct record *type = record_of(HBM_QUERY_TIMELINE);
	json_t *array = json_array();
	for (size_t i = 0; i < intervals->count; i++) {
		const struct hbm_wire_interval *interval = query_record(intervals, i);
		if (interval->end_ns <= from_ns)
			continue;
		json_array_append_new(array, view_json(type, interval));
	}

	return array;
}

static int trace_print_json(const struct timeline *timeline, const struct query *links,
			    const struct trace_queries *queries)
{
	return ctl_print_json(json_pack(
		"{s:o,s:o,s:I,s:o,s:o,s:o}", "start_ns", view_json_count(timeline->start_ns),
		"end_ns", view_json_count(timeline->end_ns), "slices", (json_int_t)timeline->width,
		"links", trace_links_json(links, timeline), "intervals",
		trace_intervals_json(&queries->intervals, timeline->start_ns), "events",
		view_json_all(record_of(HBM_QUERY_EVENTS), &queries->events)));
}

static int trace_print_events(const struct timeline *timeline, const struct query *events)
{
	const struct hbm_wire_event *first = events->count > 0 ? query_record(events, 0) : NULL;

	/* Without a picture times are those since the first event. */
	return !first ? CTL_DONE
		      : events_print(events, timeline->busy ? timeline->start_ns : first->time_ns);
}

static int trace_print_text(const struct timeline *timeline, const struct query *links,
			    const struct query *events)
{
	if (timeline->busy)
		trace_draw(timeline);
	else
		puts("nothing has moved yet");

	putchar('\n');
	int r = trace_print_links(links);
	if (r == CTL_DONE)
		r = trace_print_ways(links);

	return r == CTL_DONE ? trace_print_events(timeline, events) : r;
}

static int trace_show(struct ctl *ctl, struct trace_queries *queries, const struct trace_wish *wish)
{
	struct query *intervals = &queries->intervals;
	struct timeline timeline = {.width = (size_t)wish->width};
	int r = timeline_make(intervals->records, intervals->count, wish->last_ms * NS_PER_MS,
			      timeline.width, &timeline);
	if (r < 0 && r != -ENODATA)
		return ctl_printed(r);

	struct hbm_wire_link sums[HBM_LINKS];
	struct query window = {sums, HBM_LINKS, sizeof(sums[0]), sizeof(sums[0])};
	const struct query *shown = wish->last_ms > 0 ? &window : &queries->links;

	events_select(&queries->events, wish->last_ms > 0 ? timeline.start_ns : 0, wish->events);
	r = link_sums(intervals->records, intervals->count, timeline.start_ns, timeline.end_ns,
		      sums);
	if (r < 0)
		r = ctl_printed(r);
	else
		r = ctl->json ? trace_print_json(&timeline, shown, queries)
			      : trace_print_text(&timeline, shown, &queries->events);
	timeline_clear(&timeline);

	return r;
}

static int trace_parse(struct ctl *ctl, struct trace_wish *wish)
{
	int r = ctl_count(ctl, "--last", ctl->options.values[TRACE_LAST], &wish->last_ms);
	if (r == CTL_DONE && wish->last_ms > UINT64_MAX / NS_PER_MS)
		return ctl_usage(ctl, "--last is %" PRIu64 " ms: that is too far back",
				 wish->last_ms);
	if (r == CTL_DONE)
		r = ctl_count(ctl, "--width", ctl->options.values[TRACE_WIDTH], &wish->width);
	if (r == CTL_DONE)
		r = ctl_count(ctl, "--events", ctl->options.values[TRACE_EVENTS], &wish->events);

	if (r == CTL_DONE && (wish->width < WIDTH_MIN || wish->width > WIDTH_MAX))
		return ctl_usage(ctl, "--width is %" PRIu64 ": expected %d to %d", wish->width,
				 WIDTH_MIN, WIDTH_MAX);

	return r;
}

int trace_run(struct ctl *ctl)
{
	struct trace_queries queries = {0};
	struct trace_wish wish = {.width = trace_default_width(), .events = EVENTS_SHOWN};
	int r = trace_parse(ctl, &wish);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	int status = query_all(ctl->hbm, HBM_QUERY_LINKS, &queries.links);
	if (status == 0)
		status = query_all(ctl->hbm, HBM_QUERY_TIMELINE, &queries.intervals);
	if (status == 0)
		status = query_all(ctl->hbm, HBM_QUERY_EVENTS, &queries.events);

	r = status == 0 ? trace_show(ctl, &queries, &wish) : ctl_refused(ctl->hbm, "trace", status);
	query_clear(&queries.links);
	query_clear(&queries.intervals);
	query_clear(&queries.events);

	return r;
}
