/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_record: what the state (state.h) has of blocks that are to stay: the pins that operators
 * keep, each with a record, and the blocks that users retain. Both name their block by its key, in
 * whatever tier it is. The records have no word.
 */
#pragma once

#include <assert.h>
#include <hbm/wire.h>
#include <stdint.h>

struct mark_pin {
	struct hbm_wire_key key;
	uint16_t ns;
	uint16_t zero[3];
};
static_assert(sizeof(struct mark_pin) == 24, "the state");

struct mark_retained {
	struct hbm_wire_key key;
	uint64_t until_ns; /* of clock.h, which goes on while no daemon runs */
	uint32_t uid;      /* of the user that retains it */
	uint16_t ns;
	uint8_t priority;
	uint8_t zero;
	char tenant[32]; /* that has that user; empty: none */
};
static_assert(sizeof(struct mark_retained) == 64, "the state");
