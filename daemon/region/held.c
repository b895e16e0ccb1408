/* SPDX-License-Identifier: Apache-2.0 */
/* held: see held.h. Numbers of the driver are read on the control worker, one job after
 * the other, so that none is created or released by the daemon between two of them. */
#include "daemon/region/held.h"

#include <assert.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/region/region_kept.h"

#define PROBE_FIRST_NS 50000000ull
#define PROBE_LAST_NS 2000000000ull

/* ---- Holders ---- */

void holder_init(struct holder *holder, struct payer *payer)
{
	*holder = (struct holder){.payer = payer};
	list_init(&holder->parts);
}

bool holder_is_settled(const struct holder *holder)
{
	return holder->releasing == 0 && holder->kept == 0 && list_empty(&holder->parts);
}

/* Its holder is gone: no session is charged for it. */
static void held_orphan(struct held_part *part)
{
	ledger_release(&part->charge);
	list_remove(&part->by_holder);
	part->holder = NULL;
}

void holder_end(struct holder *holder)
{
	holder->gone = true;

	while (!list_empty(&holder->parts)) {
		struct held_part *part =
			container_of(holder->parts.next, struct held_part, by_holder);
		struct held *held = part->held;

		held_orphan(part);
		held_probe(held);
	}
}

static void held_check_holder(struct holder *holder)
{
	if (holder->settled && holder_is_settled(holder))
		holder->settled(holder);
}

void holder_keep(struct holder *holder)
{
	holder->kept++;
}

void holder_let_go(struct holder *holder)
{
	assert(holder->kept > 0);
	holder->kept--;
	held_check_holder(holder);
}

/* ---- On the control worker ---- */

static struct held_reading held_measure(const struct held *held)
{
	const struct driver *driver = held->device->driver;
	size_t free_bytes = 0, total = 0;
	CUresult r = driver->cuMemGetInfo(&free_bytes, &total);

	if (r != CUDA_SUCCESS && !driver_error_is_sticky(r))
		r = driver->cuMemGetInfo(&free_bytes, &total);

	uint64_t used = total - free_bytes, own = held->created + held->device->tier_bytes;
	return (struct held_reading){
		.known = r == CUDA_SUCCESS,
		.free = free_bytes,
		.others = used > own ? used - own : 0,
	};
}

static void held_keep_base(const struct held *held, const struct held_reading *reading)
{
	if (reading->known)
		region_kept_set(held->kept, STATE_DEVICES, held->record, reading->others + 1);
}

CUresult held_create(struct held *held, CUmemGenericAllocationHandle *handle, uint64_t bytes)
{
	CUmemAllocationProp prop = device_allocation(held->device);
	CUresult r = held->device->driver->cuMemCreate(handle, bytes, &prop, 0);

	held->created += r == CUDA_SUCCESS ? bytes : 0;
	return r;
}

static CUresult held_release_now(struct held *held, CUmemGenericAllocationHandle handle,
				 uint64_t bytes)
{
	CUresult r = device_release(held->device, handle);

	held->created -= r == CUDA_SUCCESS ? bytes : 0;
	return r;
}

CUresult held_release(struct held *held, CUmemGenericAllocationHandle handle, uint64_t bytes,
		      struct held_part *part)
{
	if (!part)
		return held_release_now(held, handle, bytes);

	struct held_reading before = held_measure(held);
	if (part->first)
		held_keep_base(held, &before);
	CUresult r = held_release_now(held, handle, bytes);
	struct held_reading after = held_measure(held);

	/* A driver that does not answer proves nothing: the memory is then as free as the
	 * release says. */
	part->others_before = before.others;
	part->kept = before.known && after.known && after.others > before.others &&
		     after.others - before.others > bytes / 2;

	return r;
}

static void held_probe_run(struct job *job)
{
	struct held *held = container_of(job, struct held, job);
	held->probe = held_measure(held);
}

/* ---- Parts ---- */

static void held_add(struct held *held, struct held_part *part)
{
	if (list_empty(&held->parts.list))
		held->base = part->others_before;

	part->held = held;
	tally_push(&held->parts, &part->link, &part->mark);
	held->bytes += part->bytes;
	if (part->holder)
		held_charge(part, part->holder);
}

void held_charge(struct held_part *part, struct holder *holder)
{
	part->holder = holder;
	list_push_back(&holder->parts, &part->by_holder);
	ledger_charge_always(&part->charge, holder->payer, LEDGER_HELD, part->bytes);
}

/* What others had when nothing was held, plus one; 0: it is not known. */
static uint64_t held_kept_base(const struct held *held)
{
	return region_kept_word(held->kept, STATE_DEVICES, held->record);
}

void held_adopt(struct held *held, struct held_part *part)
{
	uint64_t base = held_kept_base(held);

	held->guessed = base == 0;
	part->others_before = base > 0 ? base - 1 : 0;
	held_add(held, part);
	held_probe(held);
}

/* Until nothing is held that was before anything was measured. */
static void held_guess_base(struct held *held)
{
	uint64_t others = held->probe.others;

	held->guessed = held->guessed && !list_empty(&held->parts.list);
	if (held->guessed && others > held->bytes && others - held->bytes > held->base)
		held->base = others - held->bytes;
}

