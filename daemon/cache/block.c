/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/block.h"

#include <assert.h>

static_assert(TIER_NUMBERS <= 1 << 7, "block.target, block.actual");
static_assert(BLOCK_STATES <= 1 << 3, "block.state");

#define BLOCK_UNITS_MAX ((1u << 24) - 1) /* the largest block.stored_units: nearly 64 GiB */
#define BLOCK_MOVE_MAX ((1u << 31) - 1)  /* the largest block.move */

static struct block *block_step(struct blocks *blocks, uint32_t number, enum block_event event)
{
	struct block *block = &blocks->table[number];
	enum block_state next = block_next(block->state, event);

	assert(next != BLOCK_ABSENT);
	block->state = next & 0x7;

	return block;
}

void blocks_init(struct blocks *blocks, struct index *index, struct namespaces *namespaces,
		 struct tier *tiers, struct payer *pinned, struct owners *owners)
{
	*blocks = (struct blocks){.table = index_table(index),
				  .index = index,
				  .namespaces = namespaces,
				  .tiers = tiers,
				  .pinned = pinned,
				  .owners = owners};
	list_init(&blocks->listeners);
}

void blocks_clear(struct blocks *blocks)
{
	if (blocks->copies.tier)
		blocks->copies.tier->reclaim = NULL;
	copies_close(&blocks->copies);
}

void block_listen(struct blocks *blocks, struct block_listener *listener)
{
	list_push_back(&blocks->listeners, &listener->link);
}

uint64_t block_bytes(const struct blocks *blocks, uint32_t number)
{
	return namespaces_get(blocks->namespaces, block_get(blocks, number)->ns)->block_bytes;
}

uint64_t block_memory_bytes(const struct blocks *blocks, uint32_t number)
{
	return extent_bytes(block_bytes(blocks, number));
}

unsigned block_element(const struct blocks *blocks, uint32_t number)
{
	const struct block *block = block_get(blocks, number);

	return block->incompressible
		       ? 0
		       : namespaces_get(blocks->namespaces, block->ns)->encoding.element_bytes;
}

uint64_t block_bytes_in(const struct blocks *blocks, uint32_t number, const struct tier *tier)
{
	uint64_t bytes = block_memory_bytes(blocks, number);
	uint64_t stored = block_stored_bytes(block_get(blocks, number));

	return stored >= bytes || tier_has_io(tier) ? stored : bytes;
}

bool block_is_wiped(const struct blocks *blocks, uint32_t number)
{
	return namespaces_get(blocks->namespaces, block_get(blocks, number)->ns)->wipe_on_free;
}

void block_free_extent(const struct blocks *blocks, uint32_t number, struct place place,
		       uint64_t bytes)
{
	const struct namespace *ns =
		namespaces_get(blocks->namespaces, block_get(blocks, number)->ns);

	if (ns->wipe_on_free)
		tier_wipe(place.tier, place.unit, bytes, namespace_wiper(ns));
	else
		tier_free(place.tier, place.unit, bytes);
}

uint64_t block_logical_bytes(const struct blocks *blocks, uint32_t number)
{
	return namespaces_get(blocks->namespaces, block_get(blocks, number)->ns)->logical_bytes;
}

static void block_emit_placed(struct blocks *blocks, uint32_t number, struct tier *to,
			      struct tier *from)
{
	list_for_each (node, &blocks->listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);
		listener->placed(listener, number, to, from);
	}
}

static void block_emit_unplaced(struct blocks *blocks, uint32_t number, struct tier *from,
				struct tier *to)
{
	list_for_each (node, &blocks->listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);
		listener->unplaced(listener, number, from, to);
	}
}

static void block_emit_uncopied(struct blocks *blocks, uint32_t number)
{
	list_for_each (node, &blocks->listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);
		if (listener->uncopied)
			listener->uncopied(listener, number);
	}
}

static void block_emit_dropped(struct blocks *blocks, uint32_t number)
{
	list_for_each (node, &blocks->listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);
		if (listener->dropped)
			listener->dropped(listener, number);
	}
}

