/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block's states: every transition from every state, the allowed ones done and seen,
 * the refused ones done in a child process that must abort. Then what goes with them:
 * slots, queues, listeners, references, sizes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/cache/block.h"
#include "daemon/config/config.h"
#include "tests/support/leaks.h"
#include "tests/support/open_namespace.h"

enum { HBM = 1, DDR = 2, SLOTS = 8, BYTES = 5000, STORED = 2 * EXTENT_UNIT, EVENTS_MAX = 8 };

struct heard {
	bool placed;
	uint32_t number;
	const struct tier *to, *from;
};

struct setting {
	struct leaks leaks;
	struct index *index;
	struct namespaces *namespaces;
	struct ledger ledger;
	struct payer pinned[TIER_NUMBERS];
	struct owners owners[TIER_NUMBERS];
	struct tier tiers[TIER_NUMBERS];
	struct blocks blocks;
	struct block_listener listener;
	struct heard heard[EVENTS_MAX];
	uint32_t heard_count;
	uint16_t ns;
	uint32_t keys;
};

static void hear(struct block_listener *listener, struct heard heard)
{
	struct setting *setting = container_of(listener, struct setting, listener);
	if (setting->heard_count < EVENTS_MAX)
		setting->heard[setting->heard_count] = heard;
	setting->heard_count++;
}

/* Whether the block is where a listener is told that it is. */
static void hear_placed(struct block_listener *listener, uint32_t number, struct tier *to,
			struct tier *from)
{
	const struct setting *setting = container_of(listener, struct setting, listener);
	assert_ptr_equal(block_place(&setting->blocks, number).tier, to);
	hear(listener, (struct heard){.placed = true, .number = number, .to = to, .from = from});
}

static void hear_unplaced(struct block_listener *listener, uint32_t number, struct tier *from,
			  struct tier *to)
{
	const struct setting *setting = container_of(listener, struct setting, listener);
	assert_ptr_equal(block_place(&setting->blocks, number).tier, from);
	hear(listener, (struct heard){.number = number, .to = to, .from = from});
}

static uint64_t pinned(const struct setting *setting, int tier)
{
	return ledger_used(&setting->pinned[tier], LEDGER_PINNED);
}

static void setting_open(struct setting *setting)
{
	*setting = (struct setting){0};
	leaks_begin(&setting->leaks);
	assert_int_equal(index_new(&setting->index, SLOTS), 0);
	ledger_open(&setting->ledger,
		    &(struct config){.limit_namespaces = 2, .limit_blocks = SLOTS});
	for (int i = HBM; i <= DDR; i++)
		payer_open(&setting->pinned[i], &setting->ledger, PAYER_TIER);
	assert_int_equal(namespaces_new(&setting->namespaces, &setting->ledger), 0);

	for (uint8_t i = HBM; i <= DDR; i++) {
		enum hbm_tier kind = i == HBM ? HBM_TIER_HBM : HBM_TIER_DDR;
		assert_int_equal(tier_init(&setting->tiers[i], kind, i, SLOTS * STORED, 0, SLOTS),
				 0);
		assert_int_equal(tier_grow(&setting->tiers[i], 0, SLOTS * STORED), 0);
	}

	blocks_init(&setting->blocks, setting->index, setting->namespaces, setting->tiers,
		    setting->pinned, setting->owners);
	setting->listener =
		(struct block_listener){.placed = hear_placed, .unplaced = hear_unplaced};
	block_listen(&setting->blocks, &setting->listener);
	setting->ns = open_namespace(setting->namespaces, &setting->ledger,
				     &(struct hbm_wire_namespace_spec){.block_bytes = BYTES});
	assert_int_equal(setting->ns, 1);
}

/* Nothing is left of any block. */
static void setting_close(struct setting *setting)
{
	assert_int_equal(index_count(setting->index), 0);
	for (int i = HBM; i <= DDR; i++) {
		const struct tier *tier = &setting->tiers[i];

		assert_int_equal(tier->placed, 0);
		assert_int_equal(tier->moving, 0);
		assert_int_equal(tier->blocks, 0);
		assert_int_equal(tier->bytes, 0);
		assert_int_equal(tier->logical_bytes, 0);
		assert_int_equal(pinned(setting, i), 0);
		payer_close(&setting->pinned[i]);
		assert_int_equal(tier->inbound_first, 0);
		assert_int_equal(tier->inbound_last, 0);
		assert_int_equal(extent_available(tier->extents), SLOTS * STORED);
		tier_clear(&setting->tiers[i]);
	}

	namespaces_unref(setting->namespaces, setting->ns);
	assert_int_equal(namespaces_count(setting->namespaces), 0); /* it counted its blocks */
	setting->namespaces = namespaces_free(setting->namespaces);
	setting->index = index_free(setting->index);
	assert_int_equal(leaks_end(&setting->leaks), 0);
}

