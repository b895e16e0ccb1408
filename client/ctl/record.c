/* SPDX-License-Identifier: Apache-2.0 */
/* record: see record.h. The tables are in the order of the wire; the first use of one sorts
 * it. */
#include "client/ctl/record.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define RECORD_BYTES(form, bytes) FORM_BYTES_##form = (bytes),
enum { RECORD_FORMS(RECORD_BYTES) };

#define CHECK(R, type, member, dimension, form, place, figure, header, metric, help)               \
	static_assert(FORM_BYTES_##form == 0 ||                                                    \
			      FORM_BYTES_##form == sizeof(((const struct R *)0)->member),          \
		      #R "." #member " has another size than its form");
#define CHECKS(name, value, record, text, members) members(CHECK, record)
HBM_QUERY_LIST(CHECKS)

#define FIELD(R, type, member, dimension, form, place, figure, header, metric, help)               \
	{#member,                                                                                  \
	 FORM_##form,                                                                              \
	 place,                                                                                    \
	 FIGURE_##figure,                                                                          \
	 header,                                                                                   \
	 metric,                                                                                   \
	 help,                                                                                     \
	 offsetof(struct R, member),                                                               \
	 sizeof(((const struct R *)0)->member)},
#define FIELDS(name, value, record, text, members)                                                 \
	static struct field record##_fields[] = {members(FIELD, record)};
HBM_QUERY_LIST(FIELDS)

#define RECORD(name, value, record, text, members)                                                 \
	[value] = {text, sizeof(struct record), record##_fields,                                   \
		   sizeof(record##_fields) / sizeof(record##_fields[0])},
static const struct record records[HBM_QUERY_KINDS] = {HBM_QUERY_LIST(RECORD)};

/* Stable: within a place the order of the wire stays. */
static void record_sort(const struct record *record)
{
	for (size_t i = 1; i < record->count; i++) {
		struct field field = record->fields[i];
		size_t at = i;
		for (; at > 0 && record->fields[at - 1].place > field.place; at--)
			record->fields[at] = record->fields[at - 1];
		record->fields[at] = field;
	}
}

const struct record *record_of(enum hbm_wire_query_kind kind)
{
	static bool sorted[HBM_QUERY_KINDS];

	assert(kind > 0 && kind < HBM_QUERY_KINDS);
	if (!sorted[kind])
		record_sort(&records[kind]);
	sorted[kind] = true;

	return &records[kind];
}

const struct field *record_field(const struct record *record, const char *name)
{
	size_t f = 0;
	while (f < record->count && strcmp(record->fields[f].name, name) != 0)
		f++;
	assert(f < record->count);

	return &record->fields[f];
}
