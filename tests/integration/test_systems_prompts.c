/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompts that are put together of what is there, and weights that change under it, each by what its memory does,
 * in miniature: rows of the table in hbm(7). What a test asserts is what its system needs, which is
 * at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/system_stage.h"

#include <poll.h>
#include <string.h>

/* Tokens of 8 KiB in each of two buffers: any token can begin a block. */
#define EVEN_LAYOUT "layers=2 heads=4 dim=512 bytes=2 order=token max=512"
#define EVEN_TOKEN 8192u

static struct pool_rig rig;

static void start(const char *const *sets, const char *layout)
{
	system_stage_start(sets);
	system_stage_pool(&rig, layout, 0, 0);
}

static void finish(void)
{
	pool_rig_close(&rig);
	system_stage_finish();
}

/* ---- Pieces of prompts: a block has some tokens of a sequence, wherever they are in it ---- */

#define PIECE_TOKENS 16u
#define PIECE_BYTES (2ull * PIECE_TOKENS * EVEN_TOKEN)

/* The tokens of a sequence from `position` on as a block of that name. */
static void piece_of(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
		     uint64_t name, struct hbm_block *block, struct hbm_segment segments[2])
{
	struct hbm_region *region = hbm_pool_region(engine->pool);
	const uint64_t slot = pool_rig_facts(sequence).address - hbm_region_address(region);

	for (uint32_t buffer = 0; buffer < 2; buffer++) {
		struct hbm_buffer facts;

		assert_int_equal(hbm_layout_buffer(engine->layout, buffer, &facts), 0);
		segments[buffer] =
			(struct hbm_segment){region, slot + facts.offset + position * EVEN_TOKEN,
					     PIECE_TOKENS * EVEN_TOKEN};
	}
	*block = (struct hbm_block){.key = kv_key(name), .segments = segments, .segment_count = 2};
}

/* What became of the block. */
static uint32_t piece_put(struct pool_rig *engine, uint32_t ns, enum hbm_tier tier,
			  struct hbm_sequence *sequence, uint64_t position, uint64_t name)
{
	struct hbm_segment segments[2];
	struct hbm_block block;
	hbm_result result;

	piece_of(engine, sequence, position, name, &block, segments);
	block.tier = tier;
	assert_int_equal(hbm_store(engine->hbm, ns, &block, 1, &result), 0);

	return result.status;
}

static uint32_t piece_get(struct pool_rig *engine, uint32_t ns, struct hbm_sequence *sequence,
			  uint64_t position, uint64_t name)
{
	struct hbm_segment segments[2];
	struct hbm_block block;
	hbm_result result;

	piece_of(engine, sequence, position, name, &block, segments);
	assert_int_equal(hbm_load(engine->hbm, ns, &block, 1, &result), 0);

	return result.status;
}

/* Tokens [0, count) of piece `name`, at a position of a sequence. */
static void piece_write(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
			uint64_t name)
{
	for (uint64_t i = 0; i < PIECE_TOKENS; i++)
		pool_rig_write(engine, sequence, position + i, 1000 * name + i);
}

static void piece_expect(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
			 uint64_t name)
{
	for (uint64_t i = 0; i < PIECE_TOKENS; i++)
		pool_rig_expect(engine, sequence, position + i, 1000 * name + i);
}

static uint32_t keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint64_t name)
{
	const hbm_key key = kv_key(name);
	hbm_result result;

	assert_int_equal(hbm_keys(hbm, op, ns, 0, &key, 1, &result), 0);

	return result.status;
}

/* ---- Prompt Cache ---- */

static int prompt_users(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_block_info *block = record;
	const hbm_key key = kv_key(1);

	(void)bytes;
	if (memcmp(&block->key, &key, sizeof(key)) == 0)
		*(uint32_t *)arg = block->pins;

	return 0;
}

/* A prompt with two of the modules in another order, between tokens of its own. */
static void prompt_assemble(struct pool_rig *user, uint32_t schema, uint64_t shift)
{
	struct hbm_sequence *prompt;

	system_stage_pool(user, EVEN_LAYOUT, 0, 0);
	assert_int_equal(system_stage_namespace(user->hbm, "schema", 1, PIECE_BYTES), schema);
	prompt = system_stage_prompt(user, 100, 500000);
	for (uint64_t name = 1; name <= 3; name++)
		assert_int_equal(keys(user->hbm, HBM_WIRE_PIN, schema, name), HBM_OK);
	assert_int_equal(piece_get(user, schema, prompt, 7 + shift, 3), HBM_OK);
	assert_int_equal(piece_get(user, schema, prompt, 24 + shift, 1), HBM_OK);
	piece_expect(user, prompt, 7 + shift, 3);
	piece_expect(user, prompt, 24 + shift, 1);
	system_stage_expect(user, prompt, 0, 7, 500000);
	system_stage_expect(user, prompt, 80, 100, 500000);
}

