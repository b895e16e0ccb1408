/* SPDX-License-Identifier: Apache-2.0 */
/* publication: see publication.h. */
#include "daemon/region/publication.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"

/* A run of slots that is to be published. */
struct range {
	struct region *region;
	uint64_t first, count;
};

int publications_open(struct publications **out, struct ledger *ledger)
{
	struct publications *publications = calloc(1, sizeof(*publications));
	if (!publications)
		return -ENOMEM;

	publications->ledger = ledger;
	list_init(&publications->all);
	regions_init(&publications->regions, &ledger->host);
	*out = publications;

	return 0;
}

/* ---- Look up ---- */

static bool publication_is_of(const struct publication *publication, uid_t uid,
			      const struct tenant *tenant)
{
	return publication->user->uid == uid && publication->user->tenant == tenant;
}

struct publication *publication_find(const struct publications *publications, uid_t uid,
				     const struct tenant *tenant, const char *name)
{
	list_for_each (node, &publications->all) {
		struct publication *publication = container_of(node, struct publication, link);
		if (!publication->withdrawn && publication_is_of(publication, uid, tenant) &&
		    strcmp(publication->name, name) == 0)
			return publication;
	}

	return NULL;
}

uid_t publication_uid(const struct publication *publication)
{
	return publication->user->uid;
}

const struct publication *publication_bars_loan(const struct region *region, uint64_t offset,
						uint64_t bytes, const struct user *user)
{
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++) {
		const struct slab *slab = region->slots[i].slab;
		const struct publication *publication = slab ? slab->publication : NULL;

		if (publication && (publication->user != user || publication->was_for_group))
			return publication;
	}

	return NULL;
}

uint64_t publication_bytes(const struct publication *publication)
{
	return publication->region->address_space;
}

uint64_t publications_attached(const struct publications *publications, const struct device *device)
{
	uint64_t attached = 0;

	list_for_each (node, &publications->all) {
		const struct publication *publication =
			container_of(node, struct publication, link);
		if (publication->region->device == device)
			attached += publication->attached;
	}

	return attached;
}

uint32_t publications_records(const struct publications *publications, const struct user *user,
			      uint32_t from, struct hbm_wire_region *records, uint32_t room,
			      uint32_t *next)
{
	uint32_t count = 0;

	*next = 0;
	list_for_each (node, &publications->all) {
		const struct publication *publication =
			container_of(node, struct publication, link);
		if (publication->region->id < from || (user && publication->user != user))
			continue;

		if (count == room) {
			*next = publication->region->id;
			break;
		}

		struct hbm_wire_region *record = &records[count++];
		region_record(publication->region, record);
		record->attached = (uint32_t)publication->attached;
		record->uid = publication->user->uid;
		record->withdrawn = publication->withdrawn;
		strcpy(record->name, publication->name);
	}

	return count;
}

/* ---- What outlives the daemon ---- */

static const struct region_kept *publication_kept(const struct publication *publication)
{
	return slabs_kept(publication->region->device->slabs);
}

/* Writes its record, with its present name, in place of that it had: HBM_OK, HBM_LIMIT. */
static int publication_write(struct publication *publication)
{
	const struct region_kept *kept = publication_kept(publication);
	const struct tenant *tenant = publication->user->tenant;
	uint32_t before = publication->kept;
	struct kept_publication body = {
		.region = publication->region->id,
		.uid = publication->user->uid,
		.gid = publication->gid,
		.flags = (publication->for_group ? KEPT_FOR_GROUP : 0) |
			 (publication->was_for_group ? KEPT_WAS_FOR_GROUP : 0),
	};

	strcpy(body.name, publication->name);
	if (tenant)
		strcpy(body.tenant, tenant->rule.name);
	int status = region_kept_add(kept, STATE_PUBLICATIONS, &body, publication->withdrawn,
				     &publication->kept);
	if (status == HBM_OK)
		region_kept_drop(kept, STATE_PUBLICATIONS, &before);

	return status;
}

/* ---- The end ---- */

static void publication_close(struct publication *publication)
{
	struct region *region = publication->region;

	assert(publication->withdrawn && publication->attached == 0 && region->shared == 0);

	region_kept_drop(publication_kept(publication), STATE_PUBLICATIONS, &publication->kept);
	for (uint64_t i = 0; i < region->slot_count; i++) {
		struct slab *slab = region->slots[i].slab;

		slab->publication = NULL;
		if (slab->refs == 1)
			slab->part.holder = publication->last ? &publication->last->holder : NULL;
		slot_empty(region, i, false);
	}

	list_remove(&publication->by_regions);
	list_remove(&publication->link);
	region->publication = NULL;
	region_discard(region);
	ledger_release(&publication->bytes_charge);
	ledger_release(&publication->count_charge);
	user_close(publication->user);
	free(publication);
}

/* Who did last, and is connected, is charged for what is held of it in the end. */
static void publication_given_back(struct publication *publication, struct regions *regions)
{
	if (regions->ended)
		return;

	list_remove(&publication->by_regions);
	list_push_back(&regions->gave_back, &publication->by_regions);
	publication->last = regions;
}

