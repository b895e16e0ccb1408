/* SPDX-License-Identifier: Apache-2.0 */
/* query: see query.h. */
#include "client/ctl/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE(name, value, record, text, members) [value] = sizeof(struct record),
static const size_t record_sizes[HBM_QUERY_KINDS] = {HBM_QUERY_LIST(RECORD_SIZE)};

struct collection {
	struct query query;
	size_t room, limit;
	query_filter *filter;
	const void *arg;
};

#define ENOUGH 1 /* ends the walk early; hbm_query() returns it */

static int collection_make_room(struct collection *to)
{
	if (to->query.count < to->room)
		return 0;

	size_t room = to->room ? 2 * to->room : 16;
	void *records = reallocarray(to->query.records, room, to->query.record_bytes);
	if (!records)
		return -ENOMEM;

	to->query.records = records;
	to->room = room;

	return 0;
}

static int query_collect(const void *record, size_t record_bytes, void *arg)
{
	struct collection *to = arg;
	if (collection_make_room(to) < 0)
		return -ENOMEM;

	size_t ours = to->query.record_bytes;
	char *slot = (char *)to->query.records + to->query.count * ours;
	memset(slot, 0, ours);
	to->query.sent_bytes = record_bytes < ours ? record_bytes : ours;
	memcpy(slot, record, to->query.sent_bytes);
	if (to->filter && !to->filter(slot, to->arg))
		return 0;

	to->query.count++;

	return to->limit && to->query.count >= to->limit ? ENOUGH : 0;
}

int query_some(struct hbm *hbm, enum hbm_wire_query_kind kind, query_filter *filter,
	       const void *arg, size_t limit, struct query *out)
{
	struct collection to = {.query = {.record_bytes = record_sizes[kind]},
				.limit = limit,
				.filter = filter,
				.arg = arg};
	int r = hbm_query(hbm, kind, query_collect, &to);

	/* ENOUGH is also a status; ours occurs only when the collection is full. */
	if (r != 0 && !(r == ENOUGH && limit && to.query.count >= limit)) {
		query_clear(&to.query);
		return r;
	}

	*out = to.query;

	return 0;
}

int query_all(struct hbm *hbm, enum hbm_wire_query_kind kind, struct query *out)
{
	return query_some(hbm, kind, NULL, NULL, 0, out);
}

void query_clear(struct query *query)
{
	free(query->records);
	*query = (struct query){0};
}

const void *query_record(const struct query *query, size_t index)
{
	return (const char *)query->records + index * query->record_bytes;
}
