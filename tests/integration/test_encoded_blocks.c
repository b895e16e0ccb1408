/* SPDX-License-Identifier: Apache-2.0 */
/* Encoded blocks through the cache: what is decoded after a way to NVMe and back is what was
 * decoded before, and the namespace has the size that the library says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_numbers.h"
#include "tests/support/kv_stage.h"

#include <string.h>

#define LAYERS 4u
#define PLANE (2u * 32 * 4 * 64) /* bytes */
#define PLANES ((uint64_t)PLANE * 2 * LAYERS)
#define ENCODED (1u << 20)
#define LOADED (3u << 19)

static const struct hbm_kv_shape shape = {
	.layers = LAYERS, .tokens = 32, .heads = 4, .head_dim = 64};

struct rig {
	enum hbm_encoding encoding;
	struct hbm_region *region;
	uint64_t memory, bytes;
	CUstream stream;
	uint32_t ns;
	struct hbm_kv_layer layers[LAYERS];
	struct hbm_segment segment;
	struct hbm_block block;
	unsigned char numbers[PLANES], decoded[PLANES], seen[PLANES];
};

static void rig_open_namespace(struct rig *rig)
{
	struct hbm_namespace_options options = {
		.model = "kv", .layout = "test", .block_bytes = rig->bytes};

	options.encoding = rig->encoding;
	if (rig->encoding > HBM_ENCODING_LOSSLESS)
		options.logical_bytes = hbm_encoded_bytes(HBM_ENCODING_RAW, &shape);
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &rig->ns), 0);
}

static void rig_open(struct rig *rig, enum hbm_encoding encoding)
{
	struct seed seed;

	memset(rig, 0, sizeof(*rig));
	rig->encoding = encoding;
	rig->bytes = hbm_encoded_bytes(encoding, &shape);
	assert_in_range(rig->bytes, 4096, LOADED - ENCODED);
	rig->region = kv_region(&kv, 2u << 20);
	rig->memory = hbm_region_address(rig->region);
	rig_open_namespace(rig);
	assert_int_equal(kv.driver->cuCtxSetCurrent(kv.context), CUDA_SUCCESS);
	assert_int_equal(kv.driver->cuStreamCreate(&rig->stream, CU_STREAM_NON_BLOCKING),
			 CUDA_SUCCESS);

	seed_open(&seed, "encoding");
	for (uint64_t i = 0; i < 2 * LAYERS; i++)
		kv_numbers_fill(&seed, (uint16_t *)(void *)(rig->numbers + i * PLANE), shape.tokens,
				(uint64_t)shape.heads * shape.head_dim, HBM_NUMBER_BF16, false);
	for (uint64_t i = 0; i < LAYERS; i++)
		rig->layers[i] = (struct hbm_kv_layer){rig->memory + 2 * i * PLANE,
						       rig->memory + (2 * i + 1) * PLANE};
	rig->block =
		(struct hbm_block){.key = kv_key(7), .segments = &rig->segment, .segment_count = 1};
}

static void rig_close(struct rig *rig)
{
	assert_int_equal(kv.driver->cuStreamDestroy(rig->stream), CUDA_SUCCESS);
	assert_int_equal(hbm_namespace_close(kv.hbm, rig->ns), 0);
	assert_int_equal(hbm_region_destroy(kv.hbm, rig->region), 0);
}

static void synchronise(struct rig *rig)
{
	assert_int_equal(kv.driver->cuStreamSynchronize(rig->stream), CUDA_SUCCESS);
}

/* Decodes the block at `encoded`, over zeros. */
static void decode(struct rig *rig, uint64_t encoded, unsigned char *numbers)
{
	memset(numbers, 0, PLANES);
	kv_write(&kv, rig->memory, numbers, PLANES);
	assert_int_equal(hbm_decode(kv.hbm, 0, rig->encoding, &shape, rig->layers,
				    rig->memory + encoded, rig->stream),
			 0);
	synchronise(rig);
	kv_read(&kv, numbers, rig->memory, PLANES);
}

static void go_round(struct rig *rig)
{
	hbm_result result;

	kv_write(&kv, rig->memory, rig->numbers, PLANES);
	assert_int_equal(hbm_encode(kv.hbm, 0, rig->encoding, &shape, rig->layers,
				    rig->memory + ENCODED, rig->stream),
			 0);
	synchronise(rig);
	decode(rig, ENCODED, rig->decoded);

	rig->segment = (struct hbm_segment){rig->region, ENCODED, rig->bytes};
	assert_int_equal(hbm_store(kv.hbm, rig->ns, &rig->block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_push_to_nvme(&kv);

	rig->segment.offset = LOADED;
	assert_int_equal(hbm_load(kv.hbm, rig->ns, &rig->block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	decode(rig, LOADED, rig->seen);
	assert_memory_equal(rig->seen, rig->decoded, PLANES);
}

/* Something was lost, or nothing. */
static void test_to_nvme_and_back(void **state)
{
	static struct rig rig;

	(void)state;
	for (uint32_t i = 0; i < HBM_ENCODINGS; i++) {
		rig_open(&rig, (enum hbm_encoding)i);
		go_round(&rig);
		assert_int_equal(memcmp(rig.numbers, rig.decoded, PLANES) != 0,
				 i > HBM_ENCODING_LOSSLESS);
		rig_close(&rig);
	}
}

struct seen {
	const char *encoding;
	uint64_t block_bytes, logical_bytes;
};

static int see(const void *record, size_t record_bytes, void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	struct seen *seen = arg;

	(void)record_bytes;
	if (strcmp(ns->encoding, seen->encoding) == 0 && strcmp(ns->layout, "test") == 0) {
		seen->block_bytes = ns->block_bytes;
		seen->logical_bytes = ns->logical_bytes;
	}

	return 0;
}

/* The daemon shows both sizes. */
static void test_sizes(void **state)
{
	static struct rig rig;
	struct seen seen = {.encoding = "int4"};

	(void)state;
	rig_open(&rig, HBM_ENCODING_INT4);
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, see, &seen), 0);
	assert_int_equal(seen.block_bytes, hbm_encoded_bytes(HBM_ENCODING_INT4, &shape));
	assert_int_equal(seen.logical_bytes, PLANES);
	assert_int_equal(seen.block_bytes, PLANES * 5 / 16);
	rig_close(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_to_nvme_and_back),
		TEST(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
