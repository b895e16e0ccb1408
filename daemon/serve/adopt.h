/* SPDX-License-Identifier: Apache-2.0 */
/* adopt: blocks that are lent as their client has stored them: the slabs of its region become
 * a replica, without a copy. */
#pragma once

#include "daemon/region/lend.h"
#include "daemon/region/region.h"
#include "daemon/session/session.h"

/* Lends a block that has just been stored from these segments, which are in use, each of a
 * region. Nothing happens where they are no whole slabs of one size, or there is no room. */
void adopt_block(struct session *session, struct lend *lend, uint32_t number,
		 struct region *const *regions, const struct hbm_wire_range *segments,
		 uint32_t count);
