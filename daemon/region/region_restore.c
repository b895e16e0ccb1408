/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_restore: see region_restore.h. Promises come first, then who pays for which slab, then
 * regions, and the slots of publications before those of sessions: their slabs are the
 * publications' that way, as they were. A record that stands for nothing any more is dropped.
 */
#include "daemon/region/region_restore.h"

#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/ledger/tenant.h"
#include "daemon/region/mapping.h"
#include "daemon/region/publication.h"
#include "daemon/region/region.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"

struct restoring {
	const struct region_restore *form;
	struct state *state;
	struct region_restored done;
	uint64_t found; /* the session that was looked for last, */
	struct regions *found_regions;
};

static struct device *region_restore_device(struct restoring *restoring, const uint8_t uuid[16])
{
	struct device *device;

	for (uint32_t i = 0; (device = devices_nth(restoring->form->devices, i)); i++)
		if (memcmp(device->uuid.bytes, uuid, 16) == 0)
			return device;

	return NULL;
}

static struct regions *region_restore_find(struct restoring *restoring, uint64_t session)
{
	const struct region_restore *form = restoring->form;

	if (session == 0)
		return &form->publications->regions;
	if (session != restoring->found)
		restoring->found_regions = form->find(form->arg, session);
	restoring->found = session;

	return restoring->found_regions;
}

/* ---- Promises, and who pays for slabs ---- */

static bool region_restore_promise(struct restoring *restoring, uint32_t record)
{
	const struct kept_reservation *kept = state_body(restoring->state, STATE_RESERVED, record);
	struct device *device = region_restore_device(restoring, kept->uuid);
	struct regions *regions =
		kept->session != 0 ? region_restore_find(restoring, kept->session) : NULL;
	struct promise *promise = device && regions ? promise_new(slabs_promises(device->slabs),
								  device->index, regions->user)
						    : NULL;
	if (!promise)
		return false;

	promise->kept = record + 1;
	list_push_back(&regions->promises, &promise->by_session);

	return true;
}

/* Where there is less memory than there was, a reservation may be lost. */
static void region_restore_reservation(struct restoring *restoring, uint32_t record)
{
	const struct kept_reservation *kept = state_body(restoring->state, STATE_RESERVED, record);
	struct device *device = region_restore_device(restoring, kept->uuid);
	struct regions *regions = region_restore_find(restoring, kept->session);
	struct promise *promise = regions_promise(regions, device);
	uint64_t bytes = state_word(restoring->state, STATE_RESERVED, record);

	if (promise && bytes > 0 && !slabs_reserve(device->slabs, promise, regions->payer, bytes))
		log_warning("device %u: %llu bytes that session %llu had reserved are not there "
			    "any more",
			    device->index, (unsigned long long)bytes,
			    (unsigned long long)kept->session);
}

static void region_restore_payer(struct restoring *restoring, struct device *device,
				 struct slab *slab)
{
	uint32_t record = slab->kept - 1;
	const struct kept_slab *kept = state_body(restoring->state, STATE_SLABS, record);
	uint64_t word = state_word(restoring->state, STATE_SLABS, record);
	uint64_t session = word != 0 ? word & ~KEPT_HELD : kept->session;
	struct regions *regions = session != 0 ? region_restore_find(restoring, session) : NULL;

	if (regions)
		slab_adopt_for(slab, regions_promise(regions, device), &regions->holder);
}

static void region_restore_payers(struct restoring *restoring)
{
	struct device *device;

	for (uint32_t i = 0; (device = devices_nth(restoring->form->devices, i)); i++) {
		struct slab *slab;

		for (size_t n = 0; (slab = slabs_nth_adopted(device->slabs, n)); n++)
			region_restore_payer(restoring, device, slab);
	}
}

/* ---- Regions ---- */

static struct publication *region_restore_attached(struct restoring *restoring, uint32_t region)
{
	list_for_each (node, &restoring->form->publications->all) {
		struct publication *publication = container_of(node, struct publication, link);
		if (publication->region->id == region)
			return publication;
	}

	return NULL;
}

