/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: how the records of wire.h are shown. One table of fields per record yields the
 * columns for people and the names of the JSON document, so that the two cannot drift
 * apart. JSON names are the members' names in wire.h; sizes there are bytes.
 */
#pragma once

#include "client/ctl/query.h"
#include "client/ctl/table.h"

#include <jansson.h>
#include <stddef.h>

enum view_type {
	VIEW_TEXT,   /* a char array, possibly full */
	VIEW_ID,     /* uint32_t */
	VIEW_COUNT,  /* uint64_t */
	VIEW_BYTES,  /* uint64_t */
	VIEW_MS,     /* uint64_t, milliseconds */
	VIEW_NS,     /* uint64_t, nanoseconds */
	VIEW_BOOL,   /* uint32_t */
	VIEW_DIGEST, /* bytes, as hex digits */
	VIEW_UUID,   /* of a device, as nvidia-smi writes it */
	VIEW_HASH,   /* uint64_t, as 16 hex digits */
	/* uint64_t chosen by a client; in JSON a string, as not all readers have 64-bit
	 * integers */
	VIEW_MARK,
	VIEW_NAMED, /* uint32_t, an index into `names` */
	VIEW_TIERS, /* uint64_t[HBM_TIERS], [0] unused */
	VIEW_POOL,  /* uint32_t tier, uint32_t device: "hbm 0", "ddr"; not in JSON */
};

struct view_field {
	const char *name;   /* in JSON; NULL ends the table */
	const char *header; /* for people; NULL: only in JSON */
	enum view_type type;
	size_t offset, bytes;
	const struct view_names *names; /* VIEW_NAMED */
};

struct view_names {
	size_t count;
	const char *const *names;
};

#define VIEW_FIELD(type, record, member, header)                                                   \
	{                                                                                          \
#member, header, type, offsetof(record, member),                                   \
			sizeof(((const record *)0)->member), NULL                                  \
	}
#define VIEW_FIELD_NAMED(record, member, header, names)                                            \
	{                                                                                          \
#member, header, VIEW_NAMED, offsetof(record, member),                             \
			sizeof(((const record *)0)->member), names                                 \
	}
#define VIEW_END                                                                                   \
	{                                                                                          \
		NULL, NULL, VIEW_TEXT, 0, 0, NULL                                                  \
	}

extern const struct view_names view_tiers; /* "none", "hbm", "ddr", "nvme" */
extern const struct view_names view_links; /* "d2d", "d2h", "h2d", "nvme_write", "nvme_read" */

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
json_t *view_json(const struct view_field *fields, const void *record);
json_t *view_json_all(const struct view_field *fields, const struct query *query);
/* All records, one a line; or one record, one field a line. As table_finish(). */
int view_table(const struct view_field *fields, const struct query *query, FILE *out);
int view_list(const struct view_field *fields, const void *record, FILE *out);
