/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: whatever is counted, a count that is off is found, and so is what is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/serve/audit.h"
#include "tests/support/tier_rig.h"
#include "tests/support/traffic.h"

enum { ACCOUNTS = 16 };

/* The first problem of any account, or NULL. */
static const char *problem_of(struct rig *rig, uint32_t max)
{
	static struct hbm_wire_account accounts[ACCOUNTS];
	struct audit *audit;

	assert_int_equal(audit_new(&audit, &rig->hbmd), 0);
	while (audit_some(audit, max))
		;
	uint32_t count = audit_accounts(audit, accounts, ACCOUNTS);
	audit_free(audit);

	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(accounts[i].balanced, accounts[i].problem[0] == '\0');
		if (!accounts[i].balanced)
			return accounts[i].problem;
	}

	return NULL;
}

static void assert_problem(struct rig *rig, const char *text)
{
	for (uint32_t max = 1; max < 10000; max *= 16) {
		const char *problem = problem_of(rig, max);
		assert_non_null(problem);
		assert_non_null(strstr(problem, text));
	}
}

static void counts_that_are_off(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct rig *rig = &traffic->rig;
	traffic_open(traffic, 1, traffic_one_size);
	traffic_use(traffic, 0, 0, TRAFFIC_CHAIN, 0);
	traffic_wait(traffic, 0);
	rig_settle(rig);
	assert_null(problem_of(rig, 1));

	struct tier *tier = cache_hbm(rig->hbmd.cache, 0);
	struct {
		uint64_t *count;
		const char *problem;
	} counts[] = {
		{&tier->placed, "free + placed + moving"},
		{&tier->moving, "free + placed + moving"},
		{&tier->copies, "free + placed + moving"},
		{&tier->bytes, "bytes with this target"},
		{&tier->blocks, "blocks with this target"},
		{&tier->logical_bytes, "logical bytes with this target"},
		{&rig->hbmd.cache->pinned[1].used[LEDGER_PINNED], "pinned bytes"},
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		++*counts[i].count;
		assert_problem(rig, counts[i].problem);
		--*counts[i].count;
	}

	tier->placed -= EXTENT_UNIT; /* the sum agrees */
	tier->moving += EXTENT_UNIT;
	assert_problem(rig, "placed bytes");
	tier->placed += EXTENT_UNIT;
	tier->moving -= EXTENT_UNIT;

	tier->copies += EXTENT_UNIT; /* the same */
	tier->moving -= EXTENT_UNIT;
	assert_problem(rig, "bytes of copies");
	tier->copies -= EXTENT_UNIT;
	tier->moving += EXTENT_UNIT;

	uint64_t usable = tier->usable;
	tier->usable = tier->bytes - 1;
	assert_problem(rig, "usable");
	tier->usable = usable;

	struct block *newest =
		&rig->hbmd.cache->blocks.table[order_walk(rig->hbmd.cache->orders[1], 0)];
	uint32_t older = newest->older;
	newest->older = 0;
	assert_problem(rig, "eviction order");
	newest->older = older;

	assert_null(problem_of(rig, 3));
	traffic_end(traffic);
}

/* Between the steps of one audit after another everything happens. */
static void it_balances_in_use(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct rig *rig = &traffic->rig;
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);

	for (unsigned round = 0; round < 25; round++) {
		struct hbm_wire_account accounts[ACCOUNTS];
		struct audit *audit;
		assert_int_equal(audit_new(&audit, &rig->hbmd), 0);
		do {
			traffic_wait(traffic, (uint32_t)seed_below(&traffic->seed,
								   TRAFFIC_SLOTS - TRAFFIC_CHAIN));
			traffic_random_operation(traffic);
		} while (audit_some(audit, 1 + (uint32_t)seed_below(&traffic->seed, 30)));

		uint32_t count = audit_accounts(audit, accounts, ACCOUNTS);
		for (uint32_t i = 0; i < count; i++)
			if (!accounts[i].balanced)
				fail_msg("%s: %s", accounts[i].pool, accounts[i].problem);
		audit_free(audit);
	}

	traffic_random(traffic, 1);
	traffic_end(traffic);
}

/* One that is given up leaves nothing behind. */
static void giving_up(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct audit *audit;
	traffic_open(traffic, 1, traffic_one_size);

	for (unsigned steps = 0; steps < 20; steps++) {
		assert_int_equal(audit_new(&audit, &traffic->rig.hbmd), 0);
		for (unsigned i = 0; i < steps; i++)
			(void)audit_some(audit, 1);
		audit_free(audit);
		traffic_use(traffic, 0, 0, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
	}

	audit_free(NULL);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_that_are_off),
		cmocka_unit_test(it_balances_in_use),
		cmocka_unit_test(giving_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
