/* SPDX-License-Identifier: Apache-2.0 */
/* Copies: the order in which they go, and what becomes of a block and its copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block.h"
#include "daemon/cache/copies.h"
#include "daemon/config/config.h"
#include "tests/support/leaks.h"
#include "tests/support/open_namespace.h"

enum { HBM = 1, DDR = 2, NVME = 3, SLOTS = 8, BYTES = EXTENT_UNIT };

static void test_the_oldest_goes_first(void **state)
{
	(void)state;
	struct copies copies = {0};
	struct tier tier;

	assert_int_equal(copies_open(&copies, &tier, 9), 0);
	assert_int_equal(copies_oldest(&copies), 0);
	for (uint32_t number = 1; number <= 4; number++)
		copies_add(&copies, number, 100 + number);

	assert_int_equal(copies_remove(&copies, 2), 102); /* between two */
	assert_int_equal(copies_oldest(&copies), 1);
	assert_int_equal(copies_remove(&copies, 4), 104); /* the newest */
	copies_add(&copies, 9, 109);
	assert_int_equal(copies_remove(&copies, 1), 101); /* the oldest */
	assert_int_equal(copies_oldest(&copies), 3);
	assert_int_equal(copies_remove(&copies, 3), 103);
	assert_int_equal(copies_oldest(&copies), 9);
	assert_int_equal(copies_remove(&copies, 9), 109);
	assert_int_equal(copies_oldest(&copies), 0);
	copies_add(&copies, 2, 7);
	assert_int_equal(copies_remove(&copies, 2), 7);
	copies_close(&copies);
	copies_close(&copies);
}

/* ---- of blocks ---- */

/* Three tiers, of which the last keeps two copies. */
struct setting {
	struct leaks leaks;
	struct index *index;
	struct namespaces *namespaces;
	struct ledger ledger;
	struct payer pinned[TIER_NUMBERS];
	struct owners owners[TIER_NUMBERS];
	struct tier tiers[TIER_NUMBERS];
	struct blocks blocks;
	uint16_t ns;
	uint8_t keys;
};

static void setting_open(struct setting *setting)
{
	*setting = (struct setting){0};
	leaks_begin(&setting->leaks);
	assert_int_equal(index_new(&setting->index, SLOTS), 0);
	ledger_open(&setting->ledger,
		    &(struct config){.limit_namespaces = 2, .limit_blocks = SLOTS});
	assert_int_equal(namespaces_new(&setting->namespaces, &setting->ledger), 0);

	for (uint8_t i = HBM; i <= NVME; i++) {
		struct tier *tier = &setting->tiers[i];
		uint64_t bytes = (uint64_t)(i == NVME ? 2 : SLOTS) * BYTES;
		payer_open(&setting->pinned[i], &setting->ledger, PAYER_TIER);
		assert_int_equal(tier_init(tier, HBM_TIER_HBM, i, bytes, 0, SLOTS), 0);
		tier->copies_max = i == NVME ? 2ull * BYTES : 0;
		assert_int_equal(tier_grow(tier, 0, bytes + tier->copies_max), 0);
	}

	blocks_init(&setting->blocks, setting->index, setting->namespaces, setting->tiers,
		    setting->pinned, setting->owners);
	assert_int_equal(blocks_keep_copies(&setting->blocks, &setting->tiers[NVME]), 0);
	setting->ns = open_namespace(setting->namespaces, &setting->ledger,
				     &(struct hbm_wire_namespace_spec){.block_bytes = BYTES});
}

static uint64_t books(const struct tier *tier)
{
	return extent_available(tier->extents) + tier->placed + tier->moving + tier->copies +
	       tier->failed;
}

static void setting_close(struct setting *setting)
{
	assert_int_equal(index_count(setting->index), 0);
	for (int i = HBM; i <= NVME; i++) {
		struct tier *tier = &setting->tiers[i];
		assert_int_equal(tier->placed + tier->moving + tier->copies, 0);
		assert_int_equal(books(tier), extent_capacity(tier->extents));
		payer_close(&setting->pinned[i]);
		tier_clear(tier);
	}

	blocks_clear(&setting->blocks);
	assert_null(setting->tiers[NVME].reclaim);
	namespaces_unref(setting->namespaces, setting->ns);
	setting->namespaces = namespaces_free(setting->namespaces);
	setting->index = index_free(setting->index);
	assert_int_equal(leaks_end(&setting->leaks), 0);
}

static struct place slot(struct setting *setting, int tier)
{
	uint32_t unit = tier_alloc(&setting->tiers[tier], BYTES);
	assert_int_not_equal(unit, UINT32_MAX);
	return (struct place){&setting->tiers[tier], unit};
}

static void retarget(struct setting *setting, uint32_t number, int tier)
{
	block_set_target(&setting->blocks, number, &setting->tiers[tier]);
}

/* As the pump does it. */
static void unqueue(struct setting *setting)
{
	for (int i = HBM; i <= NVME; i++)
		while (setting->tiers[i].inbound_first != 0)
			block_unqueue(&setting->blocks, &setting->tiers[i]);
}

static uint32_t block_on_nvme(struct setting *setting)
{
	struct hbm_wire_key key = {{++setting->keys}};
	uint32_t number = block_begin_store(&setting->blocks, setting->ns, &key);
	assert_int_not_equal(number, 0);
	retarget(setting, number, NVME);
	block_stored(&setting->blocks, number, slot(setting, NVME));
	return number;
}