/*
 * Prompt Cache keeps the modules of a schema: each is put once and used by many prompts, at the
 * position that the prompt has for it; how many use one is known, and none is dropped while
 * they do; a new version of a schema does not see the old one's modules; a schema is dropped as
 * a whole.
 */
static void test_system_prompt_cache(void **state)
{
	(void)state;
	struct pool_rig users[2];
	struct hbm_amount dropped;
	uint32_t count = 0;

	start(NULL, EVEN_LAYOUT);
	uint32_t schema = system_stage_namespace(rig.hbm, "schema", 1, PIECE_BYTES), other;
	struct hbm_sequence *encoder = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, encoder, 5 * PIECE_TOKENS), 0);
	for (uint64_t name = 1; name <= 3; name++) {
		piece_write(&rig, encoder, PIECE_TOKENS * name, name);
		assert_int_equal(
			piece_put(&rig, schema, HBM_TIER_NONE, encoder, PIECE_TOKENS * name, name),
			HBM_OK);
	}

	for (size_t i = 0; i < 2; i++)
		prompt_assemble(&users[i], schema, 39 * i);
	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, prompt_users, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(hbm_namespace_drop(rig.hbm, schema, 0, NULL), HBM_DENIED);

	/* A new version is empty, and leaves the old one alone. */
	other = system_stage_namespace(rig.hbm, "schema", 2, PIECE_BYTES);
	assert_int_equal(piece_get(&rig, other, encoder, 0, 1), HBM_MISS);
	piece_write(&rig, encoder, 0, 77);
	assert_int_equal(piece_put(&rig, other, HBM_TIER_NONE, encoder, 0, 1), HBM_OK);
	assert_int_equal(piece_get(&rig, schema, encoder, 0, 1), HBM_OK);
	piece_expect(&rig, encoder, 0, 1);

	/* When nobody uses it any more, it goes as a whole. */
	for (size_t i = 0; i < 2; i++)
		pool_rig_close(&users[i]);
	while (hbm_namespace_drop(rig.hbm, schema, 0, &dropped) == HBM_DENIED)
		poll(NULL, 0, 1);
	assert_int_equal(dropped.blocks, 3);
	assert_int_equal(piece_get(&rig, schema, encoder, 0, 1), HBM_MISS);
	assert_int_equal(piece_get(&rig, other, encoder, 0, 1), HBM_OK);
	piece_expect(&rig, encoder, 0, 77);
	finish();
}

/* ---- LLMLingua, retrieval ---- */

#define CHUNKS 8u
#define WANTED 4u

static enum hbm_tier chunk_tier(uint32_t ns, uint64_t name)
{
	const hbm_key key = kv_key(name);
	struct hbm_lookup answer;
	hbm_result result;

