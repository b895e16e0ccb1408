/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block is removed while a BORROW that has found it goes on in slices, as it uses a long chain: it
 * is not lent. When the two meet nobody knows, so it is tried until they have; that a block was
 * found is seen from its tier.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

enum {
	BLOCK = 4096,
	BATCH = 1024,
	LEAF = 8 * BATCH, /* the end of a chain that begins with 1 */
	ROOT = LEAF + 1,  /* the one that is removed */
	TRIES = 100,
};

static const char *const sets[] = {"device.cache=64MiB", "device.lend=8MiB", NULL};
static struct kv kv, other;
static unsigned fds;

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, BATCH);
	kv_open(&other, &daemon_, 0, BLOCK, 1);
	for (uint64_t first = 1; first < LEAF; first += BATCH)
		assert_int_equal(kv_store(&kv, 0, first, BATCH, first - 1, NULL), 0);

	return 0;
}

static int teardown(void **state)
{
	kv_close(&other);
	kv_close(&kv);
	stage_finish(fds);

	return stage_teardown(state);
}

static void give_back(struct hbm_loan **loans)
{
	for (unsigned i = 0; i < 2; i++)
		if (loans[i])
			assert_int_equal(hbm_return(kv.hbm, &loans[i], 1), 0);
}

/* Whether the root was found, and removed before it was lent. */
static bool borrow_and_remove(void)
{
	const hbm_key keys[2] = {kv_key(LEAF), kv_key(ROOT)};
	struct hbm_loan *before[2] = {NULL}, *loans[2] = {NULL};
	hbm_result found[2], removed;
	hbm_ticket ticket;

	assert_int_equal(kv_store(&kv, 0, ROOT, 1, 0, NULL), 0);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 0, keys, 2, before, found), 0);
	assert_int_equal(found[1].status, HBM_OK);

	/* There are copies of both, which it has: nothing is left to wait for. */
	assert_int_equal(hbm_submit_borrow(kv.hbm, kv.ns, 0, 0, keys, 2, loans, found, &ticket), 0);
	assert_int_equal(kv_keys(&other, HBM_WIRE_REMOVE, ROOT, 1, 0, &removed), 0);
	assert_int_equal(removed.status, HBM_OK);
	assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
	assert_int_equal(found[0].status, HBM_OK);
	assert_true((loans[1] != NULL) == (found[1].status == HBM_OK));
	give_back(loans);
	give_back(before);

	return found[1].status == HBM_MISS && found[1].tier != HBM_TIER_NONE;
}

static void test_a_removed_block_is_not_lent(void **state)
{
	bool seen = false;

	(void)state;
	for (unsigned i = 0; i < TRIES && !seen; i++)
		seen = borrow_and_remove();
	assert_true(seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_removed_block_is_not_lent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
