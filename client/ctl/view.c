/* SPDX-License-Identifier: Apache-2.0 */
/* view: see view.h. */
#include "client/ctl/view.h"
#include "client/ctl/units.h"
#include "kernels/driver/driver.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32
#define DIGEST_MAX 32 /* bytes */

#define NAME(name, value, text) [value] = text,
static const char *const tier_names[] = {HBM_TIER_LIST(NAME)};
static const char *const turn_names[] = {HBM_TURNS_LIST(NAME)};
static const char *const link_names[] = {HBM_LINK_LIST(NAME)};
const struct view_names view_tiers = {HBM_TIERS, tier_names};
const struct view_names view_turns = {HBM_TURNS, turn_names};
const struct view_names view_links = {HBM_LINKS, link_names};

static const char *const state_names[] = {"live", "dead", "away"};
static const struct view_names view_states = {3, state_names};
static const char *const phase_names[] = {HBM_SEQUENCE_STATE_LIST(NAME)};
const struct view_names view_phases = {HBM_SEQUENCE_STATES, phase_names};
static const char *const event_names[] = {[0] = "unknown", HBM_SEQUENCE_EVENT_LIST(NAME)};
const struct view_names view_events = {HBM_SEQUENCE_EVENTS, event_names};
static const char *const unit_names[] = {HBM_UNIT_LIST(NAME)};
static const struct view_names view_units = {sizeof(unit_names) / sizeof(unit_names[0]),
					     unit_names};

const char *view_name(const struct view_names *names, uint32_t index)
{
	return index < names->count ? names->names[index] : "unknown";
}

int view_index(const struct view_names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->names[i], name) == 0)
			return (int)i;
	}
	return -1;
}

/* Records come from a byte stream: nothing is assumed about their alignment. */
static uint32_t view_u32_at(const void *field)
{
	uint32_t value;
	memcpy(&value, field, sizeof(value));
	return value;
}

static uint64_t view_u64_at(const void *field)
{
	uint64_t value;
	memcpy(&value, field, sizeof(value));
	return value;
}

static const void *view_field_of(const struct field *field, const void *record)
{
	return (const char *)record + field->offset;
}

static bool view_is_shown(const struct record *type, const struct field *field)
{
	return field->form != FORM_ZERO && field->offset + field->bytes <= type->bytes;
}

/* The name that a number of this form stands for. */
static const char *view_name_of(enum form form, uint32_t number)
{
	const struct view_names *names = form == FORM_LINK    ? &view_links
					 : form == FORM_STATE ? &view_states
					 : form == FORM_UNIT  ? &view_units
					 : form == FORM_PHASE ? &view_phases
					 : form == FORM_EVENT ? &view_events
							      : &view_tiers;
	return view_name(names, number);
}

