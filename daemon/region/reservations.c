/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/reservations.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/device/device.h"
#include "daemon/region/promise.h"
#include "daemon/region/region.h"
#include "daemon/region/slab.h"

#define SLAB_LEAST (2ull << 20)
#define SLAB_MOST (1ull << 30)

/* What a pool's call is told to, for its device. */
struct reservations_pool {
	struct reservations *reservations;
	uint32_t device;
};

struct reservations {
	struct loop *loop;
	struct devices *devices;
	struct list waiting; /* by rising tag */
	uint64_t tag;        /* of the one served last */
	uint64_t counts[HBM_WIRE_DEVICES_MAX];
	struct post look;
	bool looks; /* it is posted */
	struct memory_page page;
	void (*changed)(void *arg, uint32_t device);
	void *changed_arg;
	struct reservations_pool pools[HBM_WIRE_DEVICES_MAX];
};

/* ---- The page ---- */

static uint64_t reservations_largest_slab(uint64_t available)
{
	uint64_t slab = SLAB_MOST;

	while (slab > available)
		slab /= 2;

	return slab >= SLAB_LEAST ? slab : 0;
}

static void reservations_write(struct reservations *reservations, uint32_t number)
{
	const struct device *device = &reservations->devices->list[number];
	struct slabs_books books = slabs_books(device->slabs);
	uint64_t available = books.due < books.free ? books.free - books.due : 0;
	struct hbm_wire_memory record = {
		.capacity = books.budget,
		.free = books.free,
		.promised = books.promised,
		.available = available,
		.largest_slab = reservations_largest_slab(available),
		.returning = books.budget - books.leased - books.free,
		.waiting = reservations->counts[number],
		.default_slab = slabs_default(device->slabs),
		.lost = device_is_lost(device),
	};

	memory_page_write(&reservations->page, number, &record);
}

static void reservations_pool_changed(void *arg)
{
	const struct reservations_pool *pool = arg;
	struct reservations *reservations = pool->reservations;

	reservations_write(reservations, pool->device);
	if (reservations->changed)
		reservations->changed(reservations->changed_arg, pool->device);
	if (list_empty(&reservations->waiting) || reservations->looks)
		return;

	reservations->looks = true;
	loop_post(reservations->loop, &reservations->look);
}

/* ---- Changes ---- */

/* What would be reserved then. UINT64_MAX: no pool has as much. */
static uint64_t reservations_target(uint64_t reserved, int64_t change)
{
	uint64_t bytes = change < 0 ? -(uint64_t)change : (uint64_t)change, sum;

	if (change < 0)
		return bytes < reserved ? reserved - bytes : 0;

	return checked_add(reserved, bytes, &sum) ? sum : UINT64_MAX;
}

static struct device *reservations_device(const struct reservations *reservations,
					  const struct hbm_wire_reserve_change *change)
{
	assert(change->device < reservations->devices->count);

	return &reservations->devices->list[change->device];
}

/* The devices of which it reserves more. */
static uint64_t reservations_devices(const struct reservation *reservation)
{
	uint64_t devices = 0;

	for (uint32_t i = 0; i < reservation->count; i++)
		if (reservation->changes[i].bytes > 0)
			devices |= UINT64_C(1) << reservation->changes[i].device;

	return devices;
}

/* Whether the memory allows it, and how much more and less it is in all. */
static int reservations_check(const struct reservations *reservations,
			      const struct reservation *reservation, uint64_t *more, uint64_t *less)
{
	int status = HBM_OK;

	*more = *less = 0;
	for (uint32_t i = 0; i < reservation->count; i++) {
		const struct hbm_wire_reserve_change *change = &reservation->changes[i];
		struct device *device = reservations_device(reservations, change);
		const struct promise *promise = regions_promise(reservation->regions, device);
		uint64_t target = promise ? reservations_target(promise->reserved, change->bytes)
					  : UINT64_MAX;

		if (target > slabs_books(device->slabs).budget && change->bytes > 0) {
			*more = UINT64_MAX;
			return HBM_NO_SPACE;
		}

		if (!promise)
			continue; /* nothing to reserve less of */
		if (target > promise->reserved)
			*more += target - promise->reserved;
		else
			*less += promise->reserved - target;
		if (!slabs_can_reserve(device->slabs, promise, target))
			status = HBM_NO_SPACE;
	}

	return status;
}

