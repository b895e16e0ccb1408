/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: how the records of wire.h are shown. One table of fields per record (record.h) yields
 * the columns for people and the names of the JSON document, so that the two cannot drift
 * apart. JSON names are the members' names in wire.h; sizes there are bytes.
 */
#pragma once

#include "client/ctl/query.h"
#include "client/ctl/record.h"
#include "client/ctl/table.h"

#include <jansson.h>

struct view_names {
	size_t count;
	const char *const *names;
};

extern const struct view_names view_tiers;  /* "none", "hbm", "ddr", "nvme" */
extern const struct view_names view_turns;  /* "0.0001", ... "+Inf": seconds */
extern const struct view_names view_links;  /* "d2d", "d2h", "h2d", "nvme_write", "nvme_read" */
extern const struct view_names view_phases; /* "open", "suspending", ... */
extern const struct view_names view_events; /* "unknown", "opened", ... */

/* The name at index, or "unknown". */
const char *view_name(const struct view_names *names, uint32_t index);
/* The index of a name, or -1. */
int view_index(const struct view_names *names, const char *name);

/* A JSON string of at most `length` bytes of text. Bytes that are not UTF-8 become '?'. */
json_t *view_json_text(const char *text, size_t length);
/* An integer; from 2^63 on, which jansson does not support, the nearest real number. */
json_t *view_json_count(uint64_t count);
/* An object with one member for each tier but "none". */
json_t *view_json_tiers(const uint64_t *tiers);
/* One record as an object; all records as an array. NULL: out of memory. */
json_t *view_json(const struct record *type, const void *record);
json_t *view_json_all(const struct record *type, const struct query *query);
/* All records, one a line; or one record, one field a line. As table_finish(). */
int view_table(const struct record *type, const struct query *query, FILE *out);
int view_list(const struct record *type, const void *record, FILE *out);
