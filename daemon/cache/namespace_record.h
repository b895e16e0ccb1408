/* SPDX-License-Identifier: Apache-2.0 */
/*
 * namespace_record: what the state (state.h) has of a namespace: what it is told apart by, its
 * number and who made it. What changes of it is in the word of the record.
 */
#pragma once

#include <assert.h>
#include <hbm/wire.h>
#include <stdint.h>

/* Of the word. */
#define NAMESPACE_RECORD_EPHEMERAL 1u

/* Of record.flags. */
#define NAMESPACE_RECORD_MEMORY_ONLY 1u
#define NAMESPACE_RECORD_WIPE 2u

struct namespace_record {
	struct hbm_wire_namespace_spec spec; /* with its salt */
	struct hbm_wire_encoding encoding;
	char group[HBM_WIRE_NAME_BYTES]; /* empty: none */
	char tenant[32];                 /* that had it; empty: none */
	uint32_t uid;                    /* who made it */
	uint16_t number;
	uint16_t flags;
};
static_assert(sizeof(struct namespace_record) == 328, "the state");