static void move(struct setting *setting, uint32_t number, int to)
{
	retarget(setting, number, to);
	struct place place = slot(setting, to);
	block_begin_move(&setting->blocks, number, 1);
	block_placed(&setting->blocks, number, place);
	if (block_get(&setting->blocks, number)->queued)
		unqueue(setting);

	for (int i = HBM; i <= NVME; i++)
		assert_int_equal(books(&setting->tiers[i]),
				 extent_capacity(setting->tiers[i].extents));
}

static bool has_copy(const struct setting *setting, uint32_t number)
{
	return block_get(&setting->blocks, number)->copied;
}

static void test_up_and_down_again(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *nvme = &setting.tiers[NVME];
	uint32_t number = block_on_nvme(&setting);
	struct place place = block_place(&setting.blocks, number);

	move(&setting, number, HBM);
	assert_true(has_copy(&setting, number));
	assert_int_equal(nvme->copies, BYTES);
	assert_int_equal(nvme->placed + nvme->moving, 0);
	assert_false(block_take_copy(&setting.blocks, number)); /* it is to stay in HBM */
	move(&setting, number, DDR);
	assert_true(has_copy(&setting, number));

	retarget(&setting, number, NVME);
	block_use(&setting.blocks, number);
	assert_false(block_take_copy(&setting.blocks, number)); /* somebody reads in DDR */
	block_unuse(&setting.blocks, number);
	assert_true(block_take_copy(&setting.blocks, number));
	unqueue(&setting);
	assert_ptr_equal(block_place(&setting.blocks, number).tier, nvme);
	assert_int_equal(block_place(&setting.blocks, number).unit, place.unit);
	assert_false(has_copy(&setting, number));
	assert_int_equal(nvme->copies, 0);
	assert_int_equal(nvme->placed, BYTES);
	assert_int_equal(setting.tiers[DDR].placed + setting.tiers[DDR].moving, 0);
	assert_int_equal(nvme->reused_blocks, 1);
	assert_int_equal(nvme->reused_bytes, BYTES);

	block_drop(&setting.blocks, number);
	setting_close(&setting);
}

static void test_a_copy_goes_with_its_block(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = block_on_nvme(&setting);
	move(&setting, number, HBM);

	block_use(&setting.blocks, number);
	block_drop(&setting.blocks, number);
	assert_int_equal(setting.tiers[NVME].copies, 0); /* at once; the block is still read */
	assert_int_equal(setting.tiers[HBM].placed, BYTES);
	block_unuse(&setting.blocks, number);
	setting_close(&setting);
}

static void test_what_is_written_again_has_one_extent(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = block_on_nvme(&setting);
	move(&setting, number, HBM);
	move(&setting, number, NVME);
	assert_false(has_copy(&setting, number));
	assert_int_equal(setting.tiers[NVME].copies, 0);
	assert_int_equal(setting.tiers[NVME].placed, BYTES);
	assert_int_equal(setting.tiers[NVME].reused_blocks, 0);
	block_drop(&setting.blocks, number);
	setting_close(&setting);
}

static void test_more_than_fit(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t numbers[3];

	for (int i = 0; i < 3; i++) {
		numbers[i] = block_on_nvme(&setting);
		move(&setting, numbers[i], HBM);
	}

	assert_int_equal(setting.tiers[NVME].copies, 2 * BYTES);
	assert_false(has_copy(&setting, numbers[0]));
	assert_true(has_copy(&setting, numbers[1]));
	assert_true(has_copy(&setting, numbers[2]));
	for (int i = 0; i < 3; i++)
		block_drop(&setting.blocks, numbers[i]);
	setting_close(&setting);
}

/* Blocks have the capacity, and in transit the room of copies too. */
static void test_an_allocation_takes_the_oldest(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	struct tier *nvme = &setting.tiers[NVME];
	uint32_t first = block_on_nvme(&setting), second = block_on_nvme(&setting);
	move(&setting, first, HBM);
	move(&setting, second, HBM);

	struct place places[4];
	for (int i = 0; i < 4; i++) {
		places[i] = slot(&setting, NVME);
		assert_int_equal(has_copy(&setting, first), i < 2);
		assert_int_equal(has_copy(&setting, second), i < 3);
	}
	assert_int_equal(tier_alloc(nvme, BYTES), UINT32_MAX);
	for (int i = 0; i < 4; i++)
		tier_free(nvme, places[i].unit, BYTES);

	block_drop(&setting.blocks, first);
	block_drop(&setting.blocks, second);
	setting_close(&setting);
}

static void test_a_lost_tier_has_no_copies(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting);
	uint32_t number = block_on_nvme(&setting);
	assert_false(block_copy_is_lost(&setting.blocks, number));
	move(&setting, number, HBM);
	assert_false(block_copy_is_lost(&setting.blocks, number));
	setting.tiers[NVME].lost = true;
	assert_true(block_copy_is_lost(&setting.blocks, number));

	retarget(&setting, number, NVME);
	assert_false(block_take_copy(&setting.blocks, number));
	block_drop_copy(&setting.blocks, number);
	block_drop_copy(&setting.blocks, number);
	assert_false(block_copy_is_lost(&setting.blocks, number));
	assert_int_equal(setting.tiers[NVME].copies, 0);
	block_drop(&setting.blocks, number);
	unqueue(&setting);
	setting_close(&setting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_oldest_goes_first),
		cmocka_unit_test(test_up_and_down_again),
		cmocka_unit_test(test_a_copy_goes_with_its_block),
		cmocka_unit_test(test_what_is_written_again_has_one_extent),
		cmocka_unit_test(test_more_than_fit),
		cmocka_unit_test(test_an_allocation_takes_the_oldest),
		cmocka_unit_test(test_a_lost_tier_has_no_copies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