static void held_return(struct held *held, struct held_part *part)
{
	struct holder *holder = part->holder;

	if (holder)
		held_orphan(part);
	tally_remove(&held->parts, &part->link, part->mark, part->bytes);
	held->bytes -= part->bytes;
	held->returned(part);
	if (holder)
		held_check_holder(holder);
}

/* Returns parts, the last first, while the device shows that less is held. */
static void held_return_shown(struct held *held)
{
	uint64_t shown = held->probe.others > held->base ? held->probe.others - held->base : 0;

	for (struct list *node = held->parts.list.prev, *before; node != &held->parts.list;
	     node = before) {
		struct held_part *part = container_of(node, struct held_part, link);

		before = node->prev;
		if (shown <= held->bytes - part->bytes + part->bytes / 2)
			held_return(held, part);
	}
}

/* Returns parts without a holder while the device has room for them beside all that may be
 * created. */
static void held_return_orphans(struct held *held)
{
	uint64_t room = held->probe.free > held->uncreated ? held->probe.free - held->uncreated : 0;

	list_for_each_safe (node, after, &held->parts.list) {
		struct held_part *part = container_of(node, struct held_part, link);

		if (part->holder || part->bytes > room)
			continue;

		room -= part->bytes;
		held_return(held, part);
	}
}

/* ---- Probing ---- */

static void held_wait(struct held *held)
{
	if (list_empty(&held->parts.list) || held->closed)
		return;

	loop_timer_set(held->loop, &held->timer, clock_now() + held->timer_ns);
	held->timer_ns = held->timer_ns * 2 < PROBE_LAST_NS ? held->timer_ns * 2 : PROBE_LAST_NS;
}

static void held_probe_done(struct job *job)
{
	struct held *held = container_of(job, struct held, job);

	held->probing = false;
	if (list_empty(&held->parts.list) && held->releases == 0)
		held_keep_base(held, &held->probe);
	if (held->probe.known) {
		held_guess_base(held);
		held_return_shown(held);
		held_return_orphans(held);
	}

	if (held->again)
		held_probe(held);
	else
		held_wait(held);

	held->probed(held);
}

void held_probe(struct held *held)
{
	held->again = held->probing && !held->closed;
	if (held->probing || held->closed)
		return;

	loop_timer_stop(held->loop, &held->timer);
	held->probing = true;
	held->uncreated = *held->pool_uncreated + *held->pool_releasing;
	held->job.run = held_probe_run;
	held->job.done = held_probe_done;
	worker_post(held->device->control, &held->job);
}

static void held_fire(struct timer *timer)
{
	held_probe(container_of(timer, struct held, timer));
}

/* ---- Releases ---- */

void held_release_begins(struct held *held, struct held_part *part)
{
	part->first = list_empty(&held->parts.list) && held->releases == 0;
	held->releases++;
	if (part->holder)
		part->holder->releasing += part->bytes;
}

bool held_release_ended(struct held *held, struct held_part *part, bool released)
{
	struct holder *holder = part->holder;
	bool kept = released && part->kept;

	held->releases--;
	if (holder)
		holder->releasing -= part->bytes;
	if (holder && holder->gone)
		part->holder = NULL;

	if (kept) {
		held_add(held, part);
		held->timer_ns = PROBE_FIRST_NS;
		if (!held->probing)
			held_wait(held);
	}

	if (holder)
		held_check_holder(holder);

	return kept;
}

/* ---- Open, close, check ---- */

void held_open(struct held *held, struct device *device, struct loop *loop,
	       const uint64_t *pool_uncreated, const uint64_t *pool_releasing)
{
	held->device = device;
	held->loop = loop;
	held->pool_uncreated = pool_uncreated;
	held->pool_releasing = pool_releasing;
	held->timer.fire = held_fire;
	held->timer_ns = PROBE_FIRST_NS;
	tally_init(&held->parts);
}

void held_keep(struct held *held, const struct region_kept *kept)
{
	struct kept_device device;

	memcpy(device.uuid, held->device->uuid.bytes, sizeof(device.uuid));
	held->kept = kept;
	region_kept_find_device(kept, &device, &held->record);
}

void held_begin(struct held *held)
{
	if (held->record != 0 && list_empty(&held->parts.list) && held_kept_base(held) == 0)
		held_probe(held);
}

bool held_has_orphans(const struct held *held)
{
	list_for_each (node, &held->parts.list) {
		if (!container_of(node, struct held_part, link)->holder)
			return true;
	}
	return false;
}

void held_close(struct held *held)
{
	held->closed = true;
	held->again = false;
	loop_timer_stop(held->loop, &held->timer);
}

struct held_part *held_pop(struct held *held)
{
	struct list *node = list_pop_front(&held->parts.list);

	return node ? container_of(node, struct held_part, link) : NULL;
}

void held_check_begin(struct held *held)
{
	tally_begin(&held->parts);
	held->fault = NULL;
}

bool held_check_some(struct held *held, uint32_t max)
{
	for (; max > 0 && !tally_is_over(&held->parts); max--) {
		struct held_part *part = container_of(held->parts.next, struct held_part, link);

		if (part->charge.amount != (part->holder ? part->bytes : 0))
			held->fault = "a held slab is not charged to its holder";
		tally_pass(&held->parts, &part->mark, part->bytes);
	}

	return !tally_is_over(&held->parts);
}

const char *held_check_end(const struct held *held)
{
	if (held->fault)
		return held->fault;

	return held->parts.sum == held->bytes ? NULL : "the held slabs do not add up";
}