/* Without a session's address space. */
static struct region *region_restore_new(const struct kept_region *kept, struct regions *regions,
					 struct device *device, uint32_t record)
{
	bool fits = kept->guest != 0
			    ? kept->slab == kept->address_space
			    : slabs_is_size(kept->slab) && kept->address_space % kept->slab == 0;
	if (!fits || kept->address_space == 0 || kept->address_space > KEPT_ADDRESS_SPACE)
		return NULL;

	struct region *region = region_new(regions, device, kept->address_space, kept->slab);
	if (!region)
		return NULL;

	region->id = kept->region;
	region->kept = record + 1;

	return region;
}

/* Its client may have freed the memory meanwhile. */
static bool region_restore_guest(struct restoring *restoring, struct region *region,
				 const struct kept_region *kept)
{
	struct guest *guest = &region->guest;
	bool by_descriptor = kept->guest == HBM_WIRE_GUEST_FD;

	*guest = (struct guest){
		.kind = kept->guest,
		.fd = by_descriptor ? region_kept_claim_guest(restoring->form->kept, region->kept)
				    : -1,
		.device = region->device,
		.bytes = region->address_space};
	memcpy(&guest->handle, kept->handle, sizeof(guest->handle));
	list_init(&guest->link);
	if (by_descriptor && guest->fd < 0)
		return false;

	guest_open(guest);
	if (guest->fd >= 0)
		close(guest->fd);
	guest->fd = -1;
	region->address = guest->address;

	char why[HBM_WIRE_REASON_BYTES];
	return guest_outcome(guest, &(struct reason){why, sizeof(why)}) == HBM_OK;
}

static bool region_restore_address(struct region *region)
{
	CUresult result = region->device->driver->cuMemAddressReserve(
		&region->address, region->address_space, 0, 0, 0);
	if (result == CUDA_SUCCESS)
		return true;

	device_failed(region->device, "cuMemAddressReserve", result);

	return false;
}

static bool region_restore_region(struct restoring *restoring, uint32_t record)
{
	const struct kept_region *kept = state_body(restoring->state, STATE_REGIONS, record);
	struct device *device = region_restore_device(restoring, kept->uuid);
	struct regions *regions = region_restore_find(restoring, kept->session);
	struct publication *attached =
		kept->attached != 0 ? region_restore_attached(restoring, kept->attached) : NULL;
	if (!device || !regions || region_find(regions, kept->region) ||
	    (kept->attached != 0 && (!attached || kept->guest != 0)))
		return false;

	struct region *region = region_restore_new(kept, regions, device, record);
	if (!region)
		return false;
	bool opened = kept->guest != 0 ? region_restore_guest(restoring, region, kept)
				       : region_restore_address(region);
	if (!opened) {
		region_kept_drop_guest(restoring->form->kept, region->kept);
		region->kept = 0;
		region_discard(region);
		return false;
	}

	ledger_charge_always(&region->count_charge, regions->payer, LEDGER_REGIONS, 1);
	ledger_charge_always(&region->address_charge, regions->payer, LEDGER_ADDRESS_SPACE,
			     region->address_space);
	list_push_back(&regions->by_id[region->id % REGION_BUCKETS], &region->by_id);
	region->attached = attached;
	region->attached_read_only = kept->read_only;
	if (attached)
		attached->attached++;

	return true;
}

static void region_restore_regions(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_REGIONS, i)) != STATE_NONE; i++) {
		const struct kept_region *kept = state_body(state, STATE_REGIONS, i);
		if (kept->session == 0)
			continue;

		if (region_restore_region(restoring, i)) {
			restoring->done.regions++;
			continue;
		}

		restoring->done.lost += region_restore_find(restoring, kept->session) != NULL;
		state_drop(state, STATE_REGIONS, i);
	}
}

/* ---- Slots ---- */

static struct region *region_restore_region_of(struct restoring *restoring,
					       const struct kept_slot *kept)
{
	struct regions *regions = region_restore_find(restoring, kept->session);
	if (!regions)
		return NULL;
	if (kept->session != 0)
		return region_find(regions, kept->region);

	list_for_each (node, &regions->all) {
		struct region *region = container_of(node, struct region, link);
		if (region->id == kept->region)
			return region;
	}

	return NULL;
}