	assert_int_equal(hbm_lookup(rig.hbm, ns, &key, 1, &answer, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	return result.tier;
}

/* Of four chunks behind three tokens, the second and half of the third are dropped. */
static void chunks_drop(struct hbm_sequence *prompt, const uint64_t *names)
{
	const uint64_t begin = 3 + PIECE_TOKENS, end = begin + PIECE_TOKENS * 3 / 2;
	uint64_t set[3 + WANTED * PIECE_TOKENS], kept = 0;

	for (uint64_t i = 0; i < 3 + WANTED * PIECE_TOKENS; i++)
		if (i < begin || i >= end)
			set[kept++] = i;
	assert_int_equal(hbm_sequence_keep(prompt, HBM_AXIS_TOKENS, set, kept), 0);
	assert_int_equal(pool_rig_facts(prompt).tokens, kept);
	piece_expect(&rig, prompt, 3, names[0]);
	for (uint64_t i = 0; i < PIECE_TOKENS / 2; i++)
		pool_rig_expect(&rig, prompt, begin + i, 1000 * names[2] + PIECE_TOKENS / 2 + i);
	piece_expect(&rig, prompt, begin + PIECE_TOKENS / 2, names[3]);
}

/*
 * Retrieval assembles prompts of chunks that lie on NVMe by what is in them: the same chunk is
 * there once, many are prefetched by one call, and they are loaded in any order to any place.
 * LLMLingua shortens prompts: a range of tokens is dropped, and what is left moves together.
 */
static void test_system_llmlingua(void **state)
{
	(void)state;
	static const uint64_t wanted[WANTED] = {6, 2, 8, 3};
	const uint64_t count = WANTED;
	hbm_key prefetched[CHUNKS];
	hbm_result results[CHUNKS];

	start(NULL, EVEN_LAYOUT);
	const uint32_t ns = system_stage_namespace(rig.hbm, "chunks", 0, PIECE_BYTES);
	struct hbm_sequence *source = pool_rig_sequence(&rig), *prompt = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, source, CHUNKS * PIECE_TOKENS), 0);
	for (uint64_t name = 1; name <= CHUNKS; name++) {
		piece_write(&rig, source, PIECE_TOKENS * (name - 1), name);
		assert_int_equal(
			piece_put(&rig, ns, HBM_TIER_NVME, source, PIECE_TOKENS * (name - 1), name),
			HBM_OK);
		assert_int_equal(chunk_tier(ns, name), HBM_TIER_NVME);
	}
	assert_int_equal(piece_put(&rig, ns, HBM_TIER_NVME, source, PIECE_TOKENS, 2), HBM_EXISTS);

	for (uint64_t i = 0; i < count; i++)
		prefetched[i] = kv_key(wanted[i]);
	assert_int_equal(hbm_prefetch(rig.hbm, ns, 0, prefetched, count, 0, results), 0);
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		assert_int_equal(chunk_tier(ns, wanted[i]), HBM_TIER_HBM);
	}
	assert_int_equal(chunk_tier(ns, 1), HBM_TIER_NVME);

	assert_int_equal(pool_rig_step(&rig, prompt, 3 + count * PIECE_TOKENS), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(piece_get(&rig, ns, prompt, 3 + i * PIECE_TOKENS, wanted[i]),
				 HBM_OK);
	for (uint64_t i = 0; i < count; i++)
		piece_expect(&rig, prompt, 3 + i * PIECE_TOKENS, wanted[i]);
	chunks_drop(prompt, wanted);
	finish();
}

/* ---- LoRA, online learning ---- */

/*
 * With adapters and weights that change, KV belongs to a version of the weights: a new version
 * finds nothing of the old one, also under the same key; the old one is dropped as a whole,
 * but not while a request still decodes with it.
 */
static void test_system_lora(void **state)
{
	(void)state;
	struct pool_rig late;
	struct hbm_amount dropped;
	uint32_t versions[3];

	start(NULL, EVEN_LAYOUT);
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, sequence, PIECE_TOKENS), 0);
	for (uint64_t i = 0; i < 3; i++) {
		versions[i] = system_stage_namespace(rig.hbm, i == 2 ? "base+adapter" : "base", i,
						     PIECE_BYTES);
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_MISS);
		piece_write(&rig, sequence, 0, 100 + i);
		assert_int_equal(piece_put(&rig, versions[i], HBM_TIER_NONE, sequence, 0, 1),
				 HBM_OK);
	}
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_OK);
		piece_expect(&rig, sequence, 0, 100 + i);
	}

	/* Version 0 is still in use. */
	system_stage_pool(&late, EVEN_LAYOUT, 0, 0);
	assert_int_equal(system_stage_namespace(late.hbm, "base", 0, PIECE_BYTES), versions[0]);
	assert_int_equal(keys(late.hbm, HBM_WIRE_PIN, versions[0], 1), HBM_OK);
	assert_int_equal(hbm_namespace_drop(rig.hbm, versions[0], 0, NULL), HBM_DENIED);
	assert_int_equal(piece_get(&rig, versions[0], sequence, 0, 1), HBM_OK);
	assert_int_equal(keys(late.hbm, HBM_WIRE_UNPIN, versions[0], 1), HBM_OK);
	assert_int_equal(hbm_namespace_drop(rig.hbm, versions[0], 0, &dropped), 0);
	assert_int_equal(dropped.blocks, 1);
	assert_int_equal(piece_get(&rig, versions[0], sequence, 0, 1), HBM_MISS);
	for (uint64_t i = 1; i < 3; i++) {
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_OK);
		piece_expect(&rig, sequence, 0, 100 + i);
	}
	pool_rig_close(&late);
	finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_prompt_cache),
		TEST(test_system_llmlingua),
		TEST(test_system_lora),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
