/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replicate: makes a replica of a block for lending (lend.h): allocates its memory, and loads
 * the block's bytes into it as into a client's, from wherever they are. The block stays there.
 */
#pragma once

#include "daemon/move/mover.h"
#include "daemon/region/lend.h"

/* Makes a replica that is not there yet, with a hold for the caller: HBM_OK, and its `waits`
 * are told when it is ready or has failed, never from within. HBM_MISS: the block cannot be
 * read. HBM_NO_SPACE, HBM_LIMIT: see replica_new(). */
int replicate(struct replica **out, struct mover *mover, struct lend *lend,
	      const struct replica_form *form, struct holder *holder, struct fair_payer payer);
/* The memory that one takes until then. */
uint64_t replicate_bytes(void);
