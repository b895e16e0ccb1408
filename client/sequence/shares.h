/* SPDX-License-Identifier: Apache-2.0 */
/* shares: the shares of a request in the making, as ranges.h has its ranges. */
#pragma once

#include <hbm/hbm.h>

struct shares {
	struct hbm_share *list;
	size_t count, room;
	uint64_t slabs; /* counted by who adds */
	bool failed;    /* there was no memory for one: the request must not be sent */
};

void hbm_shares_begin(struct shares *shares);
/* Adds a share; joins it to the last one where both of its ranges go on. */
void hbm_shares_add(struct shares *shares, const struct hbm_share *share);
void hbm_shares_clear(struct shares *shares);
