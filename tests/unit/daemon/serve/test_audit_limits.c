/* SPDX-License-Identifier: Apache-2.0 */
/* The audit of the limits: whatever is counted, a count that is off by one is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/serve/audit.h"
#include "daemon/serve/audit_limits.h"
#include "tests/support/tier_rig.h"

static const struct hbm_wire_limit *record_of(struct rig *rig, const char *name)
{
	static struct hbm_wire_limit limits[LEDGER_LIMITS];
	uint32_t i = 0;

	struct audit *audit = rig_audit(rig);
	assert_int_equal(audit_limits(&rig->hbmd, audit_recount(audit), limits, LEDGER_LIMITS),
			 LEDGER_LIMITS);
	audit_free(audit);

	while (strcmp(limits[i].name, name) != 0)
		assert_true(++i < LEDGER_LIMITS);

	return &limits[i];
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_init(rig);
	rig_open(rig, GRANULE);
	*state = rig;

	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	rig_close(rig);
	rig_clear(rig);
	free(rig);

	return 0;
}

static void a_count_that_is_off_by_one(void **state)
{
	static const struct {
		const char *name;
		enum ledger_resource resource;
	} counts[] = {
		{"limits.regions", LEDGER_REGIONS},
		{"limits.address_space", LEDGER_ADDRESS_SPACE},
		{"limits.namespaces", LEDGER_NAMESPACES},
		{"limits.namespace_opens", LEDGER_NAMESPACE_OPENS},
		{"limits.blocks", LEDGER_BLOCKS},
		{"limits.pinned", LEDGER_PINNED},
		{"limits.pins", LEDGER_PINS},
		{"limits.moves", LEDGER_MOVES},
		{"limits.sessions", LEDGER_SESSIONS},
		{"limits.silent", LEDGER_SILENT},
		{"limits.requests_in_flight", LEDGER_REQUESTS},
		{"limits.request_bytes", LEDGER_REQUEST_BYTES},
	};
	struct rig *rig = *state;
	struct ledger *ledger = &rig->ledger;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		assert_int_equal(record_of(rig, counts[i].name)->balanced, 1);
		ledger->host.used[counts[i].resource]++;
		const struct hbm_wire_limit *record = record_of(rig, counts[i].name);
		assert_int_equal(record->balanced, 0);
		assert_non_null(strstr(record->problem, "counted 1"));
		ledger->host.used[counts[i].resource]--;
	}
}

/* Both the count and the sums it is made of agree, but nothing is there. */
static void a_count_of_what_is_not_there(void **state)
{
	struct rig *rig = *state;
	struct payer ns;

	payer_open(&ns, &rig->ledger, PAYER_NAMESPACE);
	ledger_add(&ns, LEDGER_BLOCKS, 1);
	const struct hbm_wire_limit *record = record_of(rig, "limits.blocks");
	assert_int_equal(record->balanced, 0);
	assert_string_equal(record->problem, "counted 1, found 0");
	payer_close(&ns);
	assert_int_equal(record_of(rig, "limits.blocks")->balanced, 1);
}

static void what_may_be_pinned_is_a_share_of_each_tier(void **state)
{
	struct rig *rig = *state;
	const struct hbm_wire_limit *record = record_of(rig, "limits.pinned");

	assert_int_equal(record->limit, rig->hbmd.cache->nvme->usable / 2);
	assert_int_equal(record->unit, HBM_UNIT_BYTES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_count_that_is_off_by_one),
		TEST(a_count_of_what_is_not_there),
		TEST(what_may_be_pinned_is_a_share_of_each_tier),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
