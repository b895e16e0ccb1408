/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit: how a block of a STORE comes into the cache: whether it is new, which tier it goes to if
 * its client says so, and the pin that it is stored with. Its bytes are batch.h's.
 *
 * A pin that comes with a block has its reference from here on, so that nothing evicts the
 * block while it is being stored. It becomes one of the session's when the block is stored.
 */
#pragma once

#include "daemon/serve/pins.h"

struct admission {
	struct session *session;
	uint16_t ns;
	uint32_t device; /* that the bytes come from */
	const struct hbm_wire_block *wanted;

	/* the outcome */
	/* HBM_OK: the new block, which is being stored; HBM_EXISTS: the old one, which is durable
	 * now if the new one was to be */
	uint32_t number;
	struct pin *pin; /* HBM_OK: to be given to admit_end_pin(), or NULL */
	bool placed;     /* it went where its client wants it, which may have filled a tier */
};

/* Begins the store of a new block: HBM_OK, HBM_EXISTS, HBM_NO_PARENT, HBM_NO_SPACE, HBM_LIMIT;
 * HBM_NOT_FOUND: its namespace is being dropped. */
int admit_block(struct cache *cache, struct admission *admission);
/* The store has ended. Unless it has failed, or the session has ended, the pin is the session's
 * now. */
void admit_end_pin(struct cache *cache, struct session *session, struct pin *pin, bool stored);
