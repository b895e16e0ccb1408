/* SPDX-License-Identifier: Apache-2.0 */
/* soft_pool: see soft_pool.h. */
#include "tests/support/soft_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/region/slab.h"

#define DEFAULT_SLAB (4 * MIB)

static void pool_watchman(struct timer *timer)
{
	struct soft_pool *pool = container_of(timer, struct soft_pool, watchman);

	pool->came_true = pool->wanted(pool->arg);

	if (pool->came_true || clock_now() > pool->until_ns)
		loop_stop(pool->loop);
	else
		loop_timer_set(pool->loop, timer, clock_now() + 100000);
}

void pool_run(struct soft_pool *pool, bool (*wanted)(void *arg), void *arg)
{
	pool->wanted = wanted;
	pool->arg = arg;
	pool->until_ns = clock_now() + 10000000000ull;
	pool->watchman.fire = pool_watchman;
	loop_timer_set(pool->loop, &pool->watchman, 0);
	assert_int_equal(loop_run(pool->loop), 0);
	assert_int_equal(pool->came_true, true);
}

bool pool_is_quiet(void *arg)
{
	struct soft_pool *pool = arg;
	bool quiet = true;

	for (uint32_t i = 0; i < pool->devices->count; i++) {
		struct slabs_books books = slabs_books(pool->devices->list[i].slabs);

		assert_null(slabs_check(pool->devices->list[i].slabs));
		quiet = quiet && books.retiring == 0;
	}

	return quiet;
}

bool pool_is_full(void *arg)
{
	struct soft_pool *pool = arg;
	bool full = pool_is_quiet(pool);

	for (uint32_t i = 0; i < pool->devices->count; i++)
		full = full && slabs_books(pool->devices->list[i].slabs).uncreated < DEFAULT_SLAB;

	return full;
}

void pool_begin(struct soft_pool *pool, uint64_t budget, const struct region_kept *kept)
{
	char error[256] = "";

	log_open(LOG_CRIT);
	assert_int_equal(config_defaults(&pool->config), 0);

	pool->config.driver = CONFIG_DRIVER_SOFT;
	pool->config.soft_devices = 2;
	pool->config.soft_memory = budget > 64 * MIB ? budget : 64 * MIB;

	assert_int_equal(loop_new(&pool->loop, &(struct loop_options){.io_depth = 1}), 0);
	if (devices_open(&pool->devices, &pool->config, pool->loop, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_int_equal(pool->devices->count, 2);

	pool->call = soft_calls_of(pool->devices->driver);

	for (uint32_t i = 0; i < 2; i++) {
		struct device *device = &pool->devices->list[i];

		assert_int_equal(
			slabs_open(&device->slabs, device, pool->loop, budget, DEFAULT_SLAB, kept),
			0);
	}
}

void pool_open(struct soft_pool *pool, uint64_t budget)
{
	memset(pool, 0, sizeof(*pool));
	leaks_begin(&pool->leaks);
	pool_begin(pool, budget, NULL);
}

void pool_end(struct soft_pool *pool)
{
	for (uint32_t i = 0; i < pool->devices->count; i++)
		pool->devices->list[i].slabs = slabs_close(pool->devices->list[i].slabs);

	assert_int_equal(pool->call.live("handles"), 0);
	assert_int_equal(pool->call.live("mappings"), 0);
	assert_int_equal(pool->call.live("reservations"), 0);

	pool->devices = devices_close(pool->devices);
	pool->loop = loop_free(pool->loop);
	config_clear(&pool->config);
}

void pool_close(struct soft_pool *pool)
{
	pool_end(pool);
	assert_int_equal(leaks_end(&pool->leaks), 0);
}
