/* SPDX-License-Identifier: Apache-2.0 */
/* hbm_kept: see hbm_kept.h. Records go before descriptors, and descriptors come before records: a
 * daemon that is killed between leaves a descriptor without a record, which the next one lets
 * go. */
#include "daemon/tier/hbm_kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/device/device.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"

#define NUMBERS (UINT64_C(1) << 48) /* of pieces */

static const struct hbm_kept_record *hbm_kept_record(const struct state *state, uint32_t index)
{
	return state_body(state, STATE_TIER_PIECES, index);
}

/* By which a piece is parked; what is no number of one stands for none. */
static uint64_t hbm_kept_id(const struct hbm_kept_record *record)
{
	return parking_id(PARK_TIER, record->piece < NUMBERS ? record->piece : 0);
}

/* The record first: a piece without one is of no use to anyone. */
static void hbm_kept_forget(const struct hbm_kept_place *place, uint32_t index)
{
	uint64_t id = hbm_kept_id(hbm_kept_record(place->state, index));

	state_drop(place->state, STATE_TIER_PIECES, index);
	parking_drop(place->parking, id);
}

/* ---- what is there ---- */

static int hbm_kept_compare(const void *left, const void *right, void *arg)
{
	const struct state *state = arg;
	uint64_t one = hbm_kept_record(state, *(const uint32_t *)left)->offset,
		 other = hbm_kept_record(state, *(const uint32_t *)right)->offset;

	return (one > other) - (one < other);
}

static void hbm_kept_count_to(struct state *state, enum state_counter counter, uint64_t value)
{
	if (state_counter(state, counter) < value)
		state_count_to(state, counter, value);
}

/* The records of the device, from low to high: how many. No number of any is given again. */
static uint32_t hbm_kept_list(const struct hbm_kept *kept, uint32_t *list)
{
	struct state *state = kept->place.state;
	uint32_t count = 0;

	for (uint32_t i = 0; (i = state_next(state, STATE_TIER_PIECES, i)) != STATE_NONE; i++) {
		const struct hbm_kept_record *record = hbm_kept_record(state, i);

		if (record->piece < NUMBERS)
			hbm_kept_count_to(state, STATE_LAST_TIER_PIECE, record->piece);
		hbm_kept_count_to(state, STATE_LAST_TIER_MEMORY, record->number);
		if (memcmp(record->uuid, kept->device->uuid.bytes, sizeof(record->uuid)) == 0)
			list[count++] = i;
	}
	qsort_r(list, count, sizeof(*list), hbm_kept_compare, state);

	return count;
}

/* False: it is not the next one behind those that are taken over, or does not fit. */
static bool hbm_kept_claim(struct hbm_kept *kept, uint32_t index, uint64_t bytes)
{
	const struct hbm_kept_record *record = hbm_kept_record(kept->place.state, index);
	bool follows = record->offset == kept->before && record->number >= HBM_KEPT_FIRST &&
		       (kept->count == 0 || record->number == kept->number);
	bool fits = record->bytes > 0 && record->bytes % kept->device->granularity == 0 &&
		    record->bytes <= bytes - kept->before && kept->count < kept->room;
	if (kept->place.without || !follows || !fits)
		return false;

	int fd = parking_claim(kept->place.parking, hbm_kept_id(record));
	if (fd < 0)
		return false;

	kept->pieces[kept->count++] =
		(struct hbm_kept_piece){.record = index, .fd = fd, .bytes = record->bytes};
	kept->before += record->bytes;
	kept->number = record->number;

	return true;
}

static void hbm_kept_say(const struct hbm_kept *kept, uint64_t lost)
{
	unsigned index = kept->device->index;

	if (lost > 0 && kept->before > 0)
		log_notice("device %u: of the HBM tier of the daemon before %llu MiB are used, and "
			   "%llu are not: it had another size",
			   index, (unsigned long long)(kept->before >> 20),
			   (unsigned long long)(lost >> 20));
	else if (lost > 0)
		log_notice("device %u: the memory of the daemon before %s; the HBM tier begins "
			   "empty",
			   index,
			   kept->place.without ? "may have what is to be overwritten"
					       : "cannot be used");
}