static struct place slot(struct setting *setting, int tier)
{
	uint32_t unit = tier_alloc(&setting->tiers[tier], STORED);
	assert_int_not_equal(unit, UINT32_MAX);
	return (struct place){&setting->tiers[tier], unit};
}

static uint32_t begin(struct setting *setting)
{
	struct hbm_wire_key key = {{1}};
	key.bytes[1] = (uint8_t)++setting->keys;
	uint32_t number = block_begin_store(&setting->blocks, setting->ns, &key);
	assert_int_not_equal(number, 0);
	return number;
}

/* A complete block in HBM that belongs there. */
static uint32_t resident(struct setting *setting)
{
	uint32_t number = begin(setting);
	block_set_target(&setting->blocks, number, &setting->tiers[HBM]);
	block_stored(&setting->blocks, number, slot(setting, HBM));
	return number;
}

static enum block_state state_of(const struct setting *setting, uint32_t number)
{
	return block_get(&setting->blocks, number)->state;
}

/* ---- every transition ---- */

static const struct {
	enum block_state from;
	enum block_event event;
	enum block_state to;
} allowed[] = {
	{BLOCK_ABSENT, BLOCK_BEGIN_STORE, BLOCK_STORING},
	{BLOCK_STORING, BLOCK_STORED, BLOCK_RESIDENT},
	{BLOCK_STORING, BLOCK_DROP, BLOCK_STORING_DROPPED},
	{BLOCK_STORING_DROPPED, BLOCK_ABANDON_STORE, BLOCK_DROPPED},
	{BLOCK_RESIDENT, BLOCK_BEGIN_MOVE, BLOCK_MOVING},
	{BLOCK_RESIDENT, BLOCK_USE, BLOCK_RESIDENT},
	{BLOCK_RESIDENT, BLOCK_UNUSE, BLOCK_RESIDENT},
	{BLOCK_RESIDENT, BLOCK_DROP, BLOCK_DROPPED},
	{BLOCK_RESIDENT, BLOCK_TAKE_COPY, BLOCK_RESIDENT},
	{BLOCK_MOVING, BLOCK_PLACED, BLOCK_RESIDENT},
	{BLOCK_MOVING, BLOCK_END_MOVE, BLOCK_RESIDENT},
	{BLOCK_MOVING, BLOCK_USE, BLOCK_MOVING},
	{BLOCK_MOVING, BLOCK_UNUSE, BLOCK_MOVING},
	{BLOCK_MOVING, BLOCK_DROP, BLOCK_MOVING_DROPPED},
	{BLOCK_MOVING_DROPPED, BLOCK_END_MOVE, BLOCK_DROPPED},
	{BLOCK_MOVING_DROPPED, BLOCK_USE, BLOCK_MOVING_DROPPED},
	{BLOCK_MOVING_DROPPED, BLOCK_UNUSE, BLOCK_MOVING_DROPPED},
	{BLOCK_DROPPED, BLOCK_BEGIN_MOVE, BLOCK_MOVING_DROPPED},
	{BLOCK_DROPPED, BLOCK_USE, BLOCK_DROPPED},
	{BLOCK_DROPPED, BLOCK_UNUSE, BLOCK_DROPPED},
};

/* What is to follow; BLOCK_ABSENT: it is refused. */
static enum block_state expected(enum block_state state, enum block_event event)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (allowed[i].from == state && allowed[i].event == event)
			return allowed[i].to;
	return BLOCK_ABSENT;
}

/* A block in that state, with a reference so that it stays, and with a user where that is
 * wanted and possible. */
