/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab_adopt: how a pool begins with the slabs of an earlier daemon: region_kept.h. Each is
 * imported by its parked descriptor, leased and without a session until slab_adopt_for().
 * What was held is held, until the device shows that it is free: it has no descriptor any more.
 * So are what was being released in that moment, and what cannot be imported: a client may hold
 * it.
 */
#include "daemon/region/slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab_pool.h"

const struct region_kept *slabs_kept(const struct slabs *slabs)
{
	return slabs->kept;
}

/* ---- Keeping ---- */

/* Without a descriptor it makes one. */
static int slab_adopt_park(const struct slab *slab, int fd)
{
	const struct slabs *slabs = slab->slabs;
	uint64_t id = parking_id(PARK_SLAB, slab->id);
	int own = -1;

	if (fd >= 0)
		return parking_put(slabs->kept->parking, id, fd);
	if (slabs->device->driver->cuMemExportToShareableHandle(
		    &own, slab->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) !=
	    CUDA_SUCCESS)
		return -EIO;

	int r = parking_put(slabs->kept->parking, id, own);
	close(own);

	return r;
}

int slab_keep(struct slab *slab, int fd)
{
	const struct slabs *slabs = slab->slabs;
	const struct region_kept *kept = slabs->kept;
	if (!kept || !kept->state || slab->kept != 0)
		return HBM_OK;

	/* Who has had one that is in no slot, but lent, may be gone. */
	const struct holder *holder = slab->slots > 0 ? slab->part.holder : NULL;
	struct kept_slab body = {.bytes = slab->bytes, .session = holder ? holder->session : 0};

	slab->id = body.slab = state_counter(kept->state, STATE_LAST_SLAB) + 1;
	state_count_to(kept->state, STATE_LAST_SLAB, slab->id);
	memcpy(body.uuid, slabs->device->uuid.bytes, sizeof(body.uuid));
	if (slab_adopt_park(slab, fd) < 0)
		return HBM_LIMIT;

	int status = region_kept_add(kept, STATE_SLABS, &body, 0, &slab->kept);
	if (status != HBM_OK)
		parking_drop(kept->parking, parking_id(PARK_SLAB, slab->id));

	return status;
}

void slab_unpark(struct slab *slab)
{
	const struct region_kept *kept = slab->slabs->kept;
	uint64_t session = slab->part.holder ? slab->part.holder->session : 0;

	if (!kept || !kept->state || slab->kept == 0)
		return;

	region_kept_set(kept, STATE_SLABS, slab->kept, KEPT_HELD | session);
	parking_drop(kept->parking, parking_id(PARK_SLAB, slab->id));
}

void slab_unkeep(struct slab *slab)
{
	region_kept_drop(slab->slabs->kept, STATE_SLABS, &slab->kept);
}

/* ---- Adopting ---- */

/* The budget is for what there is. */
static void slab_adopt_room(struct slabs *slabs, uint64_t bytes)
{
	struct slabs_books *books = &slabs->books;

	if (books->uncreated < bytes) {
		books->budget += bytes - books->uncreated;
		books->uncreated = bytes;
	}

	books->uncreated -= bytes;
	promise_ask(&slabs->promises.unowned, bytes);
	promise_use(&slabs->promises.unowned, bytes);
}

static void slab_adopt_held(struct slabs *slabs, struct slab *slab)
{
	slab_adopt_room(slabs, slab->bytes);
	slabs->books.held += slab->bytes;
	slab->part.bytes = slab->bytes;
	held_adopt(&slabs->held, &slab->part);
}

