/* SPDX-License-Identifier: Apache-2.0 */
/* attack: see attack.h. */
#include "tests/support/attack.h"

#include <string.h>

const struct attack *attack_at(unsigned n)
{
	const struct attack *const lists[] = {attacks_with_keys, attacks_with_blocks,
					      attacks_with_sessions};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (const struct attack *attack = lists[i]; attack->name; attack++)
			if (n-- == 0)
				return attack;

	return NULL;
}

const struct attack *attack_find(const char *name)
{
	const struct attack *attack;

	for (unsigned n = 0; (attack = attack_at(n)) != NULL; n++)
		if (strcmp(attack->name, name) == 0)
			return attack;

	return NULL;
}
