/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field: the checks of a single field of a message, by its value alone, and the reason that
 * a check which fails leaves. Each returns HBM_OK, or the status to refuse the request with,
 * and why names the field as wire.h does, its value, and what was expected. What several
 * fields say together is checked in body.
 */
#pragma once

#include "daemon/base/reason.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a request is refused: one line for people. */
struct refusal {
	char reason[HBM_WIRE_REASON_BYTES];
};
/* For reason_set(). */
#define refusal_reason(why) ((struct reason){(why)->reason, sizeof((why)->reason)})

/* Writes the line and returns the status, the second argument. */
#define field_refuse(why, ...) reason_set(&refusal_reason(why), __VA_ARGS__)

/* HBM_INVALID unless it is 0. */
int field_zero(const char *field, uint64_t value, struct refusal *why);
/* The same of the member zero of a record of an array. */
int field_zero_of(const char *array, uint32_t index, uint32_t value, struct refusal *why);
/* HBM_UNSUPPORTED if a flag is set that is not known. */
int field_flags(const char *field, uint32_t flags, uint32_t known, struct refusal *why);
/* HBM_INVALID unless the text ends within its field and only NULs follow. */
int field_text(const char *field, const char text[HBM_WIRE_NAME_BYTES], struct refusal *why);
/* HBM_INVALID unless there is such a fence, or it is HBM_WIRE_NO_FENCE. */
int field_slot(const char *field, uint32_t slot, struct refusal *why);
/* Whether it is all zero, the key that no block has. */
bool field_is_reserved(const struct hbm_wire_key *key);