static bool slab_adopt_import(struct slabs *slabs, struct slab *slab)
{
	const struct driver *driver = slabs->device->driver;
	int fd = parking_claim(slabs->kept->parking, parking_id(PARK_SLAB, slab->id));
	if (fd < 0)
		return false;

	CUresult result = driver->cuMemImportFromShareableHandle(
		&slab->handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	close(fd);
	if (result != CUDA_SUCCESS) {
		device_failed(slabs->device, "cuMemImportFromShareableHandle", result);
		parking_drop(slabs->kept->parking, parking_id(PARK_SLAB, slab->id));
		return false;
	}

	slabs->held.created += slab->bytes;
	slab_adopt_room(slabs, slab->bytes);
	slabs->books.leased += slab->bytes;
	slabs->unplaced += slab->bytes;
	slab->refs = 1;

	return true;
}

/* Whether it was not imported. NULL: no memory. */
static struct slab *slab_adopt(struct slabs *slabs, uint32_t record, bool *lost)
{
	struct state *state = slabs->kept->state;
	const struct kept_slab *kept = state_body(state, STATE_SLABS, record);
	bool held = state_word(state, STATE_SLABS, record) != 0;
	struct slab *slab = slab_new(slabs, kept->bytes);
	if (!slab)
		return NULL;

	slab->id = kept->slab;
	slab->kept = record + 1;
	slab->exported = true;
	slab->promise = &slabs->promises.unowned;
	*lost = !held && !slab_adopt_import(slabs, slab);
	if (*lost)
		region_kept_set(slabs->kept, STATE_SLABS, slab->kept, KEPT_HELD | kept->session);
	if (*lost || held)
		slab_adopt_held(slabs, slab);

	return slab;
}

static bool slab_adopt_is_of(const struct slabs *slabs, const struct kept_slab *kept)
{
	return memcmp(kept->uuid, slabs->device->uuid.bytes, sizeof(kept->uuid)) == 0;
}

static int slab_adopt_compare(const void *left, const void *right)
{
	const struct slab *a = *(struct slab *const *)left, *b = *(struct slab *const *)right;

	return (a->id > b->id) - (a->id < b->id);
}

int slab_adopt_all(struct slabs *slabs)
{
	struct state *state = slabs->kept ? slabs->kept->state : NULL;
	uint64_t budget = slabs->books.budget, lost = 0;
	uint32_t count = state ? state_count(state, STATE_SLABS) : 0;
	bool is_lost = false;
	if (count == 0)
		return 0;

	slabs->adopted = calloc(count, sizeof(struct slab *));
	if (!slabs->adopted)
		return -ENOMEM;

	for (uint32_t i = 0; (i = state_next(state, STATE_SLABS, i)) != STATE_NONE; i++) {
		const struct kept_slab *kept = state_body(state, STATE_SLABS, i);
		if (!slab_adopt_is_of(slabs, kept))
			continue;

		if (!slabs_is_size(kept->bytes)) {
			state_drop(state, STATE_SLABS, i);
			continue;
		}

		struct slab *slab = slab_adopt(slabs, i, &is_lost);
		if (!slab)
			return -ENOMEM;

		slabs->adopted[slabs->adopted_count++] = slab;
		lost += is_lost;
	}

	qsort(slabs->adopted, slabs->adopted_count, sizeof(struct slab *), slab_adopt_compare);
	if (lost > 0)
		log_warning("device %u: %llu slabs of the daemon before cannot be imported: their "
			    "clients hold them",
			    slabs->device->index, (unsigned long long)lost);
	if (slabs->books.budget > budget)
		log_warning("device %u: clients have %llu MiB more than device.memory has for "
			    "regions",
			    slabs->device->index,
			    (unsigned long long)((slabs->books.budget - budget) >> 20));

	return 0;
}

struct slab *slabs_nth_adopted(const struct slabs *slabs, size_t n)
{
	return n < slabs->adopted_count ? slabs->adopted[n] : NULL;
}

struct slab *slabs_find_adopted(const struct slabs *slabs, uint64_t id)
{
	struct slab wanted = {.id = id};
	const struct slab *key = &wanted;
	struct slab **found = slabs->adopted_count == 0
				      ? NULL
				      : bsearch(&key, slabs->adopted, slabs->adopted_count,
						sizeof(struct slab *), slab_adopt_compare);

	return found && (*found)->refs > 0 ? *found : NULL;
}

void slab_adopt_for(struct slab *slab, struct promise *promise, struct holder *holder)
{
	if (promise && slab->promise != promise) {
		promise_ask(promise, slab->bytes);
		promise_use(promise, slab->bytes);
		promise_unuse(slab->promise, slab->bytes);
		slab->promise = promise;
	}

	if (slab->refs > 0)
		slab->part.holder = holder;
	else if (holder)
		held_charge(&slab->part, holder);
}

void slabs_adopted(struct slabs *slabs)
{
	for (size_t i = 0; i < slabs->adopted_count; i++)
		if (slabs->adopted[i]->refs > 0 && !slabs->adopted[i]->placed)
			slab_unref(slabs->adopted[i], false);

	free(slabs->adopted);
	slabs->adopted = NULL;
	slabs->adopted_count = 0;
}