static void block_emit_summed(struct blocks *blocks, uint32_t number)
{
	list_for_each (node, &blocks->listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);
		if (listener->summed)
			listener->summed(listener, number);
	}
}

/* Around every change of an entry's tier, target, move or references, or of its being in use;
 * one change each, so that the entry is sound in both. */
static void block_changing(struct blocks *blocks, uint32_t number)
{
	if (blocks->recount)
		blocks->recount->changing(blocks->recount, number);
}

static void block_changed(struct blocks *blocks, uint32_t number)
{
	if (blocks->recount)
		blocks->recount->changed(blocks->recount, number);
}

static void block_set_move(struct blocks *blocks, uint32_t number, uint32_t move)
{
	block_changing(blocks, number);
	blocks->table[number].move = move & BLOCK_MOVE_MAX;
	block_changed(blocks, number);
}

static void block_set_actual(struct blocks *blocks, uint32_t number, uint8_t tier)
{
	block_changing(blocks, number);
	blocks->table[number].actual = tier & 0x7fu;
	block_changed(blocks, number);
}

/* ---- copies ---- */

static void block_set_copied(struct blocks *blocks, uint32_t number, bool copied)
{
	block_changing(blocks, number);
	blocks->table[number].copied = copied;
	block_changed(blocks, number);
}

/* Its extent counts as moving afterwards. */
static struct place block_remove_copy(struct blocks *blocks, uint32_t number)
{
	struct tier *tier = blocks->copies.tier;

	assert(blocks->table[number].copied);
	block_set_copied(blocks, number, false);
	tier_release_copy(tier, block_bytes_in(blocks, number, tier));

	return (struct place){tier, copies_remove(&blocks->copies, number)};
}

void block_drop_copy(struct blocks *blocks, uint32_t number)
{
	if (!blocks->table[number].copied)
		return;

	struct place place = block_remove_copy(blocks, number);
	block_free_extent(blocks, number, place, block_bytes_in(blocks, number, place.tier));
	block_emit_uncopied(blocks, number);
}

static void block_reclaim(void *arg)
{
	struct blocks *blocks = arg;
	block_drop_copy(blocks, copies_oldest(&blocks->copies));
}

int blocks_keep_copies(struct blocks *blocks, struct tier *tier)
{
	int r = copies_open(&blocks->copies, tier, index_max(blocks->index));
	if (r < 0)
		return r;

	tier->reclaim = block_reclaim;
	tier->reclaim_arg = blocks;

	return 0;
}

/* The block has left that extent. For a tier above: the extent stays as its copy if there is room,
 * otherwise it is freed. For another of the same tier: when no record names it. */
static void block_leave_extent(struct blocks *blocks, uint32_t number, struct place old,
			       const struct tier *to)
{
	uint64_t bytes = block_bytes_in(blocks, number, old.tier);
	bool up = old.tier == blocks->copies.tier && to->number < old.tier->number;

	if (old.tier == to) {
		const struct namespace *ns =
			namespaces_get(blocks->namespaces, block_get(blocks, number)->ns);

		tier_leave(old.tier, &(struct left_extent){.unit = old.unit,
							   .wipe = ns->wipe_on_free,
							   .bytes = bytes,
							   .payer = namespace_wiper(ns)});
		return;
	}
	if (!up || !tier_keep_copy(old.tier, bytes)) {
		block_free_extent(blocks, number, old, bytes);
		return;
	}

	copies_add(&blocks->copies, number, old.unit);
	block_set_copied(blocks, number, true);
}

/* ---- the inbound queues ---- */

static bool block_is_misplaced(const struct block *block)
{
	return block->state == BLOCK_RESIDENT && block->actual != 0 && block->target != 0 &&
	       block->actual != block->target;
}

static void block_queue_if_misplaced(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	if (block->queued || !block_is_misplaced(block))
		return;

	struct tier *tier = &blocks->tiers[block->target];
	block->queued = true;
	block->queue_next = 0;
	if (tier->inbound_last != 0)
		blocks->table[tier->inbound_last].queue_next = number;
	else
		tier->inbound_first = number;

	tier->inbound_last = number;
}

