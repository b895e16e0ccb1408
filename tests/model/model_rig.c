/* SPDX-License-Identifier: Apache-2.0 */
/* model_rig: see model_rig.h. */
#include "tests/model/model_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

struct model *model;
unsigned char *room[3];

int model_rig_setup(void **state)
{
	(void)state;
	model = model_new(1);
	assert_non_null(model);
	for (int i = 0; i < 3; i++) {
		room[i] = mmap(NULL, MODEL_RIG_ROOM, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(room[i], MAP_FAILED);
	}

	return 0;
}

int model_rig_teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		munmap(room[i], MODEL_RIG_ROOM);
	model = model_free(model);

	return 0;
}

struct model_kv model_rig_plain(enum model_number number, unsigned char *base)
{
	const uint64_t head = (uint64_t)MODEL_HEAD_DIM * model_number_bytes(number);
	struct model_kv kv = {.number = number};

	for (uint32_t i = 0; i < MODEL_LAYERS; i++) {
		kv.layers[i] = (struct model_kv_layer){
			base, base + MODEL_RIG_TOKENS * MODEL_KV_HEADS * head,
			MODEL_KV_HEADS * head, head};
		base += 2ull * MODEL_RIG_TOKENS * MODEL_KV_HEADS * head;
	}

	return kv;
}

void model_rig_same(const struct model_run *a, const struct model_run *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->tokens, b->tokens, a->count * sizeof(*a->tokens));
	assert_int_equal(a->digest, b->digest);
}
