/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record: what the lists of wire_records.h say of the daemon's records, as tables. Commands
 * show a record by its table and name no member, so that a new one needs no change here.
 */
#pragma once

#include <hbm/wire.h>
#include <stddef.h>

/* X(form, bytes): the forms of wire_records.h; bytes of a member, 0: any number. */
#define RECORD_FORMS(X)                                                                            \
	X(TEXT, 0)                                                                                 \
	X(DIGEST, 0)                                                                               \
	X(UUID, HBM_WIRE_UUID_BYTES)                                                               \
	X(ID, 4)                                                                                   \
	X(DEVICE, 4)                                                                               \
	X(BOOL, 4)                                                                                 \
	X(TIER, 4)                                                                                 \
	X(LINK, 4)                                                                                 \
	X(STATE, 4)                                                                                \
	X(UNIT, 4)                                                                                 \
	X(PHASE, 4)                                                                                \
	X(EVENT, 4)                                                                                \
	X(RANK, 4)                                                                                 \
	X(POOL, 4)                                                                                 \
	X(ZERO, 4)                                                                                 \
	X(COUNT, 8)                                                                                \
	X(BYTES, 8)                                                                                \
	X(MS, 8)                                                                                   \
	X(NS, 8)                                                                                   \
	X(HASH, 8)                                                                                 \
	X(MARK, 8)                                                                                 \
	X(TIERS, 8 * HBM_TIERS)                                                                    \
	X(TURNS, 8 * HBM_TURNS)

#define RECORD_FORM(form, bytes) FORM_##form,
enum form { RECORD_FORMS(RECORD_FORM) };
#undef RECORD_FORM

enum figure { FIGURE_FACT, FIGURE_INFO, FIGURE_GAUGE, FIGURE_COUNTER };

struct field {
	const char *name; /* of the member, and in JSON */
	enum form form;
	unsigned int place;
	enum figure figure;
	const char *header, *metric, *help; /* header, metric: "" if there is none */
	size_t offset, bytes;
};

struct record {
	const char *name;     /* of an array of them in JSON */
	size_t bytes;         /* fields beyond are not shown */
	struct field *fields; /* in the order in which they are shown */
	size_t count;
};

const struct record *record_of(enum hbm_wire_query_kind kind);
/* The field of that name, which must be there. */
const struct field *record_field(const struct record *record, const char *name);
