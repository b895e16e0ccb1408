/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/region_kept.h"

#include <string.h>

#include "daemon/ledger/ledger.h"

static struct state_shape region_kept_shape(size_t bytes, uint64_t capacity)
{
	return (struct state_shape){(uint32_t)bytes,
				    capacity < KEPT_MOST ? (uint32_t)capacity : KEPT_MOST};
}

void region_kept_shapes(const struct ledger *ledger, struct state_shape shapes[STATE_TABLES])
{
	const struct payer *host = &ledger->host;
	const uint64_t publications = ledger_limit(host, LEDGER_PUBLICATIONS);

	shapes[STATE_REGIONS] = region_kept_shape(
		sizeof(struct kept_region), ledger_limit(host, LEDGER_REGIONS) + publications);
	shapes[STATE_SLABS] = region_kept_shape(sizeof(struct kept_slab), KEPT_SLABS);
	shapes[STATE_SLOTS] = region_kept_shape(sizeof(struct kept_slot), KEPT_SLOTS);
	shapes[STATE_RESERVED] =
		region_kept_shape(sizeof(struct kept_reservation),
				  ledger_limit(host, LEDGER_SESSIONS) * HBM_WIRE_DEVICES_MAX);
	/* one more while one is replaced */
	shapes[STATE_PUBLICATIONS] =
		region_kept_shape(sizeof(struct kept_publication), publications + 1);
	shapes[STATE_DEVICES] = region_kept_shape(sizeof(struct kept_device), KEPT_DEVICES);
}

int region_kept_add(const struct region_kept *kept, enum state_table table, const void *body,
		    uint64_t word, uint32_t *member)
{
	if (!kept || !kept->state)
		return HBM_OK;

	uint32_t index = state_add(kept->state, table, body, word);
	if (index == STATE_NONE)
		return HBM_LIMIT;

	*member = index + 1;

	return HBM_OK;
}

static bool region_kept_parks(const struct region_kept *kept, uint32_t member)
{
	return kept && kept->state && kept->parking && member != 0;
}

int region_kept_park_guest(const struct region_kept *kept, uint32_t member, int fd)
{
	return !region_kept_parks(kept, member) ||
			       parking_put(kept->parking, parking_id(PARK_GUEST, member), fd) == 0
		       ? HBM_OK
		       : HBM_LIMIT;
}

int region_kept_claim_guest(const struct region_kept *kept, uint32_t member)
{
	return region_kept_parks(kept, member)
		       ? parking_claim(kept->parking, parking_id(PARK_GUEST, member))
		       : -1;
}

void region_kept_drop_guest(const struct region_kept *kept, uint32_t member)
{
	if (region_kept_parks(kept, member))
		parking_drop(kept->parking, parking_id(PARK_GUEST, member));
}

void region_kept_set(const struct region_kept *kept, enum state_table table, uint32_t member,
		     uint64_t word)
{
	if (kept && kept->state && member != 0)
		state_set_word(kept->state, table, member - 1, word);
}

uint64_t region_kept_word(const struct region_kept *kept, enum state_table table, uint32_t member)
{
	return kept && kept->state && member != 0 ? state_word(kept->state, table, member - 1) : 0;
}

void region_kept_find_device(const struct region_kept *kept, const struct kept_device *device,
			     uint32_t *member)
{
	*member = 0;
	if (!kept || !kept->state)
		return;

	for (uint32_t i = 0; (i = state_next(kept->state, STATE_DEVICES, i)) != STATE_NONE; i++) {
		if (memcmp(state_body(kept->state, STATE_DEVICES, i), device, sizeof(*device)) != 0)
			continue;

		*member = i + 1;
		return;
	}

	(void)region_kept_add(kept, STATE_DEVICES, device, 0, member);
}

void region_kept_drop(const struct region_kept *kept, enum state_table table, uint32_t *member)
{
	if (kept && kept->state && *member != 0)
		state_drop(kept->state, table, *member - 1);
	*member = 0;
}

uint64_t region_kept_starts(const struct region_kept *kept)
{
	return kept && kept->state ? state_counter(kept->state, STATE_STARTS) : 0;
}

void region_kept_number(const struct region_kept *kept, uint32_t region)
{
	if (kept && kept->state && state_counter(kept->state, STATE_LAST_REGION) < region)
		state_count_to(kept->state, STATE_LAST_REGION, region);
}