static uint32_t block_in(struct setting *setting, enum block_state state, bool used)
{
	if (state == BLOCK_ABSENT)
		return 1; /* of an empty table */

	struct blocks *blocks = &setting->blocks;
	bool complete = state != BLOCK_STORING && state != BLOCK_STORING_DROPPED;
	uint32_t number = complete ? resident(setting) : begin(setting);
	if (!complete)
		block_set_target(blocks, number, &setting->tiers[HBM]);

	block_ref(blocks, number);
	if (complete && used)
		block_use(blocks, number);
	if (state == BLOCK_MOVING || state == BLOCK_MOVING_DROPPED)
		block_begin_move(blocks, number, 7);
	if (state >= BLOCK_STORING_DROPPED)
		block_drop(blocks, number);

	assert_int_equal(state_of(setting, number), state);

	return number;
}

static void do_event(struct setting *setting, uint32_t number, enum block_event event)
{
	struct blocks *blocks = &setting->blocks;
	switch (event) {
	case BLOCK_STORED:
		block_stored(blocks, number, slot(setting, HBM));
		break;
	case BLOCK_ABANDON_STORE:
		block_abandon_store(blocks, number);
		break;
	case BLOCK_BEGIN_MOVE:
		block_begin_move(blocks, number, 9);
		break;
	case BLOCK_PLACED:
		block_placed(blocks, number, slot(setting, DDR));
		break;
	case BLOCK_END_MOVE:
		block_end_move(blocks, number);
		break;
	case BLOCK_USE:
		block_use(blocks, number);
		break;
	case BLOCK_UNUSE:
		block_unuse(blocks, number);
		break;
	case BLOCK_DROP:
		block_drop(blocks, number);
		break;
	case BLOCK_TAKE_COPY:
		assert_false(block_take_copy(blocks, number)); /* it has none */
		break;
	default:
		fail_msg("no such event: %d", (int)event);
	}
}

/* Whatever state it is in, to its end. */
static void end_block(struct setting *setting, uint32_t number)
{
	struct blocks *blocks = &setting->blocks;
	const struct block *block = block_get(blocks, number);
	if (!block_is_dropped(block))
		block_drop(blocks, number);
	if (block->state == BLOCK_STORING_DROPPED)
		block_abandon_store(blocks, number);
	if (block->state == BLOCK_MOVING_DROPPED)
		block_end_move(blocks, number);

	while (block->users > 0)
		block_unuse(blocks, number);

	for (int i = HBM; i <= DDR; i++)
		while (setting->tiers[i].inbound_first != 0)
			block_unqueue(blocks, &setting->tiers[i]);

	assert_true(index_used(setting->index, number));
	assert_true(block_unref(blocks, number));
	assert_false(index_used(setting->index, number));
}

/* The signal that ends a child in which this is done; 0: it is allowed. */
static int signal_of(struct setting *setting, uint32_t number, enum block_event event)
{
	pid_t child = fork();

	assert_in_range(child, 0, INT32_MAX);

	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		do_event(setting, number, event);
		_exit(0);
	}

	int status;
	assert_int_equal(waitpid(child, &status, 0), child);

	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_every_transition(void **state)
{
	(void)state;
	for (enum block_state from = BLOCK_ABSENT; from < BLOCK_STATES; from++) {
		for (enum block_event event = 0; event < BLOCK_EVENTS; event++) {
			enum block_state to = expected(from, event);

			assert_int_equal(block_next(from, event), to);
			if (event == BLOCK_BEGIN_STORE)
				continue; /* it takes no number: there is nothing to refuse */

			struct setting setting;
			setting_open(&setting);
			uint32_t number = block_in(&setting, from, event != BLOCK_PLACED);
			assert_int_equal(signal_of(&setting, number, event),
					 to == BLOCK_ABSENT ? SIGABRT : 0);
			if (to != BLOCK_ABSENT) {
				do_event(&setting, number, event);
				assert_int_equal(state_of(&setting, number), to);
			}

			if (from != BLOCK_ABSENT)
				end_block(&setting, number);

			setting_close(&setting);
		}
	}
}

