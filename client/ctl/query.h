/* SPDX-License-Identifier: Apache-2.0 */
/*
 * query: the records of one kind, as an array. A daemon of another version may have
 * longer or shorter records than this program knows: longer ones are cut, the missing end
 * of shorter ones is zero.
 */
#pragma once

#include <hbm/hbm.h>
#include <stddef.h>

struct query {
	void *records;
	size_t count;
	size_t record_bytes;
	size_t sent_bytes; /* of each record, those that the daemon sent; with a record */
};

/* Which records to keep, or NULL for all. */
typedef bool query_filter(const void *record, const void *arg);

/* At most `limit` records, 0 for all. 0 and *out, to be freed with query_clear(); else the
 * result of hbm_query(), or -ENOMEM. */
int query_some(struct hbm *hbm, enum hbm_wire_query_kind kind, query_filter *filter,
	       const void *arg, size_t limit, struct query *out);
int query_all(struct hbm *hbm, enum hbm_wire_query_kind kind, struct query *out);
void query_clear(struct query *query);
const void *query_record(const struct query *query, size_t index);
