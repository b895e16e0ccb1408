/* SPDX-License-Identifier: Apache-2.0 */
/* slot_tally: what slot_recount.h counts with. slot.c tells it of changes. */
#pragma once

#include "daemon/base/tally.h"

/* A pool's; embedded, does not move. */
struct slot_recount {
	struct tally regions; /* struct region */
	uint64_t passed;      /* slots of the next region that have been */
	uint64_t backed,
		lent; /* bytes of the slots that have been: by slabs that are not lent, or are */
};
