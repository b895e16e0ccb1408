/* SPDX-License-Identifier: Apache-2.0 */
/* The shares of what moves to and from a disk may have: what a move claims, and how far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/move/io_share.h"
#include "daemon/tier/tier.h"

#define MIB (UINT64_C(1) << 20)
#define MOVES 8u /* that a payer may have */

static char *host(const struct tier *tier, uint32_t unit)
{
	(void)tier;
	(void)unit;
	return NULL;
}

static void flush(const struct tier *tier)
{
	(void)tier;
}

static const struct tier_ops device_ops, host_ops = {.host = host}, disk_ops = {.flush = flush};

static struct tier staging;
static struct tier hbm = {.ops = &device_ops, .headroom = 4 * MIB};
static struct tier ddr = {.ops = &host_ops, .headroom = 2 * MIB};
static struct tier nvme = {.ops = &disk_ops};

static int set_up(void **state)
{
	(void)state;
	int r = tier_init(&staging, HBM_TIER_NONE, 0, 8 * MIB, 0, 1024);
	return r < 0 ? r : tier_grow(&staging, 0, 8 * MIB);
}

static int tear_down(void **state)
{
	(void)state;
	tier_clear(&staging);
	return hbm.leaving + ddr.leaving + nvme.leaving == 0 ? 0 : -1;
}

static bool allows(const struct io_share *share, const struct io_claim *claim)
{
	return io_share_allows(share, claim, &staging, MOVES);
}

/* Takes as many as are allowed; how many that were. */
static unsigned take_all(struct io_share *share, const struct io_claim *claim)
{
	unsigned taken = 0;
	for (; allows(share, claim); taken++)
		io_share_take(share, claim);
	return taken;
}

static void give_all(struct io_share *share, const struct io_claim *claim, unsigned taken)
{
	for (; taken > 0; taken--)
		io_share_give(share, claim);
}

static void test_claims(void **state)
{
	(void)state;
	const struct {
		const struct tier *from, *to;
		bool any, staged;
		const struct tier *left;
	} cases[] = {
		{&hbm, &ddr, false, false, NULL}, {&ddr, &hbm, false, false, NULL},
		{&hbm, NULL, false, false, NULL}, {&hbm, &nvme, true, true, &hbm},
		{&ddr, &nvme, true, false, &ddr}, {&nvme, &hbm, true, true, NULL},
		{&nvme, &ddr, true, false, NULL}, {&nvme, NULL, true, true, NULL},
		{&nvme, &nvme, true, true, NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct io_claim claim = io_share_claim(cases[i].from, cases[i].to, MIB, i % 2);
		assert_int_equal(claim.any, cases[i].any);
		assert_int_equal(claim.staged, cases[i].staged ? MIB : 0);
		assert_ptr_equal(claim.left, cases[i].left);
		assert_int_equal(claim.bytes, MIB);
		assert_int_equal(claim.for_loads, i % 2);
	}
}

static void test_three_quarters_of_staging(void **state)
{
	(void)state;
	struct io_share share = {0};
	struct io_claim claim = io_share_claim(&nvme, &hbm, 2 * MIB, true);
	assert_int_equal(take_all(&share, &claim), 3);
	assert_int_equal(share.staged, 6 * MIB);
	struct io_claim unstaged = io_share_claim(&nvme, &ddr, 3 * MIB, true);
	assert_true(allows(&share, &unstaged));
	io_share_take(&share, &unstaged);
	assert_int_equal(share.staged, 6 * MIB);
	io_share_give(&share, &unstaged);
	assert_int_equal(share.staged, 6 * MIB);
	give_all(&share, &claim, 3);
	assert_int_equal(share.staged, 0);
	assert_int_equal(share.moves[true], 0);
}

static void test_half_of_the_moves(void **state)
{
	(void)state;
	struct io_share share = {0};
	struct io_claim load = io_share_claim(&nvme, &ddr, 4096, true);
	struct io_claim move = io_share_claim(&nvme, &ddr, 4096, false);
	assert_int_equal(take_all(&share, &load), MOVES / 2);
	assert_int_equal(take_all(&share, &move), MOVES / 2); /* each has its own half */
	give_all(&share, &load, MOVES / 2);
	assert_true(allows(&share, &load));
	assert_false(allows(&share, &move));
	give_all(&share, &move, MOVES / 2);
}

static void test_half_of_the_headroom_that_is_left(void **state)
{
	(void)state;
	struct io_share share = {0};
	struct io_claim claim = io_share_claim(&ddr, &nvme, MIB / 2, false);
	struct io_claim other = io_share_claim(&hbm, &nvme, MIB / 2, false);
	assert_int_equal(take_all(&share, &claim), 2);
	assert_int_equal(ddr.leaving, MIB);
	assert_true(allows(&share, &other)); /* whose tier has all of its own */
	give_all(&share, &claim, 2);
	assert_int_equal(ddr.leaving, 0);
	assert_true(allows(&share, &claim));
}

/* One is always allowed, however large. */
static void test_the_first(void **state)
{
	(void)state;
	struct io_share share = {0};
	struct io_claim claim = io_share_claim(&hbm, &nvme, 100 * MIB, false);
	assert_true(io_share_allows(&share, &claim, &staging, 1));
	assert_int_equal(take_all(&share, &claim), 1);
	give_all(&share, &claim, 1);
}

/* What waits for no disk claims nothing and is never refused. */
static void test_without_a_disk(void **state)
{
	(void)state;
	struct io_share share = {.staged = 8 * MIB, .moves = {MOVES, MOVES}};
	struct io_claim claim = io_share_claim(&hbm, &ddr, 100 * MIB, false);
	assert_true(allows(&share, &claim));
	io_share_take(&share, &claim);
	assert_int_equal(share.staged, 8 * MIB);
	assert_int_equal(share.moves[false], MOVES);
	assert_int_equal(hbm.leaving, 0);
	io_share_give(&share, &claim);
	assert_int_equal(share.moves[false], MOVES);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_claims),
		TEST(test_three_quarters_of_staging),
		TEST(test_half_of_the_moves),
		TEST(test_half_of_the_headroom_that_is_left),
		TEST(test_the_first),
		TEST(test_without_a_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
