/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prompts that are put together of what is there, and weights that change under it, each by
 * what its memory does, in miniature: rows of the table in hbm(7). What a test asserts is what
 * its system needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/system_stage.h"

#include <hbm/saved.h>
#include <signal.h>

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

/* All prompts begin with so many tokens, whole slabs of both buffers; then comes a manual, which
 * is as much and a little more. */
#define PROMPT_LAYOUT "layers=2 heads=4 dim=512 bytes=2 order=token max=1024"
#define PROMPT_HEADER 256u
#define PROMPT_HEADER_BYTES (2 * RIG_SLAB)
#define PROMPT_MANUAL_END (PROMPT_HEADER + 300u)
#define PROMPT_MANUAL_BYTES (2 * RIG_SLAB) /* of it, whole slabs */
#define PROMPT_MODULES 3u

static const struct hbm_saved_space prompt_space = {.model = "prompts"};
static const struct hbm_module prompt_manual = {"support", "manual", 1};

static struct hbm_module prompt_module(uint64_t name, uint64_t version)
{
	static const char *const names[] = {"persona", "glossary", "contract"};

	return (struct hbm_module){"support", names[name - 1], version};
}

/* Piece `name`, which is tokens [position, position + PIECE_TOKENS) of a sequence. */
static int prompt_put(struct hbm_sequence *encoder, uint64_t position, uint64_t name,
		      uint64_t version)
{
	const struct hbm_save_options options = {.tier = HBM_TIER_DDR, .pin = true};
	const struct hbm_module module = prompt_module(name, version);

	return hbm_module_put(encoder, &prompt_space, &module, position, position + PIECE_TOKENS,
			      &options);
}

/* The module is appended, and its bytes are those of piece `name`. */
static int prompt_append(struct pool_rig *user, struct hbm_sequence *prompt, uint64_t which,
			 uint64_t version, uint64_t name)
{
	const struct hbm_module module = prompt_module(which, version);
	const uint64_t position = pool_rig_facts(prompt).tokens;
	int r = hbm_module_map(prompt, &prompt_space, &module);

	if (r == 0)
		piece_expect(user, prompt, position, name);

	return r;
}

static struct hbm_saved prompt_find(struct pool_rig *user, uint64_t name)
{
	const struct hbm_module module = prompt_module(name, 0);
	struct hbm_saved found;

	assert_int_equal(hbm_module_find(user->pool, &prompt_space, &module, &found), 0);

	return found;
}

static struct hbm_token_blocks prompt_header(struct pool_rig *engine, const hbm_key *key)
{
	const struct hbm_namespace_options options = {.model = "prompts"};
	struct hbm_token_blocks header = {.block_tokens = PROMPT_HEADER, .keys = key, .count = 1};

	assert_int_equal(hbm_pool_namespace(engine->pool, &options, PROMPT_HEADER, &header.ns), 0);

	return header;
}

static uint64_t prompt_manual_uses(struct pool_rig *user)
{
	struct hbm_saved found;

	assert_int_equal(hbm_module_find(user->pool, &prompt_space, &prompt_manual, &found), 0);

	return found.uses;
}

/* In a process of its own: the header of all prompts and the manual, own tokens, and modules in
 * an order of its own; then what becomes of it when a module has a new version. */
static void prompt_user(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_pool_options options = {.max_sequences = 4};
	const uint64_t own_end = PROMPT_MANUAL_END + 7 + 39 * number;
	const hbm_key key = kv_key(1);
	struct hbm_sequence *prompt;
	struct pool_rig user;
	uint64_t tokens;
	sigset_t told;
	int which;

	sigemptyset(&told);
	sigaddset(&told, SIGUSR1);
	assert_int_equal(sigprocmask(SIG_BLOCK, &told, NULL), 0);
	pool_rig_open(&user, spawn, PROMPT_LAYOUT, &options);
	const struct hbm_token_blocks header = prompt_header(&user, &key);

	assert_int_equal(hbm_sequence_open_cached(user.pool, NULL, &header, &prompt, &tokens), 0);
	assert_int_equal(tokens, PROMPT_HEADER);
	assert_int_equal(pool_rig_facts(prompt).lent_bytes, PROMPT_HEADER_BYTES);
	assert_int_equal(hbm_module_map(prompt, &prompt_space, &prompt_manual), 0);
	assert_int_equal(pool_rig_facts(prompt).tokens, PROMPT_MANUAL_END);
	assert_int_equal(pool_rig_facts(prompt).lent_bytes,
			 PROMPT_HEADER_BYTES + PROMPT_MANUAL_BYTES);
	assert_int_equal(prompt_manual_uses(&user), number + 1);
	system_stage_grow(&user, prompt, own_end, 700000);
	assert_int_equal(prompt_append(&user, prompt, 3, 0, 3), 0);
	assert_int_equal(prompt_append(&user, prompt, 1, 1, 1), 0);
	assert_int_equal(prompt_find(&user, 1).uses, number + 1);
	assert_int_equal(prompt_find(&user, 2).uses, 0);
	assert_int_equal(hbm_schema_drop(user.pool, &prompt_space, "support"), HBM_DENIED);
	child_tell();
	assert_int_equal(sigwait(&told, &which), 0);

	/* There is a new version: the old one is not found, but where it is in the prompt. */
	assert_int_equal(prompt_find(&user, 1).version, 2);
	assert_int_equal(prompt_append(&user, prompt, 1, 1, 1), HBM_NOT_FOUND);
	assert_int_equal(prompt_append(&user, prompt, 1, 0, 77), 0);
	system_stage_expect(&user, prompt, 0, PROMPT_MANUAL_END, 0);
	system_stage_expect(&user, prompt, PROMPT_MANUAL_END, own_end, 700000);
	piece_expect(&user, prompt, own_end, 3);
	piece_expect(&user, prompt, own_end + PIECE_TOKENS, 1);
	pool_rig_close(&user);
}