/* A lent slab may be in slots of several sessions, so it is none's alone. */
static void region_restore_lent(struct restoring *restoring, struct slab *slab)
{
	*slab->leased -= slab->bytes;
	slab->leased = &restoring->form->publications->regions.leased;
	*slab->leased += slab->bytes;
}

/* Who is charged for what is held of it later: the only session that has it in slots, as the others
 * may outlive that one. A publication sees to it itself, when it is closed. */
static void region_restore_holder(const struct region *region, struct slab *slab)
{
	struct holder *holder = &region->regions->holder;

	if (region->session == 0)
		return;
	if (!slab->placed)
		slab->part.holder = holder;
	else if (slab->part.holder != holder)
		slab->part.holder = NULL;
}

static bool region_restore_slot(struct restoring *restoring, uint32_t record)
{
	const struct kept_slot *kept = state_body(restoring->state, STATE_SLOTS, record);
	struct region *region = region_restore_region_of(restoring, kept);
	struct slab *slab = region ? slabs_find_adopted(region->device->slabs, kept->slab) : NULL;
	if (!slab || region_is_guest(region) || slab->bytes != region->slab ||
	    kept->slot >= region->slot_count || region->slots[kept->slot].slab ||
	    (kept->session == 0 && slab->placed)) /* it is published once */
		return false;

	region_restore_holder(region, slab);
	if (slab->placed)
		slot_share(region, kept->slot, slab, false);
	else
		slot_fill(region, kept->slot, slab);
	if (kept->flags & KEPT_LENT && slab->slots == 1)
		region_restore_lent(restoring, slab);
	slab->borrowed |= (kept->flags & KEPT_LENT) != 0;

	region->slots[kept->slot].read_only = kept->flags != 0;
	region->slots[kept->slot].kept = record + 1;
	region->committed += region->slab;

	return true;
}

static void region_restore_slots(struct restoring *restoring, bool of_publications)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_SLOTS, i)) != STATE_NONE; i++) {
		const struct kept_slot *kept = state_body(state, STATE_SLOTS, i);
		if ((kept->session == 0) != of_publications)
			continue;

		if (region_restore_slot(restoring, i))
			restoring->done.slots += !of_publications;
		else
			state_drop(state, STATE_SLOTS, i);
	}
}

/* ---- Publications ---- */

/* Their regions, of which those without a record of a publication are dropped again. */
static void region_restore_publication_regions(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_REGIONS, i)) != STATE_NONE; i++) {
		const struct kept_region *kept = state_body(state, STATE_REGIONS, i);
		struct device *device = region_restore_device(restoring, kept->uuid);

		if (kept->session == 0 &&
		    (!device ||
		     !region_restore_new(kept, &restoring->form->publications->regions, device, i)))
			state_drop(state, STATE_REGIONS, i);
	}
}

static bool region_restore_publication(struct restoring *restoring, uint32_t record)
{
	const struct kept_publication *kept =
		state_body(restoring->state, STATE_PUBLICATIONS, record);
	struct publications *publications = restoring->form->publications;
	struct region *region =
		region_restore_region_of(restoring, &(struct kept_slot){.region = kept->region});
	if (!region || region->publication || region->committed != region->address_space)
		return false;

	const struct publication_form form = {
		.name = kept->name,
		.uid = kept->uid,
		.tenant = kept->tenant[0] != '\0' ? tenant_find(publications->ledger, kept->tenant)
						  : NULL,
		.for_group = kept->flags & KEPT_FOR_GROUP,
		.gid = kept->gid,
		.region = region,
	};
	struct publication *publication = publication_restore(publications, &form);
	if (!publication)
		return false;

	publication->was_for_group = kept->flags & KEPT_WAS_FOR_GROUP;
	publication->withdrawn = state_word(restoring->state, STATE_PUBLICATIONS, record) != 0 ||
				 (kept->tenant[0] != '\0' && !form.tenant);
	publication->kept = record + 1;

	return true;
}

static void region_restore_publications(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_PUBLICATIONS, i)) != STATE_NONE; i++) {
		if (region_restore_publication(restoring, i))
			restoring->done.publications++;
		else
			state_drop(state, STATE_PUBLICATIONS, i);
	}
}