static const char *view_digest(char *hex, const unsigned char *bytes, size_t count)
{
	hex[0] = '\0';
	for (size_t i = 0; i < count && i < DIGEST_MAX; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	return hex;
}

/* Of all zeros: it has none. */
static const char *view_uuid(char *text, const void *uuid)
{
	static const CUuuid none;

	return memcmp(uuid, &none, sizeof(none)) == 0 ? "" : driver_uuid_text(text, uuid);
}

json_t *view_json_text(const char *text, size_t length)
{
	length = strnlen(text, length);
	json_t *string = json_stringn(text, length);
	if (string)
		return string;

	char *plain = strndup(text, length);
	for (char *c = plain; c && *c; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}

	string = plain ? json_string(plain) : NULL;
	free(plain);

	return string;
}

json_t *view_json_count(uint64_t count)
{
	return count <= INT64_MAX ? json_integer((json_int_t)count) : json_real((double)count);
}

json_t *view_json_tiers(const uint64_t *tiers)
{
	json_t *object = json_object();
	for (uint32_t t = HBM_TIER_HBM; object && t < HBM_TIERS; t++)
		json_object_set_new(object, tier_names[t], view_json_count(tiers[t]));
	return object;
}

static json_t *view_tiers_json(const void *field)
{
	uint64_t tiers[HBM_TIERS];
	memcpy(tiers, field, sizeof(tiers));
	return view_json_tiers(tiers);
}

static json_t *view_turns_json(const void *field)
{
	uint64_t turns[HBM_TURNS];
	json_t *object = json_object();

	memcpy(turns, field, sizeof(turns));
	for (unsigned i = 0; object && i < HBM_TURNS; i++)
		json_object_set_new(object, turn_names[i], view_json_count(turns[i]));

	return object;
}

static json_t *view_value_json(const struct field *field, const void *at)
{
	char hex[2 * DIGEST_MAX + 1]; /* long enough for all that is spelt here */
	switch (field->form) {
	case FORM_TEXT:
		return view_json_text(at, field->bytes);
	case FORM_ID:
	case FORM_DEVICE:
		return json_integer(view_u32_at(at));
	case FORM_RANK:
		return json_integer((int32_t)view_u32_at(at));
	case FORM_BOOL:
		return json_boolean(view_u32_at(at) != 0);
	case FORM_DIGEST:
		return json_string(view_digest(hex, at, field->bytes));
	case FORM_UUID:
		return json_string(view_uuid(hex, at));
	case FORM_HASH:
		snprintf(hex, sizeof(hex), "%016" PRIx64, view_u64_at(at));
		return json_string(hex);
	case FORM_MARK:
		snprintf(hex, sizeof(hex), "%" PRIu64, view_u64_at(at));
		return json_string(hex);
	case FORM_TIER:
	case FORM_POOL:
	case FORM_LINK:
	case FORM_STATE:
	case FORM_UNIT:
	case FORM_PHASE:
	case FORM_EVENT:
		return json_string(view_name_of(field->form, view_u32_at(at)));
	case FORM_TIERS:
		return view_tiers_json(at);
	case FORM_TURNS:
		return view_turns_json(at);
	default:
		return view_json_count(view_u64_at(at));
	}
}

json_t *view_json(const struct record *type, const void *record)
{
	json_t *object = json_object();
	for (size_t i = 0; object && i < type->count; i++) {
		const struct field *field = &type->fields[i];
		if (!view_is_shown(type, field))
			continue;
		if (json_object_set_new(object, field->name,
					view_value_json(field, view_field_of(field, record))) < 0) {
			json_decref(object);
			return NULL;
		}
	}

	return object;
}

json_t *view_json_all(const struct record *type, const struct query *query)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < query->count; i++) {
		if (json_array_append_new(array, view_json(type, query_record(query, i))) < 0) {
			json_decref(array);
			return NULL;
		}
	}

	return array;
}

static void view_tiers_cell(struct table *table, const void *field)
{
	char text[HBM_TIERS * 32];
	int length = 0;
	uint64_t tiers[HBM_TIERS];

	memcpy(tiers, field, sizeof(tiers));
	for (uint32_t t = HBM_TIER_HBM; t < HBM_TIERS; t++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%s%s %" PRIu64,
				   length > 0 ? ", " : "", tier_names[t], tiers[t]);
	table_cell(table, "%s", text);
}

/* All, and those that were long. */
static void view_turns_cell(struct table *table, const void *field)
{
	uint64_t turns[HBM_TURNS], all;

	memcpy(turns, field, sizeof(turns));
	all = turns[HBM_TURNS_ALL];
	table_cell(table,
		   "%" PRIu64 ", over 1 ms %" PRIu64 ", over 10 ms %" PRIu64
		   ", over 100 ms %" PRIu64,
		   all, all - turns[HBM_TURNS_1MS], all - turns[HBM_TURNS_10MS],
		   all - turns[HBM_TURNS_100MS]);
}

static void view_pool_cell(struct table *table, const void *field)
{
	uint32_t pool[2];
	memcpy(pool, field, sizeof(pool));

	if (pool[0] == HBM_TIER_HBM)
		table_cell(table, "hbm %" PRIu32, pool[1]);
	else
		table_cell(table, "%s", view_name(&view_tiers, pool[0]));
}

