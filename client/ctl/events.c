/* SPDX-License-Identifier: Apache-2.0 */
/* events: see events.h. */
#include "client/ctl/events.h"

#include "client/ctl/ctl.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int events_by_time(const void *a, const void *b)
{
	const struct hbm_wire_event *x = a, *y = b;

	return (x->time_ns > y->time_ns) - (x->time_ns < y->time_ns);
}

void events_select(struct query *events, uint64_t from_ns, uint64_t most)
{
	struct hbm_wire_event *records = events->records;
	size_t first = 0;

	if (events->count == 0)
		return;

	qsort(records, events->count, sizeof(*records), events_by_time);
	while (first < events->count &&
	       (records[first].time_ns < from_ns || events->count - first > most))
		first++;
	events->count -= first;
	memmove(records, records + first, events->count * sizeof(*records));
}

int events_print(const struct query *events, uint64_t start_ns)
{
	static const struct table_column columns[] = {
		{"AT", true},     {"SESSION", true}, {"SEQUENCE", true},
		{"EVENT", false}, {"TOKENS", true},  {"SUSPENDED", true},
	};
	if (events->count == 0)
		return CTL_DONE;

	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < events->count; i++) {
		const struct hbm_wire_event *event = query_record(events, i);
		const double ms = ((double)event->time_ns - (double)start_ns) / 1e6;

		table_cell(table, "%.1f ms", ms);
		table_cell(table, "%" PRIu64, event->session);
		table_cell(table, "%" PRIu64, event->sequence);
		table_cell(table, "%s", view_name(&view_events, event->event));
		table_cell(table, "%" PRIu64, event->tokens);
		table_cell(table, "%s", units_bytes(event->bytes).text);
	}

	putchar('\n');
	return ctl_printed(table_finish(table, stdout));
}