/* Of publications that have not come back. When the slots of sessions have what they share. */
static void region_restore_discard(struct restoring *restoring)
{
	list_for_each_safe (node, after, &restoring->form->publications->regions.all) {
		struct region *region = container_of(node, struct region, link);
		if (region->publication)
			continue;

		for (uint64_t i = 0; (i = slot_next_backed(region, i)) < region->slot_count; i++)
			slot_empty(region, i, false);
		region_discard(region);
	}
}

/* ---- Mapping ---- */

/* What cannot be mapped is the client's still, as long as that lives: it is held. */
static void region_restore_give_up(struct region *region)
{
	for (uint64_t i = 0; (i = slot_next_backed(region, i)) < region->slot_count; i++)
		slot_empty(region, i, false);
	device_unreserve(region->device, region->address, region->address_space);
	list_remove(&region->by_id);
	list_init(&region->by_id);
	region_discard(region);
}

static bool region_restore_run(struct region *region, uint64_t first, uint64_t count)
{
	const struct slot_run run = {.region = region, .first = first, .count = count};
	struct mapping mapping = {.device = region->device, .runs = &run, .run_count = 1};

	mapping_map_now(&mapping);
	if (mapping.result != CUDA_SUCCESS)
		device_failed(region->device, mapping.call, mapping.result);

	return mapping.result == CUDA_SUCCESS;
}

static void region_restore_unmap(struct region *region, uint64_t end)
{
	for (uint64_t i = 0; (i = slot_next_backed(region, i)) < end; i++)
		if (device_unmap(region->device, region->address + i * region->slab,
				 region->slab) != CUDA_SUCCESS)
			region->slots[i].slab->stuck = true;
}

static bool region_restore_map(struct region *region)
{
	uint64_t first = 0;

	while ((first = slot_next_backed(region, first)) < region->slot_count) {
		uint64_t count = 1;
		while (first + count < region->slot_count && region->slots[first + count].slab)
			count++;

		if (!region_restore_run(region, first, count)) {
			region_restore_unmap(region, first);
			return false;
		}
		first += count;
	}

	return true;
}

static void region_restore_maps(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_REGIONS, i)) != STATE_NONE; i++) {
		const struct kept_region *kept = state_body(state, STATE_REGIONS, i);
		struct region *region =
			kept->session == 0
				? NULL
				: region_find(region_restore_find(restoring, kept->session),
					      kept->region);
		if (!region || region_restore_map(region))
			continue;

		restoring->done.regions--;
		restoring->done.lost++;
		region_restore_give_up(region);
	}
}

/* ---- All of it ---- */

static void region_restore_promises(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_RESERVED, i)) != STATE_NONE; i++)
		if (!region_restore_promise(restoring, i))
			state_drop(state, STATE_RESERVED, i);
}

static void region_restore_reservations(struct restoring *restoring)
{
	struct state *state = restoring->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_RESERVED, i)) != STATE_NONE; i++)
		region_restore_reservation(restoring, i);
}

struct region_restored regions_restore(const struct region_restore *form)
{
	struct restoring restoring = {.form = form, .state = form->kept->state};

	regions_go_on(&form->publications->regions, form->kept);
	region_restore_promises(&restoring);
	region_restore_payers(&restoring);
	region_restore_publication_regions(&restoring);
	region_restore_slots(&restoring, true);
	region_restore_publications(&restoring);
	region_restore_regions(&restoring);
	region_restore_slots(&restoring, false);
	region_restore_discard(&restoring);
	region_restore_maps(&restoring);
	region_restore_reservations(&restoring);
	struct device *device;
	for (uint32_t i = 0; (device = devices_nth(form->devices, i)); i++)
		slabs_adopted(device->slabs);
	publications_restored(form->publications);

	return restoring.done;
}

void regions_go_on(struct regions *regions, const struct region_kept *kept)
{
	regions->last_id = (uint32_t)state_counter(kept->state, STATE_LAST_REGION);
	borrower_go_on(&regions->borrower, region_kept_starts(kept) << 40);
}