static void publication_settle(struct publication *publication)
{
	if (publication->withdrawn && publication->attached == 0 &&
	    publication->region->shared == 0)
		publication_close(publication);
}

void publication_withdraw(struct publication *publication)
{
	publication->withdrawn = true;
	region_kept_set(publication_kept(publication), STATE_PUBLICATIONS, publication->kept, 1);
	publication_settle(publication);
}

struct publications *publications_close(struct publications *publications)
{
	if (!publications)
		return NULL;

	while (!list_empty(&publications->all))
		publication_withdraw(
			container_of(publications->all.next, struct publication, link));
	free(publications);

	return NULL;
}

/* ---- Publishing ---- */

static int publication_check_slot(const struct slot *slot, bool for_group, const struct reason *why)
{
	if (!slot->slab || slot->claim)
		return reason_set(why, HBM_NOT_FOUND, "the range is not committed");
	if (slot->read_only)
		return reason_set(why, HBM_DENIED, "part of the range is read-only here");
	if (slot->slab->stuck)
		return reason_set(why, HBM_DEVICE, "part of the range cannot be mapped again");
	if (for_group && slot->slab->lent)
		return reason_set(why, HBM_DENIED,
				  "part of the range is lent, and a group could write to it");

	return HBM_OK;
}

static int publication_check_range(struct range *range, const struct publication_form *form,
				   const struct reason *why)
{
	struct region *region = form->region;
	uint64_t offset = form->offset, bytes = form->bytes;
	int status = HBM_OK;

	if (region_is_guest(region))
		return reason_set(why, HBM_UNSUPPORTED,
				  "the region is a guest region, whose memory is its client's");
	if (!is_aligned(offset, region->slab) || !is_aligned(bytes, region->slab) ||
	    !checked_range(offset, bytes, region->address_space))
		return reason_set(why, HBM_INVALID,
				  "%llu bytes at %llu are not slabs of %llu bytes within %llu",
				  (unsigned long long)bytes, (unsigned long long)offset,
				  (unsigned long long)region->slab,
				  (unsigned long long)region->address_space);

	*range = (struct range){region, offset / region->slab, bytes / region->slab};
	for (uint64_t i = 0; status == HBM_OK && i < range->count; i++)
		status = publication_check_slot(&region->slots[range->first + i], form->for_group,
						why);

	return status;
}

/* The withdrawn one of that user which has just these slabs. */
static struct publication *publication_to_renew(const struct range *range,
						const struct publication_form *form)
{
	const struct slot *slots = &range->region->slots[range->first];
	struct publication *publication = slots[0].slab->publication;

	if (!publication || !publication->withdrawn ||
	    !publication_is_of(publication, form->uid, form->tenant) ||
	    publication->region->slot_count != range->count)
		return NULL;

	for (uint64_t i = 0; i < range->count; i++)
		if (publication->region->slots[i].slab != slots[i].slab)
			return NULL;

	return publication;
}

static int publication_charge(struct publication *publication, uint64_t bytes,
			      const struct reason *why)
{
	struct payer *payer = &publication->user->payer;
	char text[HBM_WIRE_REASON_BYTES];

	if (ledger_charge(&publication->count_charge, payer, LEDGER_PUBLICATIONS, 1) != HBM_OK) {
		ledger_reason(payer, LEDGER_PUBLICATIONS, 1, text, sizeof(text));
		return reason_set(why, HBM_LIMIT, "%s", text);
	}

	if (ledger_charge(&publication->bytes_charge, payer, LEDGER_PUBLISHED, bytes) != HBM_OK) {
		ledger_reason(payer, LEDGER_PUBLISHED, bytes, text, sizeof(text));
		return reason_set(why, HBM_LIMIT, "%s", text);
	}

	return HBM_OK;
}

static void publication_free(struct publication *publication)
{
	if (publication->region)
		region_discard(publication->region);
	ledger_release(&publication->bytes_charge);
	ledger_release(&publication->count_charge);
	user_close(publication->user);
	free(publication);
}

/* Of that user, in no list, and neither charged nor with a region. NULL: no memory. */
static struct publication *publication_alloc(struct publications *publications,
					     const struct publication_form *form)
{
	struct publication *publication = calloc(1, sizeof(*publication));
	struct user *user =
		publication ? user_open_of(publications->ledger, form->uid, form->tenant) : NULL;
	if (!user) {
		free(publication);
		return NULL;
	}

	publication->settle = publication_settle;
	publication->given_back = publication_given_back;
	publication->user = user;
	list_init(&publication->link);
	list_init(&publication->by_regions);

	return publication;
}

/* Charged, in no list, without slabs. */
static int publication_make(struct publication **out, struct publications *publications,
			    const struct publication_form *form, const struct range *range,
			    const struct reason *why)
{
	struct publication *publication = publication_alloc(publications, form);
	uint64_t slab = range->region->slab;
	if (!publication)
		return reason_set(why, HBM_NO_SPACE, "the daemon is out of memory");

	int status = publication_charge(publication, range->count * slab, why);
	if (status == HBM_OK) {
		publication->region = region_new(&publications->regions, range->region->device,
						 range->count * slab, slab);
		if (!publication->region)
			status = reason_set(why, HBM_NO_SPACE, "the daemon is out of memory");
	}

	if (status == HBM_OK)
		*out = publication;
	else
		publication_free(publication);

	return status;
}

