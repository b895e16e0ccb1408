/* SPDX-License-Identifier: Apache-2.0 */
/* uses: see uses.h. */
#include "client/sequence/uses.h"

#include <stdlib.h>
#include <string.h>

static struct use *uses_find(const struct uses *uses, const hbm_key *key)
{
	for (size_t i = 0; i < uses->count; i++)
		if (memcmp(&uses->list[i].key, key, sizeof(*key)) == 0)
			return &uses->list[i];

	return NULL;
}

static bool uses_grow(struct uses *uses)
{
	const size_t room = uses->room ? 2 * uses->room : 16;
	struct use *list;

	if (uses->count < uses->room)
		return true;
	list = reallocarray(uses->list, room, sizeof(*list));
	if (!list)
		return false;
	uses->list = list;
	uses->room = room;

	return true;
}

void hbm_uses_add(struct uses *uses, const hbm_key *key)
{
	struct use *use = uses_find(uses, key);

	if (use)
		use->count++;
	else if (uses_grow(uses))
		uses->list[uses->count++] = (struct use){*key, 1};
}

uint64_t hbm_uses_of(const struct uses *uses, const hbm_key *key)
{
	const struct use *use = uses_find(uses, key);

	return use ? use->count : 0;
}

void hbm_uses_clear(struct uses *uses)
{
	free(uses->list);
	*uses = (struct uses){0};
}
