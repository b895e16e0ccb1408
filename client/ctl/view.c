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
static const char *const link_names[] = {HBM_LINK_LIST(NAME)};
const struct view_names view_tiers = {HBM_TIERS, tier_names};
const struct view_names view_links = {HBM_LINKS, link_names};

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

static const void *view_field_of(const struct view_field *field, const void *record)
{
	return (const char *)record + field->offset;
}

static const char *view_digest(char *hex, const unsigned char *bytes, size_t count)
{
	hex[0] = '\0';
	for (size_t i = 0; i < count && i < DIGEST_MAX; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	return hex;
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

static json_t *view_value_json(const struct view_field *field, const void *at)
{
	char hex[2 * DIGEST_MAX + 1]; /* long enough for all that is spelt here */
	switch (field->type) {
	case VIEW_TEXT:
		return view_json_text(at, field->bytes);
	case VIEW_ID:
		return json_integer(view_u32_at(at));
	case VIEW_BOOL:
		return json_boolean(view_u32_at(at) != 0);
	case VIEW_DIGEST:
		return json_string(view_digest(hex, at, field->bytes));
	case VIEW_UUID:
		return json_string(driver_uuid_text(hex, at));
	case VIEW_HASH:
		snprintf(hex, sizeof(hex), "%016" PRIx64, view_u64_at(at));
		return json_string(hex);
	case VIEW_MARK:
		snprintf(hex, sizeof(hex), "%" PRIu64, view_u64_at(at));
		return json_string(hex);
	case VIEW_NAMED:
		return json_string(view_name(field->names, view_u32_at(at)));
	case VIEW_TIERS:
		return view_tiers_json(at);
	default:
		return view_json_count(view_u64_at(at));
	}
}

json_t *view_json(const struct view_field *fields, const void *record)
{
	json_t *object = json_object();
	for (; object && fields->name; fields++) {
		if (fields->type == VIEW_POOL)
			continue;
		if (json_object_set_new(object, fields->name,
					view_value_json(fields, view_field_of(fields, record))) <
		    0) {
			json_decref(object);
			return NULL;
		}
	}

	return object;
}

json_t *view_json_all(const struct view_field *fields, const struct query *query)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < query->count; i++) {
		if (json_array_append_new(array, view_json(fields, query_record(query, i))) < 0) {
			json_decref(array);
			return NULL;
		}
	}

	return array;
}

static void view_tiers_cell(struct table *table, const void *field)
{
	uint64_t tiers[HBM_TIERS];
	memcpy(tiers, field, sizeof(tiers));
	table_cell(table, "hbm %" PRIu64 ", ddr %" PRIu64 ", nvme %" PRIu64, tiers[HBM_TIER_HBM],
		   tiers[HBM_TIER_DDR], tiers[HBM_TIER_NVME]);
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

static void view_value_cell(struct table *table, const struct view_field *field, const void *at)
{
	char hex[2 * DIGEST_MAX + 1];
	switch (field->type) {
	case VIEW_TEXT:
		return table_cell(table, "%.*s", (int)field->bytes, (const char *)at);
	case VIEW_ID:
		return table_cell(table, "%" PRIu32, view_u32_at(at));
	case VIEW_COUNT:
	case VIEW_MARK:
		return table_cell(table, "%" PRIu64, view_u64_at(at));
	case VIEW_BYTES:
		return table_cell(table, "%s", units_bytes(view_u64_at(at)).text);
	case VIEW_MS:
		return table_cell(table, "%s", units_duration_ns(view_u64_at(at) * 1000000).text);
	case VIEW_NS:
		return table_cell(table, "%s", units_duration_ns(view_u64_at(at)).text);
	case VIEW_BOOL:
		return table_cell(table, "%s", view_u32_at(at) ? "yes" : "no");
	case VIEW_DIGEST:
		return table_cell(table, "%s", view_digest(hex, at, field->bytes));
	case VIEW_UUID:
		return table_cell(table, "%s", driver_uuid_text(hex, at));
	case VIEW_HASH:
		return table_cell(table, "%016" PRIx64, view_u64_at(at));
	case VIEW_NAMED:
		return table_cell(table, "%s", view_name(field->names, view_u32_at(at)));
	case VIEW_TIERS:
		return view_tiers_cell(table, at);
	case VIEW_POOL:
		return view_pool_cell(table, at);
	}
}

static bool view_is_number(enum view_type type)
{
	return type == VIEW_ID || type == VIEW_COUNT || type == VIEW_MARK || type == VIEW_BYTES ||
	       type == VIEW_MS || type == VIEW_NS;
}

int view_table(const struct view_field *fields, const struct query *query, FILE *out)
{
	struct table_column columns[COLUMNS_MAX];
	size_t count = 0;

	for (const struct view_field *f = fields; f->name; f++) {
		assert(count < COLUMNS_MAX);
		if (f->header)
			columns[count++] =
				(struct table_column){f->header, view_is_number(f->type)};
	}

	struct table *table = table_new(columns, count);
	for (size_t i = 0; i < query->count; i++) {
		for (const struct view_field *f = fields; f->name; f++) {
			if (f->header)
				view_value_cell(table, f, view_field_of(f, query_record(query, i)));
		}
	}

	return table_finish(table, out);
}

int view_list(const struct view_field *fields, const void *record, FILE *out)
{
	struct table *table =
		table_new((const struct table_column[]){{NULL, false}, {NULL, false}}, 2);
	for (; fields->name; fields++) {
		if (!fields->header)
			continue;
		table_cell(table, "%s", fields->header);
		view_value_cell(table, fields, view_field_of(fields, record));
	}

	return table_finish(table, out);
}
