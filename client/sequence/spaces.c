/* SPDX-License-Identifier: Apache-2.0 */
/* spaces: see spaces.h. */
#include "client/sequence/spaces.h"

void hbm_spaces_keep(struct spaces *spaces, struct hbm *hbm, uint32_t ns)
{
	for (uint32_t i = 0; i < SPACES_MAX; i++)
		if (spaces->list[i] == ns)
			return;

	uint32_t *oldest = &spaces->list[spaces->next++ % SPACES_MAX];

	if (*oldest)
		hbm_namespace_close(hbm, *oldest);
	*oldest = ns;
}

void hbm_spaces_close(struct spaces *spaces, struct hbm *hbm)
{
	for (uint32_t i = 0; i < SPACES_MAX; i++)
		if (spaces->list[i])
			hbm_namespace_close(hbm, spaces->list[i]);
	*spaces = (struct spaces){0};
}