/* Marks the slabs as its own, each of which is in no publication, and once in the range. */
static int publication_mark(struct publication *publication, const struct range *range,
			    const struct reason *why)
{
	const struct slot *slots = &range->region->slots[range->first];
	uint64_t i = 0;

	while (i < range->count && !slots[i].slab->publication)
		slots[i++].slab->publication = publication;
	if (i == range->count)
		return HBM_OK;

	bool twice = slots[i].slab->publication == publication;
	while (i > 0)
		slots[--i].slab->publication = NULL;

	return twice ? reason_set(why, HBM_INVALID, "a slab is in the range twice, by a share")
		     : reason_set(why, HBM_EXISTS, "part of the range is published already");
}

/* Whether all of it outlives the daemon from now on; the region and its slots are kept before
 * they are filled. */
static int publication_keep(struct publication *publication, const struct range *range,
			    const struct reason *why)
{
	struct region *region = publication->region;
	int status = region_write(region);

	for (uint64_t i = 0; status == HBM_OK && i < range->count; i++)
		status = slot_keep(region, i, range->region->slots[range->first + i].slab, -1);
	if (status == HBM_OK)
		status = publication_write(publication);
	if (status == HBM_OK)
		return HBM_OK;

	for (uint64_t i = 0; i < range->count; i++) {
		range->region->slots[range->first + i].slab->publication = NULL;
		slot_unkeep(region, i);
	}

	return reason_set(why, status, "the daemon's state is full");
}

/* From now on its slabs count as the publications'. */
static void publication_fill(struct publication *publication, const struct range *range)
{
	struct region *region = publication->region;

	for (uint64_t i = 0; i < range->count; i++) {
		struct slab *slab = range->region->slots[range->first + i].slab;

		*slab->leased -= slab->bytes;
		slab->leased = region->leased;
		*slab->leased += slab->bytes;
		slot_share(region, i, slab, false);
	}

	region->committed = region->address_space;
	region->publication = publication;
}

static void publication_name(struct publication *publication, const struct publication_form *form)
{
	snprintf(publication->name, sizeof(publication->name), "%s", form->name);
	publication->for_group = form->for_group;
	publication->was_for_group |= form->for_group;
	publication->gid = form->gid;
	publication->withdrawn = false;
}

static int publication_add(struct publications *publications, const struct publication_form *form,
			   const struct range *range, const struct reason *why)
{
	struct publication *publication = NULL;
	int status = publication_make(&publication, publications, form, range, why);
	if (status != HBM_OK)
		return status;

	publication_name(publication, form);
	status = publication_mark(publication, range, why);
	if (status == HBM_OK)
		status = publication_keep(publication, range, why);
	if (status != HBM_OK) {
		publication_free(publication);
		return status;
	}

	publication_fill(publication, range);
	list_push_back(&publications->all, &publication->link);

	return HBM_OK;
}

int publication_new(struct publications *publications, const struct publication_form *form,
		    const struct reason *why)
{
	struct range range = {0};
	int status = publication_check_range(&range, form, why);
	if (status != HBM_OK)
		return status;
	if (publication_find(publications, form->uid, form->tenant, form->name))
		return reason_set(why, HBM_EXISTS, "the name is taken");

	struct publication *withdrawn = publication_to_renew(&range, form);
	if (!withdrawn)
		return publication_add(publications, form, &range, why);

	struct publication before = *withdrawn;
	publication_name(withdrawn, form);
	if (publication_write(withdrawn) == HBM_OK)
		return HBM_OK;

	memcpy(withdrawn->name, before.name, sizeof(before.name));
	withdrawn->for_group = before.for_group;
	withdrawn->was_for_group = before.was_for_group;
	withdrawn->gid = before.gid;
	withdrawn->withdrawn = true;

	return reason_set(why, HBM_LIMIT, "the daemon's state is full");
}

/* ---- Restoring ---- */

struct publication *publication_restore(struct publications *publications,
					const struct publication_form *form)
{
	struct publication *publication = publication_alloc(publications, form);
	struct region *region = form->region;
	if (!publication)
		return NULL;

	struct payer *payer = &publication->user->payer;
	ledger_charge_always(&publication->count_charge, payer, LEDGER_PUBLICATIONS, 1);
	ledger_charge_always(&publication->bytes_charge, payer, LEDGER_PUBLISHED,
			     region->address_space);
	publication_name(publication, form);
	publication->region = region;
	region->publication = publication;
	for (uint64_t i = 0; i < region->slot_count; i++)
		region->slots[i].slab->publication = publication;
	list_push_back(&publications->all, &publication->link);

	return publication;
}

void publications_restored(struct publications *publications)
{
	list_for_each_safe (node, after, &publications->all)
		publication_settle(container_of(node, struct publication, link));
}
