/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pins: the blocks that a connection has pinned, where it goes on with the next daemon, which
 * knows of no pins of sessions: it pins them again (reconnect.h). Noted by the replies. Where
 * there is no memory to note one, that one is not pinned again.
 */
#pragma once

#include <hbm/hbm.h>

struct message;
struct ticket;

struct pinned {
	hbm_key key;
	uint32_t ns, count; /* count 0: a free place */
};

/* Zeroed: empty. A hash table; size is 0 or a power of two. */
struct pins {
	struct pinned *entries;
	uint32_t size, used;
};

/* A request is answered with HBM_OK: what it has pinned, and what not any more. */
void hbm_pins_answered(struct pins *pins, const struct ticket *ticket,
		       const struct message *message);
/* All blocks of a store were stored: those that were to be are pinned. */
void hbm_pins_stored(struct pins *pins, const struct hbm_wire_blocks *blocks);
/* Nothing of the namespace is pinned. */
void hbm_pins_forget(struct pins *pins, uint32_t ns);
/* Fills in at most `room` keys of the namespace that have been pinned more than `times`, from place
 * *at on, which moves behind the last of them: how many. */
uint32_t hbm_pins_list(const struct pins *pins, uint32_t ns, uint32_t times, uint32_t *at,
		       hbm_key *keys, uint32_t room);
void hbm_pins_clear(struct pins *pins); /* frees it */
