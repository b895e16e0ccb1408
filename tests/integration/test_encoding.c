/* SPDX-License-Identifier: Apache-2.0 */
/* A namespace whose blocks the daemon encodes: what clients and operators see of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kernels/device/jobs.h"
#include "tests/support/kv.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/stage.h"

#define MIB (1ull << 20)
#define BLOCK (256ull << 10)

enum { BLOCKS = 6, CHANNELS = 128 };

static const char *const sets[] = {"device.cache=4MiB", "ddr.size=4MiB", "ddr.staging=4MiB",
				   "nvme.size=16MiB", NULL};

/* ---- a client ---- */

static unsigned open_encoded(struct kv *kv, const struct hbm_namespace_options *options)
{
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(kv, &daemon_, 0, BLOCK, BLOCKS);
	assert_int_equal(hbm_namespace_open(kv->hbm, options, &kv->ns), 0);

	return fds;
}

static void fill(struct seed *seed, uint16_t *numbers)
{
	kv_numbers_fill(seed, numbers, BLOCK / sizeof(*numbers) / CHANNELS, CHANNELS, NUMBER_BF16,
			true);
}

static uint64_t slot_address(const struct kv *kv, uint64_t slot)
{
	return hbm_region_address(kv->region) + slot * BLOCK;
}

static void store_numbers(struct kv *kv)
{
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	struct seed seed = {.state = 5};
	hbm_result results[BLOCKS];
	uint16_t *numbers = malloc(BLOCK);

	assert_non_null(numbers);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		fill(&seed, numbers);
		kv_write(kv, slot_address(kv, i), numbers, BLOCK);
	}

	kv_blocks(kv, 0, 1, BLOCKS, 0, blocks, segments);
	assert_int_equal(hbm_store(kv->hbm, kv->ns, blocks, BLOCKS, results), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);
	free(numbers);
}

static void load_numbers(struct kv *kv)
{
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	struct seed seed = {.state = 5};
	hbm_result results[BLOCKS];
	uint16_t *numbers = malloc(BLOCK), *loaded = malloc(BLOCK);

	assert_non_null(numbers);
	assert_non_null(loaded);
	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_wipe(kv, i);
	kv_blocks(kv, 0, 1, BLOCKS, 0, blocks, segments);
	assert_int_equal(hbm_load(kv->hbm, kv->ns, blocks, BLOCKS, results), 0);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		fill(&seed, numbers);
		kv_read(kv, loaded, slot_address(kv, i), BLOCK);
		assert_memory_equal(loaded, numbers, BLOCK);
	}

	free(loaded);
	free(numbers);
}

static int find_nvme(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;

	(void)bytes;
	if (tier->tier != HBM_TIER_NVME)
		return 0;
	*(struct hbm_wire_tier *)arg = *tier;

	return 1;
}

static struct hbm_wire_tier nvme(struct kv *kv)
{
	struct hbm_wire_tier tier;

	assert_int_equal(hbm_query(kv->hbm, HBM_QUERY_TIERS, find_nvme, &tier), 1);

	return tier;
}

static int find_namespace(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	struct hbm_wire_namespace *wanted = arg;

	assert_int_equal(bytes, sizeof(*ns));
	if (ns->ns != wanted->ns)
		return 0;
	*wanted = *ns;

	return 1;
}

static struct hbm_wire_namespace namespace_of(struct kv *kv)
{
	struct hbm_wire_namespace ns = {.ns = kv->ns};

	assert_int_equal(hbm_query(kv->hbm, HBM_QUERY_NAMESPACES, find_namespace, &ns), 1);

	return ns;
}

/* ---- tests ---- */

static void test_numbers_take_less_of_nvme(void **state)
{
	(void)state;
	struct kv kv;
	unsigned fds = open_encoded(
		&kv, &(struct hbm_namespace_options){.model = "encoded",
						     .block_bytes = BLOCK,
						     .encoding = HBM_ENCODING_LOSSLESS});

	struct hbm_wire_namespace ns = namespace_of(&kv);
	assert_string_equal(ns.encoding, "lossless");
	assert_int_equal(ns.element_bytes, 2);
	assert_int_equal(ns.block_bytes, BLOCK);
	assert_int_equal(ns.logical_bytes, BLOCK);

	store_numbers(&kv);
	kv_push_to_nvme(&kv);
	struct hbm_wire_tier tier = nvme(&kv);
	assert_int_equal(tier.logical_bytes, BLOCKS * BLOCK);
	assert_in_range(tier.bytes, BLOCKS * BLOCK / 2, BLOCKS * BLOCK * 4 / 5);
	assert_int_equal(tier.placed, tier.bytes);
	load_numbers(&kv);
	kv_close(&kv);
	stage_finish(fds);
}

/* The tiers count what the client says it was; the daemon moves what it is. */
static void test_a_client_that_encodes_says_what_it_was(void **state)
{
	(void)state;
	struct kv kv;
	unsigned fds =
		open_encoded(&kv, &(struct hbm_namespace_options){.model = "by the client",
								  .block_bytes = BLOCK,
								  .encoding = HBM_ENCODING_FP8,
								  .logical_bytes = 2 * BLOCK});

	struct hbm_wire_namespace ns = namespace_of(&kv);
	assert_string_equal(ns.encoding, "fp8");
	assert_int_equal(ns.logical_bytes, 2 * BLOCK);
	store_numbers(&kv);
	kv_push_to_nvme(&kv);
	assert_int_equal(nvme(&kv).logical_bytes, 2 * BLOCKS * BLOCK);
	assert_int_equal(nvme(&kv).bytes, BLOCKS * BLOCK);
	load_numbers(&kv);
	kv_close(&kv);
	stage_finish(fds);
}

static void test_what_is_refused(void **state)
{
	(void)state;
	struct kv kv;
	const struct hbm_namespace_options raw = {.model = "x", .block_bytes = BLOCK};
	uint32_t ns = 77;
	unsigned fds = open_encoded(&kv, &raw);
	assert_string_equal(namespace_of(&kv).encoding, "raw");

	struct hbm_namespace_options options = raw;
	options.encoding = HBM_ENCODINGS;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_UNSUPPORTED);
	options.encoding = HBM_ENCODING_LOSSLESS;
	options.element_bytes = 3;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_UNSUPPORTED);
	options.element_bytes = 4;
	options.block_bytes = 4 * MIB; /* and as much again, encoded, in staging */
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_LIMIT);
	options.block_bytes = 2 * MIB;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), 0);

	options = raw;
	options.encoding = HBM_ENCODING_INT4;
	ns = 77;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_INVALID);
	options.logical_bytes = BLOCK - 1;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_INVALID);
	options.logical_bytes = UINT64_MAX;
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), HBM_INVALID);
	assert_int_equal(ns, 77);
	kv_close(&kv);
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_numbers_take_less_of_nvme, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_client_that_encodes_says_what_it_was,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_is_refused, stage_setup, stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
