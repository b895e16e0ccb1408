/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct spaces {
	uint64_t max, count;
	struct space list[]; /* [max + 1]; 0 is nobody */
};

int spaces_new(struct spaces **out, uint64_t max)
{
	if (max == 0 || max >= UINT16_MAX)
		return -EINVAL;
	struct spaces *spaces = calloc(1, sizeof(*spaces) + (max + 1) * sizeof(struct space));
	if (!spaces)
		return -ENOMEM;
	spaces->max = max;
	*out = spaces;
	return 0;
}

struct spaces *spaces_free(struct spaces *spaces)
{
	free(spaces);
	return NULL;
}

static void fill(struct space *space, const struct hbm_wire_namespace *spec)
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(spec, sizeof(*spec)));
	*space = (struct space){.used = true, .opens = 1, .spec = *spec, .block_bytes = spec->block_bytes};
	memcpy(space->fingerprint, canonical.digest, sizeof(space->fingerprint));
}

uint16_t spaces_open(struct spaces *spaces, const struct hbm_wire_namespace *spec)
{
	uint16_t vacant = 0;
	for (uint16_t i = 1; i <= spaces->max; i++) {
		struct space *space = &spaces->list[i];
		if (space->used && memcmp(&space->spec, spec, sizeof(*spec)) == 0) {
			space->opens++;
			return i;
		}
		if (!space->used && vacant == 0)
			vacant = i;
	}
	if (vacant != 0) {
		fill(&spaces->list[vacant], spec);
		spaces->count++;
	}
	return vacant;
}

static void forget_if_idle(struct spaces *spaces, struct space *space)
{
	if (space->opens == 0 && space->blocks == 0) {
		space->used = false;
		spaces->count--;
	}
}

void spaces_ref(struct spaces *spaces, uint16_t number)
{
	spaces->list[number].opens++;
}

void spaces_unref(struct spaces *spaces, uint16_t number)
{
	struct space *space = &spaces->list[number];
	assert(space->used && space->opens > 0);
	space->opens--;
	forget_if_idle(spaces, space);
}

struct space *spaces_get(struct spaces *spaces, uint32_t number)
{
	if (number == 0 || number > spaces->max || !spaces->list[number].used)
		return NULL;
	return &spaces->list[number];
}

void spaces_block_gone(struct spaces *spaces, uint16_t number)
{
	struct space *space = &spaces->list[number];
	assert(space->used && space->blocks > 0);
	space->blocks--;
	forget_if_idle(spaces, space);
}

uint64_t spaces_count(const struct spaces *spaces)
{
	return spaces->count;
}
