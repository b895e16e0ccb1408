/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decommit: gives the memory of committed slots back, all or none. From the moment it is
 * made no transfer can start to use those slots; it begins when none uses their regions
 * any more, and then it cannot fail: what the device refuses to unmap stays out of use
 * and quarantined, but the client's promise is over.
 *
 * A region that is never without a transfer under way keeps a decommit waiting.
 */
#pragma once

#include "daemon/region/region.h"

/* HBM_OK, and done() will be called on the loop thread with HBM_OK, maybe at once; or a
 * refusal (claim.h). */
int decommit_start(struct regions *regions, const struct hbm_wire_range *ranges, uint32_t count,
		   void (*done)(void *arg, int status), void *arg);
