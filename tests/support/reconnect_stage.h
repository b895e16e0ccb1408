/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconnect_stage: a connection to a fake daemon whose sessions survive it (fake_stage.h): the daemon
 * dies at a request of the test's choice, and the next one notes what it hears.
 */
#pragma once

#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#define SLAB FAKE_SLAB
#define RECONNECT_HEARD 64u

struct reconnect_stage {
	/* What the next daemon was sent first, and whether it refuses. */
	struct hbm_wire_hello_resume resume;
	unsigned hellos;
	int refuse_hello;
	/* The daemon dies when it has read that request for the n-th time, with or without its effect. */
	unsigned die_opcode, die_at;
	/* What came after HELLO, in order. */
	uint16_t heard[RECONNECT_HEARD];
	uint64_t heard_ids[RECONNECT_HEARD];
	unsigned heard_count;
	/* What it was told last that the client has. */
	struct hbm_wire_range told[8];
	unsigned told_count;
	struct hbm_region *region; /* reconnect_open_region() */
};

extern struct reconnect_stage reconnect;
extern const hbm_key reconnect_key; /* of reconnect_lookup() */

/* cmocka's setup, for fake_stage_teardown(): a connection named "test". */
int reconnect_setup(void **state);
/* In place of the connection that there is. */
void reconnect_connect(const struct hbm_options *options);
/* What the fake daemon does at first; tests call it from their own. */
bool reconnect_answer(struct fake *self, const struct hbm_wire_header *request);
void reconnect_die_on(unsigned opcode, unsigned at);
/* What hbm_lookup() says of the key, in namespace 5. */
int reconnect_lookup(void);
/* A region of four slabs; the first is committed. */
void reconnect_open_region(void);