static int hbm_kept_adopt(struct hbm_kept *kept, uint64_t bytes)
{
	struct state *state = kept->place.state;
	uint64_t lost = 0;
	uint32_t *list = calloc(state_count(state, STATE_TIER_PIECES) + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;

	uint32_t count = hbm_kept_list(kept, list), next = 0;
	while (next < count && hbm_kept_claim(kept, list[next], bytes))
		next++;
	for (; next < count; next++) {
		lost += hbm_kept_record(state, list[next])->bytes;
		hbm_kept_forget(&kept->place, list[next]);
	}

	free(list);
	kept->adopted = kept->count;
	hbm_kept_say(kept, lost);

	return 0;
}

/* A number that no memory has had; 0: there are no more. */
static uint32_t hbm_kept_new_number(struct state *state)
{
	hbm_kept_count_to(state, STATE_LAST_TIER_MEMORY, HBM_KEPT_FIRST - 1);

	uint64_t last = state_counter(state, STATE_LAST_TIER_MEMORY);
	if (last >= UINT32_MAX)
		return 0;

	state_count_to(state, STATE_LAST_TIER_MEMORY, last + 1);

	return (uint32_t)(last + 1);
}

int hbm_kept_open(struct hbm_kept *kept, const struct hbm_kept_place *place,
		  const struct device *device, uint64_t bytes, uint64_t room)
{
	*kept = (struct hbm_kept){.device = device,
				  .room = room < HBM_KEPT_PIECES ? (uint32_t)room
								 : HBM_KEPT_PIECES};
	if (!place->state)
		return 0;

	kept->place = *place;
	kept->pieces = calloc(kept->room, sizeof(*kept->pieces));
	int r = kept->pieces ? hbm_kept_adopt(kept, bytes) : -ENOMEM;
	if (r < 0) {
		hbm_kept_close(kept);
		return r;
	}

	if (kept->count == 0)
		kept->number = hbm_kept_new_number(place->state);

	return 0;
}

void hbm_kept_close(struct hbm_kept *kept)
{
	for (uint32_t i = kept->taken; i < kept->count; i++)
		if (kept->pieces[i].fd >= 0)
			close(kept->pieces[i].fd);
	free(kept->pieces);
	*kept = (struct hbm_kept){0};
}

uint64_t hbm_kept_take(struct hbm_kept *kept, int *fd)
{
	if (kept->taken == kept->count || kept->pieces[kept->taken].fd < 0)
		return 0;

	struct hbm_kept_piece *piece = &kept->pieces[kept->taken++];

	*fd = piece->fd;
	piece->fd = -1;

	return piece->bytes;
}

/* ---- what comes and goes ---- */

static int hbm_kept_park(struct hbm_kept *kept, uint64_t offset, uint64_t bytes, int fd)
{
	const struct hbm_kept_place *place = &kept->place;
	struct hbm_kept_record record = {
		.piece = state_counter(place->state, STATE_LAST_TIER_PIECE) + 1,
		.offset = offset,
		.bytes = bytes,
		.number = kept->number};
	uint64_t id = hbm_kept_id(&record);

	memcpy(record.uuid, kept->device->uuid.bytes, sizeof(record.uuid));
	state_count_to(place->state, STATE_LAST_TIER_PIECE, record.piece);
	int r = fd < 0                      ? -EMFILE
		: kept->count == kept->room ? -ENOSPC
					    : parking_put(place->parking, id, fd);
	if (r < 0)
		return r;

	uint32_t index = state_add(place->state, STATE_TIER_PIECES, &record, 0);
	if (index == STATE_NONE) {
		parking_drop(place->parking, id);
		return -ENOSPC;
	}

	kept->pieces[kept->count++] =
		(struct hbm_kept_piece){.record = index, .fd = -1, .bytes = bytes};
	kept->taken = kept->count;

	return 0;
}

void hbm_kept_add(struct hbm_kept *kept, uint64_t index, uint64_t offset, uint64_t bytes, int fd)
{
	if (kept->number == 0 || index != kept->count)
		return;

	int r = hbm_kept_park(kept, offset, bytes, fd);
	if (r < 0 && !kept->logged)
		log_warning("device %u: more than %llu MiB of the HBM tier cannot be kept: %s; the "
			    "rest of it begins empty after a restart",
			    kept->device->index, (unsigned long long)(offset >> 20), strerror(-r));
	kept->logged |= r < 0;
}

void hbm_kept_cut(struct hbm_kept *kept, uint64_t count)
{
	while (kept->count > count) {
		struct hbm_kept_piece *piece = &kept->pieces[--kept->count];

		hbm_kept_forget(&kept->place, piece->record);
		if (piece->fd >= 0)
			close(piece->fd);
		if (kept->count < kept->adopted) {
			kept->adopted = kept->count;
			kept->before -= piece->bytes;
		}
	}

	if (kept->taken > kept->count)
		kept->taken = kept->count;
}

/* ---- what is no one's ---- */

static bool hbm_kept_is_among(const uint32_t *numbers, uint32_t count, uint32_t number)
{
	for (uint32_t i = 0; i < count; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

void hbm_kept_let_go(const struct hbm_kept_place *place, const uint32_t *numbers, uint32_t count)
{
	struct state *state = place->state;

	for (uint32_t i = 0; state && (i = state_next(state, STATE_TIER_PIECES, i)) != STATE_NONE;
	     i++)
		if (!hbm_kept_is_among(numbers, count, hbm_kept_record(state, i)->number))
			hbm_kept_forget(place, i);
}
