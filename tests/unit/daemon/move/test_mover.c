/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mover and all below it, on soft devices and a real file: whatever is asked in
 * whatever order, every byte that comes back is the byte that was stored, everything
 * asked for ends, and at the end the books balance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/move/pump.h"
#include "tests/support/traffic.h"

static void test_stores_and_loads_through_all_tiers(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new("test_stores_and_loads_through_all_tiers");
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;

	/* 8 blocks fit HBM, 16 DDR, 32 NVMe. */
	for (uint32_t first = 0; first < 56; first += TRAFFIC_CHAIN) {
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
	}

	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);
	assert_int_equal(cache_hbm(cache, 0)->placed, 8 * 64 * KIB);
	assert_int_equal(cache->ddr->placed, 16 * 64 * KIB);
	assert_int_equal(cache->nvme->placed, 32 * 64 * KIB);
	assert_int_equal(traffic->failed_stores, 0);

	for (uint32_t first = 0; first < 56; first += TRAFFIC_CHAIN) {
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
	}

	assert_int_equal(traffic->loads, 56);
	assert_int_equal(traffic->stores, 56);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

static void random_test(const char *name, struct traffic *traffic, uint32_t namespaces,
			const uint64_t *sizes)
{
	traffic_open(traffic, namespaces, sizes);
	traffic_random(traffic, 1500);
	print_message("%s: %llu loads, %llu stores, %llu of them dropped meanwhile\n", name,
		      (unsigned long long)traffic->loads, (unsigned long long)traffic->stores,
		      (unsigned long long)traffic->failed_stores);
	assert_int_not_equal(traffic->loads, 0);
	traffic_end(traffic);
}

static void test_random_one_size(void **state)
{
	(void)state;
	random_test(__func__, traffic_new(__func__), 1, traffic_one_size);
}

static void test_random_mixed_sizes(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size.bytes = 2 * MIB;
	traffic->rig.config.nvme_size = 4 * MIB;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_with_all_checksums(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_two_devices(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_without_headroom(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct config *config = &traffic->rig.config;
	config->device_cache.bytes = GRANULE;
	config->device_headroom = (struct config_size){0};
	config->ddr_size.bytes = 2 * MIB;
	config->ddr_headroom = 0;
	config->nvme_size = 4 * MIB;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_with_io_threads(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.io = CONFIG_IO_THREADS;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

/* Few movements at once and a staging area of one large block: nearly everything has to
 * wait for something. */
static void test_random_with_little_of_everything(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct config *config = &traffic->rig.config;
	config->soft_devices = 2;
	config->limit_moves = 1;
	config->nvme_depth = 1;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_without_ddr(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size = (struct config_size){0};
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_without_hbm(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_without_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	free(traffic->rig.config.nvme_path);
	traffic->rig.config.nvme_path = strdup("");
	traffic->rig.config.nvme_size = 0;
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

static void test_random_only_nvme(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	random_test(__func__, traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
}

/* With an argument: only the tests whose names match that pattern. */
/* Payers of moves that the ledger knows. */
static uint64_t payers(struct traffic *traffic)
{
	struct ledger_account accounts[LEDGER_LIMITS];
	unsigned i = 0;

	ledger_audit(&traffic->rig.ledger, accounts);
	ledger_end_recount(&traffic->rig.ledger);
	while (ledger_limits[i].resource != LEDGER_MOVES)
		i++;

	return accounts[i].payers;
}

/* A mover beside the daemon's own, over the same parts. */
static struct mover *another_mover(const struct traffic *traffic)
{
	const struct hbmd *hbmd = &traffic->rig.hbmd;
	const struct mover_options options = {.cache = hbmd->cache,
					      .devices = hbmd->devices,
					      .staging = hbmd->cache->staging,
					      .hash_pool = hbmd->mover->context.hash_pool,
					      .ledger = hbmd->ledger};
	struct mover *mover = NULL;

	assert_int_equal(mover_new(&mover, &options), 0);

	return mover;
}

static void test_a_freed_mover_pays_for_nothing(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct mover *other;

	assert_int_equal(payers(traffic), 2);
	other = another_mover(traffic);
	assert_int_equal(payers(traffic), 4);
	assert_null(mover_free(other));
	assert_int_equal(payers(traffic), 2);
	assert_null(mover_free(NULL));
	traffic_end(traffic);
}

static unsigned batches;

static void count_batch(void *arg)
{
	(void)arg;
	batches++;
}

static void test_a_freed_mover_hears_of_nothing(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	struct mover *other;

	other = another_mover(traffic);
	mover_listen(other, count_batch);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_not_equal(batches, 0);

	batches = 0;
	mover_free(other);
	traffic_use(traffic, 0, 1, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(batches, 0);
	pump_start(traffic->rig.hbmd.mover, traffic->rig.loop);
	traffic_end(traffic);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_freed_mover_pays_for_nothing),
		cmocka_unit_test(test_a_freed_mover_hears_of_nothing),
		cmocka_unit_test(test_stores_and_loads_through_all_tiers),
		cmocka_unit_test(test_random_one_size),
		cmocka_unit_test(test_random_mixed_sizes),
		cmocka_unit_test(test_random_two_devices),
		cmocka_unit_test(test_random_with_all_checksums),
		cmocka_unit_test(test_random_without_headroom),
		cmocka_unit_test(test_random_with_io_threads),
		cmocka_unit_test(test_random_with_little_of_everything),
		cmocka_unit_test(test_random_without_ddr),
		cmocka_unit_test(test_random_without_hbm),
		cmocka_unit_test(test_random_without_nvme),
		cmocka_unit_test(test_random_only_nvme),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