const struct promise *reservations_bounded(const struct reservations *reservations,
					   const struct reservation *reservation, uint64_t *growth)
{
	for (uint32_t i = 0; i < reservation->count; i++) {
		const struct hbm_wire_reserve_change *change = &reservation->changes[i];
		struct device *device = reservations_device(reservations, change);
		const struct promise *promise = regions_promise(reservation->regions, device);
		if (!promise || change->bytes <= 0)
			continue;

		*growth = promise_growth(promise,
					 reservations_target(promise->reserved, change->bytes), 0);
		if (!promise_has_room(promise, *growth))
			return promise;
	}

	return NULL;
}

static void reservations_apply(const struct reservations *reservations,
			       const struct reservation *reservation)
{
	for (uint32_t i = 0; i < reservation->count; i++) {
		const struct hbm_wire_reserve_change *change = &reservation->changes[i];
		struct device *device = reservations_device(reservations, change);
		struct promise *promise = regions_promise(reservation->regions, device);
		if (!promise)
			continue;

		bool made = slabs_reserve(device->slabs, promise, reservation->regions->payer,
					  reservations_target(promise->reserved, change->bytes));
		assert(made);
		(void)made;
	}
}

/* What is idle makes way, a little later. */
static void reservations_reclaim(const struct reservations *reservations,
				 const struct reservation *reservation)
{
	for (uint32_t i = 0; i < reservation->count; i++) {
		const struct hbm_wire_reserve_change *change = &reservation->changes[i];
		struct device *device = reservations_device(reservations, change);
		const struct promise *promise = regions_promise(reservation->regions, device);

		if (promise && change->bytes > 0)
			slabs_reclaim(device->slabs, promise,
				      reservations_target(promise->reserved, change->bytes));
	}
}

/* As reservations_make(), whether or not others wait. */
static int reservations_try(struct reservations *reservations,
			    const struct reservation *reservation, uint64_t *more)
{
	uint64_t less;
	int status = reservations_check(reservations, reservation, more, &less);
	if (*more == UINT64_MAX)
		return status;

	struct payer *payer = reservation->regions->payer;
	uint64_t net = *more > less ? *more - less : 0, growth;
	const struct promise *bounded = reservations_bounded(reservations, reservation, &growth);
	if (bounded) {
		(void)ledger_check(bounded->tenant, LEDGER_DEVICE_MEMORY, growth); /* counts it */
		return HBM_LIMIT;
	}

	if (net > 0 && !ledger_has_tenant_room(payer->parent, LEDGER_RESERVED, net)) {
		*more = net;
		(void)ledger_check(payer, LEDGER_RESERVED, net); /* counts it */
		return HBM_LIMIT;
	}

	/* What others have reserved they may give back. */
	if (net > 0 && !ledger_has_room(payer, LEDGER_RESERVED, net))
		return HBM_NO_SPACE;
	if (status == HBM_OK)
		reservations_apply(reservations, reservation);
	else
		reservations_reclaim(reservations, reservation);

	return status;
}

int reservations_make(struct reservations *reservations, struct reservation *reservation,
		      uint64_t *more)
{
	uint64_t devices = reservations_devices(reservation);
	bool others_wait = false;

	for (uint32_t i = 0; i < reservations->devices->count; i++)
		others_wait |= devices >> i & 1 && reservations->counts[i] > 0;

	if (!others_wait)
		return reservations_try(reservations, reservation, more);

	uint64_t less;
	(void)reservations_check(reservations, reservation, more, &less);

	return HBM_NO_SPACE;
}

static bool reservations_comes(const struct reservations *reservations, uint64_t devices)
{
	bool comes = false;

	for (uint32_t i = 0; i < reservations->devices->count; i++)
		comes |= devices >> i & 1 &&
			 slabs_is_reclaiming(reservations->devices->list[i].slabs);

	return comes;
}

bool reservations_may_come(const struct reservations *reservations,
			   const struct reservation *reservation)
{
	uint64_t devices = reservations_devices(reservation);
	bool others_wait = false;

	for (uint32_t i = 0; i < reservations->devices->count; i++)
		others_wait |= devices >> i & 1 && reservations->counts[i] > 0;

	return !others_wait && reservations_comes(reservations, devices);
}

/* ---- Waiting ---- */

static void reservations_count(struct reservations *reservations,
			       const struct reservation *reservation, int change)
{
	uint64_t devices = reservations_devices(reservation);

	for (uint32_t i = 0; i < reservations->devices->count; i++)
		if (devices >> i & 1) {
			reservations->counts[i] += (uint64_t)(int64_t)change;
			reservations_write(reservations, i);
		}
}