/* ---- the end of a block ---- */

static void block_free_place(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	struct tier *tier = &blocks->tiers[block->actual];
	uint64_t bytes = block_bytes_in(blocks, number, tier);

	block_emit_unplaced(blocks, number, tier, NULL);
	block_set_actual(blocks, number, 0);
	tier_unplace(tier, bytes);
	block_free_extent(blocks, number, (struct place){tier, block->unit}, bytes);
}

static void block_release_if_idle(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	if (block->state != BLOCK_DROPPED || block->users > 0)
		return;

	if (block->actual != 0)
		block_free_place(blocks, number);
	if (block->queued || block->refs > 0 || block->dropping)
		return;

	block_changing(blocks, number);
	block->state = BLOCK_ABSENT;
	namespaces_block_gone(blocks->namespaces, block->ns);
	index_release(blocks->index, number);
}

void block_unqueue(struct blocks *blocks, struct tier *tier)
{
	uint32_t number = tier->inbound_first;
	struct block *block = &blocks->table[number];

	assert(number != 0 && block->queued);

	tier->inbound_first = block->queue_next;
	if (tier->inbound_first == 0)
		tier->inbound_last = 0;

	block->queue_next = 0;
	block->queued = false;

	block_queue_if_misplaced(blocks, number);
	block_release_if_idle(blocks, number);
}

bool block_begin_wait(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	if (block->queued)
		return false;

	block->queued = true;

	return true;
}

void block_end_wait(struct blocks *blocks, uint32_t number)
{
	assert(blocks->table[number].queued);

	blocks->table[number].queued = false;
	block_queue_if_misplaced(blocks, number);
	block_release_if_idle(blocks, number);
}

/* ---- transitions ---- */

uint32_t block_begin_store(struct blocks *blocks, uint16_t ns, const struct hbm_wire_key *key)
{
	struct namespace *in = namespaces_get(blocks->namespaces, ns);
	uint64_t units = extent_bytes(in->block_bytes) / EXTENT_UNIT;

	assert(units <= BLOCK_UNITS_MAX);

	if (!ledger_check(&in->payer, LEDGER_BLOCKS, 1))
		return 0;

	uint32_t number = index_insert(blocks->index, ns, key);
	if (number == 0)
		return 0;

	struct block *block = block_step(blocks, number, BLOCK_BEGIN_STORE);
	block->stored_units = (uint32_t)units & BLOCK_UNITS_MAX;
	ledger_add(&in->payer, LEDGER_BLOCKS, 1);
	block_changed(blocks, number);

	return number;
}

/* Of the tenant whose it is. */
static uint32_t block_owner(const struct blocks *blocks, uint32_t number)
{
	return namespaces_owners(blocks->namespaces)[block_get(blocks, number)->ns];
}

/* Its target is charged by another size from now on. */
static void block_set_units(struct blocks *blocks, uint32_t number, uint64_t units)
{
	struct block *block = &blocks->table[number];
	struct tier *target = block_target(blocks, number);
	uint64_t before = target ? block_bytes_in(blocks, number, target) : 0;

	block_changing(blocks, number);
	block->stored_units = (uint32_t)units & BLOCK_UNITS_MAX;
	block_changed(blocks, number);
	if (!target)
		return;

	uint64_t after = block_bytes_in(blocks, number, target);

	target->bytes += after - before;
	owners_subtract(&blocks->owners[target->number], block_owner(blocks, number), before);
	owners_add(&blocks->owners[target->number], block_owner(blocks, number), after);
	if (block->refs > 0) {
		block_uncount_pinned(blocks, number, before);
		block_count_pinned(blocks, number, after);
	}
}

void block_settle_stored(struct blocks *blocks, uint32_t number, uint64_t bytes)
{
	if (block_element(blocks, number) != 0)
		blocks->table[number].incompressible = bytes == block_memory_bytes(blocks, number);
	if (block_stored_bytes(block_get(blocks, number)) == bytes)
		return;

	const struct tier *here = block_place(blocks, number).tier;
	assert(!here || !tier_has_io(here));
	block_drop_copy(blocks, number);
	block_set_units(blocks, number, bytes / EXTENT_UNIT);
}

