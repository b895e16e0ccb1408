/* SPDX-License-Identifier: Apache-2.0 */
/* Charges counted again in steps: whatever is charged, grows and is released between two of
 * them, a ledger that is right is found right, and one that is not is found out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"
#include "tests/support/seed.h"

enum { PAYERS = 5, CHARGES = 60 };

struct fixture {
	struct seed seed;
	struct config config;
	struct ledger ledger;
	struct payer payers[PAYERS];
	struct charge charges[PAYERS][CHARGES];
};

static bool is_balanced(struct fixture *fixture)
{
	struct ledger_account accounts[LEDGER_LIMITS];

	ledger_audit(&fixture->ledger, accounts);
	for (unsigned i = 0; i < LEDGER_LIMITS; i++)
		if (!accounts[i].balanced)
			return false;

	return true;
}

static void release_all(struct fixture *fixture, unsigned payer)
{
	for (unsigned i = 0; i < CHARGES; i++)
		ledger_release(&fixture->charges[payer][i]);
}

static void do_something(struct fixture *fixture)
{
	unsigned payer = (unsigned)seed_below(&fixture->seed, PAYERS);
	struct charge *charge = &fixture->charges[payer][seed_below(&fixture->seed, CHARGES)];

	uint64_t what = seed_below(&fixture->seed, 40);

	if (what == 0) { /* a session ends, and another begins */
		release_all(fixture, payer);
		payer_close(&fixture->payers[payer]);
		payer_open(&fixture->payers[payer], &fixture->ledger, PAYER_SESSION);
	} else if (what < 12) {
		ledger_release(charge);
	} else {
		enum ledger_resource resource = what % 2 ? LEDGER_PINS : LEDGER_REQUEST_BYTES;
		ledger_charge_always(charge, &fixture->payers[payer],
				     charge->payer ? charge->resource : resource, what);
	}
}

static void test_charges_between_steps(void **state)
{
	(void)state;
	static struct fixture fixture;
	seed_open(&fixture.seed, __func__);
	assert_int_equal(config_defaults(&fixture.config), 0);
	ledger_open(&fixture.ledger, &fixture.config);
	for (unsigned i = 0; i < PAYERS; i++)
		payer_open(&fixture.payers[i], &fixture.ledger, PAYER_SESSION);

	for (unsigned round = 0; round < 300; round++) {
		struct payer *payer = &fixture.payers[seed_below(&fixture.seed, PAYERS)];
		struct charge *charge = &fixture.charges[0][seed_below(&fixture.seed, CHARGES)];

		do {
			for (uint64_t i = seed_below(&fixture.seed, 6); i > 0; i--)
				do_something(&fixture);
		} while (ledger_recount(&fixture.ledger, 1 + seed_below(&fixture.seed, 20)));

		for (unsigned i = 0; i < 20; i++) { /* it stays right */
			assert_true(is_balanced(&fixture));
			do_something(&fixture);
		}

		payer->used[LEDGER_PINS]++;
		assert_false(is_balanced(&fixture));
		payer->used[LEDGER_PINS]--;
		assert_true(is_balanced(&fixture));
		ledger_end_recount(&fixture.ledger);

		if (charge->payer) {
			charge->amount++;
			assert_false(is_balanced(&fixture));
			charge->amount--;
			ledger_end_recount(&fixture.ledger);
		}
	}

	for (unsigned i = 0; i < PAYERS; i++) {
		release_all(&fixture, i);
		payer_close(&fixture.payers[i]);
	}

	assert_true(is_balanced(&fixture));
	config_clear(&fixture.config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charges_between_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
