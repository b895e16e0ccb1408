/* SPDX-License-Identifier: Apache-2.0 */
/* retain_rig: see retain_rig.h. */
#include "tests/support/retain_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"

struct cache_rig retain_rig;
struct cache *retain_cache;
struct user *retain_user, *retain_other;
uint16_t retain_ns;

void retain_rig_open(const char *name, const uint64_t *units)
{
	cache_rig_open(&retain_rig, name, 1, units);
	retain_cache = retain_rig.cache;
	retain_cache->retained_limit = (struct config_size){.percent = 100};
	retain_ns = cache_rig_namespace(&retain_rig, 1);
	retain_user = user_open(&retain_rig.ledger, 1001);
	retain_other = user_open(&retain_rig.ledger, 1002);
	assert_non_null(retain_user);
	assert_non_null(retain_other);
}

void retain_rig_close(void)
{
	cache_rig_assert_empties(&retain_rig);
	assert_int_equal(retain_cache->retention.count, 0);
	assert_true(list_empty(&retain_cache->retention.retainers));
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED_BLOCKS), 0);
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 0);
	retain_other = user_close(retain_other);
	retain_user = user_close(retain_user);
	cache_rig_close(&retain_rig);
}

uint32_t retain_rig_find(uint32_t n)
{
	return cache_rig_find(&retain_rig, retain_ns, n);
}

/* A root that is used. */
void retain_rig_use(uint32_t n)
{
	cache_rig_request(&retain_rig, retain_ns, &n, 1, 0);
}

int retain_rig_retain_by(struct user *who, uint32_t n, unsigned priority, uint64_t until_ns)
{
	struct cache_retaining retaining;
	uint32_t walk = CACHE_WALK_MAX;

	cache_retain_begin(&retaining, retain_rig_find(n), who, priority, until_ns);
	assert_true(cache_retain_some(retain_cache, &retaining, &walk,
				      &(struct slice){.until_ns = UINT64_MAX}));
	assert_false(retaining.busy);

	return retaining.status;
}

int retain_rig_retain(uint32_t n, unsigned priority)
{
	return retain_rig_retain_by(retain_user, n, priority, clock_now() + HOUR_NS);
}