static void block_set_place(struct blocks *blocks, uint32_t number, struct place place,
			    struct tier *from)
{
	struct block *block = &blocks->table[number];
	block_set_actual(blocks, number, place.tier->number);
	block->unverified = false; /* what reads a block for a move verifies it */
	block->unit = place.unit;
	tier_place(place.tier, block_bytes_in(blocks, number, place.tier));
	block_emit_placed(blocks, number, place.tier, from);
}

void block_stored(struct blocks *blocks, uint32_t number, struct place place)
{
	block_step(blocks, number, BLOCK_STORED);
	if (place.tier)
		block_set_place(blocks, number, place, NULL);
	block_queue_if_misplaced(blocks, number);
}

void block_abandon_store(struct blocks *blocks, uint32_t number)
{
	block_step(blocks, number, BLOCK_ABANDON_STORE);
	block_release_if_idle(blocks, number);
}

void block_begin_move(struct blocks *blocks, uint32_t number, uint32_t move)
{
	struct block *block = block_step(blocks, number, BLOCK_BEGIN_MOVE);
	struct tier *here = &blocks->tiers[block->actual];
	assert(move != 0 && move <= BLOCK_MOVE_MAX && block->actual != 0);

	block_set_move(blocks, number, move);
	tier_unplace(here, block_bytes_in(blocks, number, here));
}

void block_placed(struct blocks *blocks, uint32_t number, struct place place)
{
	struct block *block = block_step(blocks, number, BLOCK_PLACED);
	struct place old = block_place(blocks, number);

	assert(block->users == 0);

	block_emit_unplaced(blocks, number, old.tier, place.tier);
	block_set_move(blocks, number, 0);
	if (place.tier == blocks->copies.tier)
		block_drop_copy(blocks, number); /* it has been written again */
	block_leave_extent(blocks, number, old, place.tier);
	block_set_place(blocks, number, place, old.tier);

	block_queue_if_misplaced(blocks, number);
}

bool block_take_copy(struct blocks *blocks, uint32_t number)
{
	struct block *block = block_step(blocks, number, BLOCK_TAKE_COPY);
	struct tier *to = blocks->copies.tier;
	struct place old = block_place(blocks, number);
	uint64_t bytes = block_bytes_in(blocks, number, old.tier);
	if (!block->copied || block->target != to->number || block->users > 0 || to->lost)
		return false;

	struct place place = block_remove_copy(blocks, number);
	block_emit_unplaced(blocks, number, old.tier, to);
	tier_unplace(old.tier, bytes);
	block_free_extent(blocks, number, old, bytes);
	block_set_place(blocks, number, place, old.tier);
	to->reused_blocks++;
	to->reused_bytes += block_bytes_in(blocks, number, to);

	return true;
}

void block_end_move(struct blocks *blocks, uint32_t number)
{
	struct block *block = block_step(blocks, number, BLOCK_END_MOVE);
	struct tier *here = &blocks->tiers[block->actual];

	block_set_move(blocks, number, 0);
	tier_place(here, block_bytes_in(blocks, number, here));

	block_queue_if_misplaced(blocks, number);
	block_release_if_idle(blocks, number);
}

void block_use(struct blocks *blocks, uint32_t number)
{
	struct block *block = block_step(blocks, number, BLOCK_USE);
	assert(block->state != BLOCK_DROPPED || block->users > 0);
	block->users++;
}

void block_unuse(struct blocks *blocks, uint32_t number)
{
	struct block *block = block_step(blocks, number, BLOCK_UNUSE);
	assert(block->users > 0);
	block->users--;
	block_release_if_idle(blocks, number);
}

static void block_leave_target(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	struct tier *tier = &blocks->tiers[block->target];
	uint64_t stored = block_bytes_in(blocks, number, tier);
	struct namespace *ns = namespaces_get(blocks->namespaces, block->ns);

	tier->blocks--;
	tier->bytes -= stored;
	owners_subtract(&blocks->owners[tier->number], block_owner(blocks, number), stored);
	tier->logical_bytes -= ns->logical_bytes;
	if (block->refs > 0)
		block_uncount_pinned(blocks, number, stored);

	ns->blocks_in[tier->kind]--;
	block_changing(blocks, number);
	block->target = 0;
	block_changed(blocks, number);
}

