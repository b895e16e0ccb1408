/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction of the library, on a stream of the test: of tokens and of heads, beside plain C,
 * and every byte beside what it writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/client_rig.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#define TARGETS (SLAB / 2)
#define INDICES (SLAB - 4096)
#define LAYERS 200u
#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

static const struct hbm_kv_shape shapes[] = {
	{.layers = 3, .tokens = 64, .heads = 4, .head_dim = 64},
	{.layers = 2, .tokens = 17, .heads = 5, .head_dim = 33},
	{.layers = 200, .tokens = 9, .heads = 2, .head_dim = 8},
	{.layers = 5, .tokens = 3, .heads = 7, .head_dim = 1, .keys_only = true},
};

struct call {
	const struct hbm_kv_shape *shape;
	uint32_t kept, rows; /* tokens or heads */
	uint64_t tables, row_bytes;
	bool heads;
	struct hbm_kv_layer from[LAYERS], to[LAYERS];
};

static uint64_t plane_bytes(const struct call *call, uint64_t rows)
{
	return call->tables * rows * call->row_bytes;
}

static struct call call_of(const struct client_rig *rig, const struct hbm_kv_shape *shape,
			   bool heads, uint32_t kept)
{
	const uint64_t head = shape->head_dim * 2;
	struct call call = {.shape = shape,
			    .kept = kept,
			    .rows = heads ? shape->heads : shape->tokens,
			    .tables = heads ? shape->tokens : 1,
			    .row_bytes = heads ? head : head * shape->heads,
			    .heads = heads};

	for (uint64_t i = 0; i < shape->layers; i++) {
		const uint64_t from = rig->memory + i * 2 * plane_bytes(&call, call.rows);
		const uint64_t to = rig->memory + TARGETS + i * (2 * plane_bytes(&call, kept) + 6);

		call.from[i] = (struct hbm_kv_layer){from, from + plane_bytes(&call, call.rows)};
		call.to[i] = (struct hbm_kv_layer){to, to + plane_bytes(&call, kept) + 2};
	}

	return call;
}

static int compact(const struct client_rig *rig, const struct call *call)
{
	return (call->heads ? hbm_compact_heads
			    : hbm_compact_tokens)(hbm, 0, call->shape, call->from, call->to,
						  rig->memory + INDICES, call->kept, rig->stream);
}

/* In plain C, on the image. */
static void expect(struct client_rig *rig, const struct call *call, uint64_t from, uint64_t to)
{
	const uint32_t *indices = (const uint32_t *)(void *)(rig->image + INDICES);

	for (uint64_t table = 0; table < call->tables; table++)
		for (uint64_t k = 0; k < call->kept; k++)
			if (indices[k] < call->rows)
				memcpy(rig->image + (to - rig->memory) +
					       (table * call->kept + k) * call->row_bytes,
				       rig->image + (from - rig->memory) +
					       (table * call->rows + indices[k]) * call->row_bytes,
				       call->row_bytes);
}

static void compact_one(struct client_rig *rig, const struct hbm_kv_shape *shape, bool heads,
			uint32_t kept)
{
	const struct call call = call_of(rig, shape, heads, kept);
	uint32_t *indices = (uint32_t *)(void *)(rig->image + INDICES);

	/* Any of them, one perhaps twice, and the last of some does not exist. */
	for (uint32_t i = 0; i < kept; i++)
		indices[i] = (uint32_t)seed_below(&rig->seed, call.rows);
	if (kept > 1)
		indices[kept - 1] = call.rows;
	client_rig_put(rig);

	assert_int_equal(compact(rig, &call), 0);
	for (uint32_t i = 0; i < shape->layers; i++) {
		expect(rig, &call, call.from[i].keys, call.to[i].keys);
		if (!shape->keys_only)
			expect(rig, &call, call.from[i].values, call.to[i].values);
	}

	client_rig_check(rig);
}

static void test_compact(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	for (size_t i = 0; i < LENGTH(shapes); i++) {
		const uint32_t tokens = shapes[i].tokens, heads = shapes[i].heads;
		const uint32_t kept[] = {0, 1, tokens / 2, tokens}, few[] = {0, 1, heads};

		for (size_t k = 0; k < LENGTH(kept); k++)
			compact_one(&rig, &shapes[i], false, kept[k]);
		for (size_t k = 0; k < LENGTH(few); k++)
			compact_one(&rig, &shapes[i], true, few[k]);
	}

	client_rig_close(&rig);
}

static void test_refused(void **state)
{
	struct client_rig rig;
	struct call call;

	(void)state;
	client_rig_open(&rig);
	call = call_of(&rig, &shapes[0], true, 2);
	assert_int_equal(soft.fail_nth("cuLaunchKernel", 1, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(compact(&rig, &call), HBM_DEVICE);
	client_rig_close(&rig);

	client_region_reconnect();
	client_rig_open(&rig);
	call = call_of(&rig, &shapes[0], true, 2);
	assert_int_equal(soft.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_NO_BINARY_FOR_GPU), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(compact(&rig, &call), HBM_UNSUPPORTED);
	assert_non_null(strstr(hbm_error(hbm), "compaction"));
	client_rig_check(&rig);
	client_rig_close(&rig);
}

static void test_nonsense(void **state)
{
	const struct hbm_kv_shape shape = {.layers = 1, .tokens = 2, .heads = 3, .head_dim = 4};
	const struct hbm_kv_shape none = {.layers = 1, .tokens = 2, .heads = 3};
	const struct hbm_kv_layer good = {2, 4}, odd = {2, 3}, far = {UINT64_MAX - 3, 2};

	(void)state;
	assert_int_equal(hbm_compact_tokens(hbm, 0, &shape, &good, &good, 0, 3, NULL), HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &shape, &good, &good, 0, 4, NULL), HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &none, &good, &good, 0, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &shape, &good, &good, 2, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &shape, &good, &good, UINT64_MAX - 3, 2, NULL),
			 HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &shape, &odd, &good, 0, 2, NULL), HBM_INVALID);
	assert_int_equal(hbm_compact_heads(hbm, 0, &shape, &good, &far, 0, 2, NULL), HBM_INVALID);
	assert_int_equal(soft.calls("cuModuleLoadData"), 0);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_compact),
		TEST(test_refused),
		TEST(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