static void view_device_cell(struct table *table, uint32_t device)
{
	if (device == HBM_DEVICE_HOST)
		table_cell(table, "host");
	else
		table_cell(table, "%" PRIu32, device);
}

static void view_value_cell(struct table *table, const struct field *field, const void *at)
{
	char hex[2 * DIGEST_MAX + 1];
	switch (field->form) {
	case FORM_TEXT:
		return table_cell(table, "%.*s", (int)field->bytes, (const char *)at);
	case FORM_DEVICE:
		return view_device_cell(table, view_u32_at(at));
	case FORM_ID:
		return table_cell(table, "%" PRIu32, view_u32_at(at));
	case FORM_RANK:
		return table_cell(table, "%" PRId32, (int32_t)view_u32_at(at));
	case FORM_COUNT:
	case FORM_MARK:
		return table_cell(table, "%" PRIu64, view_u64_at(at));
	case FORM_BYTES:
		return table_cell(table, "%s", units_bytes(view_u64_at(at)).text);
	case FORM_MS:
		return table_cell(table, "%s", units_duration_ns(view_u64_at(at) * 1000000).text);
	case FORM_NS:
		return table_cell(table, "%s", units_duration_ns(view_u64_at(at)).text);
	case FORM_BOOL:
		return table_cell(table, "%s", view_u32_at(at) ? "yes" : "no");
	case FORM_DIGEST:
		return table_cell(table, "%s", view_digest(hex, at, field->bytes));
	case FORM_UUID:
		return table_cell(table, "%s", view_uuid(hex, at));
	case FORM_HASH:
		return table_cell(table, "%016" PRIx64, view_u64_at(at));
	case FORM_TIER:
	case FORM_LINK:
	case FORM_STATE:
	case FORM_UNIT:
	case FORM_PHASE:
	case FORM_EVENT:
		return table_cell(table, "%s", view_name_of(field->form, view_u32_at(at)));
	case FORM_TIERS:
		return view_tiers_cell(table, at);
	case FORM_TURNS:
		return view_turns_cell(table, at);
	case FORM_POOL:
		return view_pool_cell(table, at);
	case FORM_ZERO:
		return;
	}
}

static bool view_is_number(enum form form)
{
	return form == FORM_ID || form == FORM_DEVICE || form == FORM_COUNT || form == FORM_MARK ||
	       form == FORM_BYTES || form == FORM_MS || form == FORM_NS || form == FORM_RANK;
}

static bool view_has_column(const struct record *type, const struct field *field)
{
	return *field->header != '\0' && view_is_shown(type, field);
}

int view_table(const struct record *type, const struct query *query, FILE *out)
{
	struct table_column columns[COLUMNS_MAX];
	size_t count = 0;

	for (size_t f = 0; f < type->count; f++) {
		const struct field *field = &type->fields[f];
		assert(count < COLUMNS_MAX);
		if (view_has_column(type, field))
			columns[count++] =
				(struct table_column){field->header, view_is_number(field->form)};
	}

	struct table *table = table_new(columns, count);
	for (size_t i = 0; i < query->count; i++) {
		for (size_t f = 0; f < type->count; f++) {
			const struct field *field = &type->fields[f];
			if (view_has_column(type, field))
				view_value_cell(table, field,
						view_field_of(field, query_record(query, i)));
		}
	}

	return table_finish(table, out);
}

int view_list(const struct record *type, const void *record, FILE *out)
{
	struct table *table =
		table_new((const struct table_column[]){{NULL, false}, {NULL, false}}, 2);
	for (size_t f = 0; f < type->count; f++) {
		const struct field *field = &type->fields[f];
		if (!view_has_column(type, field))
			continue;
		table_cell(table, "%s", field->header);
		view_value_cell(table, field, view_field_of(field, record));
	}

	return table_finish(table, out);
}