/* What all prompts of the schema are made of: the header and the manual, and modules of another
 * prompt. */
static struct hbm_sequence *prompt_encode(void)
{
	const hbm_key key = kv_key(1);
	struct hbm_sequence *encoder = system_stage_prompt(&rig, PROMPT_HEADER, 0);
	const struct hbm_token_blocks header = prompt_header(&rig, &key);

	assert_int_equal(hbm_sequence_store(encoder, &header, 0, NULL), 0);
	system_stage_grow(&rig, encoder, PROMPT_MANUAL_END, 0);
	assert_int_equal(hbm_module_put(encoder, &prompt_space, &prompt_manual, PROMPT_HEADER,
					PROMPT_MANUAL_END, NULL),
			 0);
	assert_int_equal(hbm_sequence_close(encoder), 0);
	encoder = pool_rig_sequence(&rig);
	assert_int_equal(pool_rig_step(&rig, encoder, 5 * PIECE_TOKENS), 0);
	for (uint64_t name = 1; name <= PROMPT_MODULES; name++) {
		piece_write(&rig, encoder, PIECE_TOKENS * name, name);
		assert_int_equal(prompt_put(encoder, PIECE_TOKENS * name, name, 1), 0);
	}

	return encoder;
}

/*
 * Prompt Cache keeps the modules of a schema by name: each is put once and appended by prompts of
 * other processes, at the position that the prompt has for it; what all prompts begin with, and a
 * module where it is whole slabs of theirs, is on the device once, for all of them; how often each
 * was used on the host is known, and none is dropped while it is held; a new version takes the
 * place of the old one, and prompts that have that keep it; a schema is dropped as a whole.
 */
static void test_system_prompt_cache(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.lend=16MiB", "ddr.size=64MiB", NULL};
	const struct hbm_module other = {"travel", "persona", 1};
	struct child users[2];

	start(sets, PROMPT_LAYOUT);
	struct hbm_sequence *encoder = prompt_encode();
	const uint64_t before = system_stage_used(rig.hbm, 0);

	piece_write(&rig, encoder, 0, 9);
	assert_int_equal(hbm_module_put(encoder, &prompt_space, &other, 0, PIECE_TOKENS, NULL), 0);
	assert_int_equal(prompt_put(encoder, 0, 1, 1), HBM_EXISTS);
	for (size_t i = 0; i < 2; i++) {
		child_start(&users[i], "prompt_user", &daemon_, i);
		child_await(&users[i]);
	}

	/* Each has slabs for its own tokens and small modules, and no other ones. */
	assert_int_equal(system_stage_used(rig.hbm, 0),
			 before + 2 * (system_stage_bytes(&rig, PROMPT_MANUAL_END) -
				       PROMPT_HEADER_BYTES - PROMPT_MANUAL_BYTES));
	assert_int_equal(prompt_manual_uses(&rig), 2);
	piece_write(&rig, encoder, 0, 77);
	assert_int_equal(prompt_put(encoder, 0, 1, 2), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(kill(users[i].pid, SIGUSR1), 0);
		assert_int_equal(child_wait(&users[i]), 0);
	}

	assert_int_equal(hbm_schema_drop(rig.pool, &prompt_space, "support"), 0);
	for (uint64_t name = 1; name <= PROMPT_MODULES; name++)
		assert_int_equal(prompt_append(&rig, encoder, name, 0, name), HBM_NOT_FOUND);
	assert_int_equal(hbm_module_map(encoder, &prompt_space, &prompt_manual), HBM_NOT_FOUND);
	assert_int_equal(hbm_module_map(encoder, &prompt_space, &other), 0);
	piece_expect(&rig, encoder, 5 * PIECE_TOKENS, 9);
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

static const struct child_part parts[] = {{"prompt_user", prompt_user}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_prompt_cache),
		TEST(test_system_llmlingua),
		TEST(test_system_lora),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