/* Where the waiting ones go on that have a higher tag. */
static struct list *reservations_place(struct reservations *reservations,
				       struct reservation *reservation)
{
	struct list *place = NULL;

	reservation->tag = reservations->tag;
	list_for_each (node, &reservations->waiting) {
		const struct reservation *other = container_of(node, struct reservation, link);
		if (other->user == reservation->user)
			reservation->tag = other->tag;
	}

	reservation->tag += reservation->more;
	list_for_each (node, &reservations->waiting)
		if (!place && container_of(node, struct reservation, link)->tag > reservation->tag)
			place = node;

	return place ? place : &reservations->waiting;
}

void reservations_wait(struct reservations *reservations, struct reservation *reservation)
{
	reservation->more = 0;
	for (uint32_t i = 0; i < reservation->count; i++)
		if (reservation->changes[i].bytes > 0)
			reservation->more += (uint64_t)reservation->changes[i].bytes;

	list_push_back(reservations_place(reservations, reservation), &reservation->link);
	reservations_count(reservations, reservation, 1);
}

void reservations_leave(struct reservations *reservations, struct reservation *reservation)
{
	list_remove(&reservation->link);
	reservations_count(reservations, reservation, -1);
	if (list_empty(&reservations->waiting)) {
		reservations->tag = 0;
	} else if (!reservations->looks) { /* for those it kept waiting */
		reservations->looks = true;
		loop_post(reservations->loop, &reservations->look);
	}
}

void reservations_end_waiting(struct reservations *reservations, int status)
{
	while (!list_empty(&reservations->waiting)) {
		struct reservation *reservation =
			container_of(reservations->waiting.next, struct reservation, link);

		reservations_leave(reservations, reservation);
		reservation->done(reservation, status);
	}
}

uint64_t reservations_waiting(const struct reservations *reservations, uint32_t device)
{
	return reservations->counts[device];
}

static void reservations_look(struct post *post)
{
	struct reservations *reservations = container_of(post, struct reservations, look);
	uint64_t kept = 0; /* devices of those that go on waiting */

	reservations->looks = false;

	list_for_each_safe (node, after, &reservations->waiting) {
		struct reservation *reservation = container_of(node, struct reservation, link);
		uint64_t devices = reservations_devices(reservation), more = 0;
		int status = devices & kept ? HBM_NO_SPACE
					    : reservations_try(reservations, reservation, &more);

		if (status == HBM_NO_SPACE &&
		    !(reservation->brief && !reservations_comes(reservations, devices))) {
			kept |= devices;
			continue;
		}

		uint64_t tag = reservation->tag;
		reservations_leave(reservations, reservation);
		if (status == HBM_OK && !list_empty(&reservations->waiting) &&
		    tag > reservations->tag)
			reservations->tag = tag;
		reservation->more = more;
		reservation->done(reservation, status);
	}
}

/* ---- Open and close ---- */

int reservations_open(struct reservations **out, struct loop *loop, struct devices *devices)
{
	struct reservations *reservations = calloc(1, sizeof(*reservations));
	if (!reservations)
		return -ENOMEM;

	int r = memory_page_open(&reservations->page);
	if (r < 0) {
		free(reservations);
		return r;
	}

	reservations->loop = loop;
	reservations->devices = devices;
	reservations->look.run = reservations_look;
	list_init(&reservations->waiting);

	for (uint32_t i = 0; i < devices->count; i++) {
		reservations->pools[i] = (struct reservations_pool){reservations, i};
		slabs_watch(devices->list[i].slabs, reservations_pool_changed,
			    &reservations->pools[i]);
		reservations_write(reservations, i);
	}
	*out = reservations;

	return 0;
}

struct reservations *reservations_close(struct reservations *reservations)
{
	if (!reservations)
		return NULL;

	assert(list_empty(&reservations->waiting));

	for (uint32_t i = 0; i < reservations->devices->count; i++)
		if (reservations->devices->list[i].slabs)
			slabs_watch(reservations->devices->list[i].slabs, NULL, NULL);

	loop_flush(reservations->loop);
	memory_page_close(&reservations->page);
	free(reservations);

	return NULL;
}

void reservations_on_change(struct reservations *reservations,
			    void (*changed)(void *arg, uint32_t device), void *arg)
{
	reservations->changed = changed;
	reservations->changed_arg = arg;
}

int reservations_fd(const struct reservations *reservations)
{
	return reservations->page.fd;
}