static void block_join_target(struct blocks *blocks, uint32_t number, struct tier *tier)
{
	struct block *block = &blocks->table[number];
	uint64_t stored = block_bytes_in(blocks, number, tier);
	struct namespace *ns = namespaces_get(blocks->namespaces, block->ns);

	block_changing(blocks, number);
	block->target = tier->number & 0x7fu;
	block_changed(blocks, number);

	tier->blocks++;
	tier->bytes += stored;
	owners_add(&blocks->owners[tier->number], block_owner(blocks, number), stored);
	tier->logical_bytes += ns->logical_bytes;
	if (block->refs > 0)
		block_count_pinned(blocks, number, stored);

	ns->blocks_in[tier->kind]++;
}

void block_set_target(struct blocks *blocks, uint32_t number, struct tier *tier)
{
	struct block *block = &blocks->table[number];

	assert(block->state != BLOCK_ABSENT && !block_is_dropped(block));

	if (block->target != 0)
		block_leave_target(blocks, number);
	if (tier)
		block_join_target(blocks, number, tier);

	block_queue_if_misplaced(blocks, number);
}

void block_set_durable(struct blocks *blocks, uint32_t number)
{
	blocks->table[number].durable = true;
}

void block_drop(struct blocks *blocks, uint32_t number)
{
	struct block *block = block_step(blocks, number, BLOCK_DROP);

	struct namespace *ns = namespaces_get(blocks->namespaces, block->ns);

	ns->pins -= block->pins;
	ns->pins_lost += block->pins;
	index_remove(blocks->index, number);
	block_emit_dropped(blocks, number);
	block_drop_copy(blocks, number);
	if (block->target != 0)
		block_leave_target(blocks, number);

	block->dropping = block->child != 0;
	block_release_if_idle(blocks, number);
}

void block_end_drop(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];

	assert(block->dropping && block->child == 0);
	block->dropping = false;
	block_release_if_idle(blocks, number);
}

/* ---- references ---- */

void block_ref(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];
	assert(!block_is_dropped(block) && block->target != 0);

	block_changing(blocks, number);
	block->refs++;
	block_changed(blocks, number);
	if (block->refs == 1)
		block_count_pinned(blocks, number,
				   block_bytes_in(blocks, number, block_target(blocks, number)));
}

bool block_unref(struct blocks *blocks, uint32_t number)
{
	struct block *block = &blocks->table[number];

	assert(block->refs > 0);
	block_changing(blocks, number);
	block->refs--;
	block_changed(blocks, number);
	if (block->refs > 0)
		return false;

	if (block->target != 0)
		block_uncount_pinned(blocks, number,
				     block_bytes_in(blocks, number, block_target(blocks, number)));

	block_release_if_idle(blocks, number);

	return true;
}

void block_count_pin(struct blocks *blocks, uint32_t number, int change)
{
	struct block *block = &blocks->table[number];
	assert(change > 0 || block->pins > 0);
	block_changing(blocks, number);
	block->pins = (uint32_t)((int64_t)block->pins + change);
	block_changed(blocks, number);
	if (!block_is_dropped(block))
		namespaces_get(blocks->namespaces, block->ns)->pins += (uint64_t)change;
}

/* ---- checksum ---- */

bool block_settle_checksum(struct blocks *blocks, uint32_t number, uint64_t checksum)
{
	struct block *block = &blocks->table[number];
	if (block->checksummed)
		return block->checksum == checksum;

	block->checksum = checksum;
	block->checksummed = true;
	block_emit_summed(blocks, number);

	return true;
}

void block_set_unverified(struct blocks *blocks, uint32_t number)
{
	assert(blocks->table[number].checksummed);
	blocks->table[number].unverified = true;
}

void block_verified(struct blocks *blocks, uint32_t number)
{
	blocks->table[number].unverified = false;
}