/* What a state allows, but not for this block. */
static void test_transitions_that_need_more_than_the_state(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);

	uint32_t idle = block_in(&setting, BLOCK_DROPPED, false);
	assert_int_equal(signal_of(&setting, idle, BLOCK_USE), SIGABRT); /* its place is gone */
	assert_int_equal(signal_of(&setting, idle, BLOCK_UNUSE), SIGABRT);
	assert_int_equal(signal_of(&setting, idle, BLOCK_BEGIN_MOVE), SIGABRT);
	uint32_t unused = block_in(&setting, BLOCK_RESIDENT, false);
	assert_int_equal(signal_of(&setting, unused, BLOCK_UNUSE), SIGABRT);
	uint32_t used = block_in(&setting, BLOCK_MOVING, true);
	assert_int_equal(signal_of(&setting, used, BLOCK_PLACED),
			 SIGABRT); /* somebody reads there */

	end_block(&setting, idle);
	end_block(&setting, unused);
	end_block(&setting, used);
	setting_close(&setting);
}

static void test_questions(void **state)
{
	(void)state;
	static const bool complete[BLOCK_STATES] = {[BLOCK_RESIDENT] = true, [BLOCK_MOVING] = true};
	static const bool moving[BLOCK_STATES] = {
		[BLOCK_MOVING] = true, [BLOCK_MOVING_DROPPED] = true};
	static const bool dropped[BLOCK_STATES] = {[BLOCK_STORING_DROPPED] = true,
						   [BLOCK_MOVING_DROPPED] = true,
						   [BLOCK_DROPPED] = true};
	for (enum block_state from = BLOCK_STORING; from < BLOCK_STATES; from++) {
		struct setting setting;

		setting_open(&setting);
		uint32_t number = block_in(&setting, from, true);
		const struct block *block = block_get(&setting.blocks, number);
		assert_int_equal(block_is_complete(block), complete[from]);
		assert_int_equal(block_is_dropped(block), dropped[from]);
		assert_int_equal(block->move, moving[from] ? 7 : 0);
		assert_int_equal(block_target(&setting.blocks, number) != NULL, !dropped[from]);
		end_block(&setting, number);
		setting_close(&setting);
	}
}

/* ---- places ---- */

static void test_slots_follow_the_block(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *hbm = &setting.tiers[HBM], *ddr = &setting.tiers[DDR];
	uint32_t number = resident(&setting);
	assert_int_equal(hbm->placed, STORED);

	block_begin_move(&setting.blocks, number, 1);
	assert_int_equal(hbm->placed, 0);
	assert_int_equal(hbm->moving, STORED);
	block_end_move(&setting.blocks, number);
	assert_int_equal(hbm->placed, STORED);

	block_begin_move(&setting.blocks, number, 2);
	block_set_target(&setting.blocks, number, ddr);
	struct place place = slot(&setting, DDR);
	block_placed(&setting.blocks, number, place);
	assert_int_equal(hbm->placed + hbm->moving, 0);
	assert_int_equal(ddr->placed, STORED);
	assert_int_equal(block_place(&setting.blocks, number).unit, place.unit);
	assert_int_equal(block_get(&setting.blocks, number)->move, 0);

	block_drop(&setting.blocks, number);
	assert_false(index_used(setting.index, number));
	setting_close(&setting);
}

/* A dropped block keeps its slot while it has users, and its number while anything names
 * it. */
static void test_a_dropped_block_goes_when_idle(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = resident(&setting);
	block_use(&setting.blocks, number);
	block_use(&setting.blocks, number);
	block_ref(&setting.blocks, number);
	block_set_target(&setting.blocks, number, &setting.tiers[DDR]); /* it is queued there */
	block_drop(&setting.blocks, number);

	block_unuse(&setting.blocks, number);
	assert_int_equal(setting.tiers[HBM].placed, STORED);
	block_unuse(&setting.blocks, number);
	assert_int_equal(setting.tiers[HBM].placed, 0);
	assert_true(block_unref(&setting.blocks, number));
	assert_true(index_used(setting.index, number));
	block_unqueue(&setting.blocks, &setting.tiers[DDR]);
	assert_false(index_used(setting.index, number));
	setting_close(&setting);
}

/* One that is dropped while it moves goes, with its slot, when the move ends. */
static void test_a_dropped_block_goes_when_its_move_ends(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = resident(&setting);
	block_begin_move(&setting.blocks, number, 1);
	block_drop(&setting.blocks, number);
	assert_true(index_used(setting.index, number));
	assert_int_equal(setting.tiers[HBM].moving, STORED);
	block_end_move(&setting.blocks, number);
	assert_false(index_used(setting.index, number));
	assert_int_equal(setting.tiers[HBM].placed + setting.tiers[HBM].moving, 0);
	setting_close(&setting);
}

