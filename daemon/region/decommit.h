/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decommit: frees the memory of committed slots, all or none. From the moment it is made
 * no transfer can start to use those slots. It starts when no transfer uses them any
 * longer, and then it cannot fail: slabs that cannot be unmapped are quarantined; the
 * client loses them either way.
 *
 * A decommit waits for as long as transfers keep using its slots.
 */
#pragma once

#include "daemon/region/region.h"

/* HBM_OK: done() will be called on the loop thread with HBM_OK, maybe from within.
 * Otherwise a refusal (claim.h). */
int decommit_start(struct regions *regions, const struct hbm_wire_range *ranges, uint32_t count,
		   void (*done)(void *arg, int status), void *arg);
/* The memory that a decommit of so many ranges takes. */
uint64_t decommit_bytes(uint32_t count);
