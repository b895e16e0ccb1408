/* SPDX-License-Identifier: Apache-2.0 */
/* uses: how often the sequences of a pool have mapped each module. */
#pragma once

#include <hbm/hbm.h>

struct use {
	hbm_key key; /* of schema and name */
	uint64_t count;
};

struct uses {
	struct use *list;
	size_t count, room;
};

/* One more; without memory for a new one it is not counted. */
void hbm_uses_add(struct uses *uses, const hbm_key *key);
uint64_t hbm_uses_of(const struct uses *uses, const hbm_key *key);
void hbm_uses_clear(struct uses *uses);