static void assert_heard(const struct setting *setting, uint32_t i, bool placed, int to, int from)
{
	const struct tier *tiers = setting->tiers;
	assert_in_range(i, 0, setting->heard_count - 1);
	assert_int_equal(setting->heard[i].placed, placed);
	assert_ptr_equal(setting->heard[i].to, to != 0 ? &tiers[to] : NULL);
	assert_ptr_equal(setting->heard[i].from, from != 0 ? &tiers[from] : NULL);
}

static void test_listeners_hear_of_places(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = resident(&setting);
	assert_heard(&setting, 0, true, HBM, 0);

	block_begin_move(&setting.blocks, number, 1);
	block_end_move(&setting.blocks, number);
	assert_int_equal(setting.heard_count, 1); /* it stayed */
	block_begin_move(&setting.blocks, number, 1);
	block_set_target(&setting.blocks, number, &setting.tiers[DDR]);
	block_placed(&setting.blocks, number, slot(&setting, DDR));
	assert_heard(&setting, 1, false, DDR, HBM);
	assert_heard(&setting, 2, true, DDR, HBM);

	block_use(&setting.blocks, number);
	block_drop(&setting.blocks, number);
	assert_int_equal(setting.heard_count, 3); /* its bytes are still read */
	block_unuse(&setting.blocks, number);
	assert_heard(&setting, 3, false, 0, DDR);
	assert_int_equal(setting.heard_count, 4);
	setting_close(&setting);
}

static void test_a_store_that_fails_has_no_place(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = begin(&setting);
	block_drop(&setting.blocks, number);
	assert_true(index_used(setting.index, number));
	block_abandon_store(&setting.blocks, number);
	assert_false(index_used(setting.index, number));
	assert_int_equal(setting.heard_count, 0);
	setting_close(&setting);
}

/* ---- queues ---- */

static void test_misplaced_blocks_are_queued_in_order(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *hbm = &setting.tiers[HBM], *ddr = &setting.tiers[DDR];
	uint32_t first = resident(&setting), second = resident(&setting),
		 third = resident(&setting);
	block_set_target(&setting.blocks, first, ddr);
	block_begin_move(&setting.blocks, second, 1);
	block_set_target(&setting.blocks, second, ddr); /* moving: not now */
	block_set_target(&setting.blocks, third, ddr);
	block_end_move(&setting.blocks, second);

	const uint32_t order[] = {first, third, second};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ddr->inbound_first, order[i]);
		block_set_target(&setting.blocks, order[i], hbm); /* where it is */
		block_unqueue(&setting.blocks, ddr);
	}

	assert_int_equal(ddr->inbound_first, 0);
	assert_int_equal(hbm->inbound_first, 0);

	for (int i = 0; i < 3; i++)
		block_drop(&setting.blocks, order[i]);
	setting_close(&setting);
}

/* One that waits on a queue and belongs elsewhere by the time it is taken off waits there
 * instead. */
static void test_a_queued_block_changes_queues_when_taken_off(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *hbm = &setting.tiers[HBM], *ddr = &setting.tiers[DDR];
	uint32_t number = resident(&setting);
	block_set_target(&setting.blocks, number, ddr);
	block_begin_move(&setting.blocks, number, 1);
	block_placed(&setting.blocks, number, slot(&setting, DDR)); /* a load moved it */
	block_set_target(&setting.blocks, number, hbm);
	assert_int_equal(hbm->inbound_first, 0); /* the other queue still has it */
	block_unqueue(&setting.blocks, ddr);
	assert_int_equal(hbm->inbound_first, number);

	block_begin_move(&setting.blocks, number, 1);
	block_unqueue(&setting.blocks, hbm);
	assert_int_equal(hbm->inbound_first, 0); /* moving */
	block_end_move(&setting.blocks, number);
	assert_int_equal(hbm->inbound_first, number);

	block_drop(&setting.blocks, number);
	block_unqueue(&setting.blocks, hbm);
	setting_close(&setting);
}

/* ---- accounts ---- */

static void test_sizes(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = resident(&setting);
	const struct tier *hbm = &setting.tiers[HBM];
	const struct namespace *ns = namespaces_get(setting.namespaces, setting.ns);
	assert_int_equal(block_logical_bytes(&setting.blocks, number), BYTES);
	assert_int_equal(block_stored_bytes(block_get(&setting.blocks, number)), STORED);
	assert_int_equal(hbm->bytes, STORED);
	assert_int_equal(hbm->logical_bytes, BYTES);
	assert_int_equal(ns->blocks_in[HBM_TIER_HBM], 1);

	block_ref(&setting.blocks, number);
	block_ref(&setting.blocks, number);
	assert_int_equal(pinned(&setting, HBM), STORED);
	block_set_target(&setting.blocks, number, NULL);
	assert_int_equal(hbm->bytes + hbm->logical_bytes + hbm->blocks + pinned(&setting, HBM), 0);
	assert_int_equal(ns->blocks_in[HBM_TIER_HBM], 0);

	block_drop(&setting.blocks, number);
	assert_false(block_unref(&setting.blocks, number));
	assert_true(block_unref(&setting.blocks, number));
	setting_close(&setting);
}

/* What is pinned of a tier goes with the blocks that change theirs. */
static void test_pinned_bytes_follow_the_target(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *hbm = &setting.tiers[HBM], *ddr = &setting.tiers[DDR];
	uint32_t numbers[2] = {resident(&setting), resident(&setting)};
	for (int i = 0; i < 2; i++)
		block_ref(&setting.blocks, numbers[i]);
	assert_int_equal(pinned(&setting, HBM), 2 * STORED);

	for (int i = 0; i < 2; i++) {
		block_set_target(&setting.blocks, numbers[i], ddr);
		assert_int_equal(pinned(&setting, HBM), (1 - i) * STORED);
		assert_int_equal(pinned(&setting, DDR), (i + 1) * STORED);
	}

	for (int i = 0; i < 2; i++) {
		block_set_target(&setting.blocks, numbers[i], hbm);
		block_unqueue(&setting.blocks, ddr);
		assert_true(block_unref(&setting.blocks, numbers[i]));
		assert_int_equal(pinned(&setting, HBM), 0);
		block_drop(&setting.blocks, numbers[i]);
	}

	assert_int_equal(pinned(&setting, HBM) + pinned(&setting, DDR), 0);
	setting_close(&setting);
}

static void test_a_full_index_begins_no_block(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t numbers[SLOTS];
	for (uint32_t i = 0; i < SLOTS; i++)
		numbers[i] = begin(&setting);

	const struct hbm_wire_key one_more = {{2}};
	assert_int_equal(block_begin_store(&setting.blocks, setting.ns, &one_more), 0);

	for (uint32_t i = 0; i < SLOTS; i++) {
		block_drop(&setting.blocks, numbers[i]);
		block_abandon_store(&setting.blocks, numbers[i]);
	}
	setting_close(&setting);
}

static void test_the_first_checksum_stays(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = begin(&setting);
	assert_false(block_get(&setting.blocks, number)->checksummed);
	assert_true(block_settle_checksum(&setting.blocks, number, 11));
	assert_true(block_settle_checksum(&setting.blocks, number, 11));
	assert_false(block_settle_checksum(&setting.blocks, number, 12));
	assert_true(block_get(&setting.blocks, number)->checksummed);
	assert_int_equal(block_get(&setting.blocks, number)->checksum, 11);
	block_drop(&setting.blocks, number);
	block_abandon_store(&setting.blocks, number);
	setting_close(&setting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_transition),
		cmocka_unit_test(test_transitions_that_need_more_than_the_state),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_slots_follow_the_block),
		cmocka_unit_test(test_a_dropped_block_goes_when_idle),
		cmocka_unit_test(test_a_dropped_block_goes_when_its_move_ends),
		cmocka_unit_test(test_listeners_hear_of_places),
		cmocka_unit_test(test_a_store_that_fails_has_no_place),
		cmocka_unit_test(test_misplaced_blocks_are_queued_in_order),
		cmocka_unit_test(test_a_queued_block_changes_queues_when_taken_off),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_pinned_bytes_follow_the_target),
		cmocka_unit_test(test_a_full_index_begins_no_block),
		cmocka_unit_test(test_the_first_checksum_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
