/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model (tests/model/model.h) as a client: its KV cache is in a committed region, in each
 * order that a layout may have, and grows with the tokens. It stores its blocks, loses its
 * memory or its process, loads them, and generates what it would have without all that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_run.h"
#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	BLOCK = 16,    /* tokens of a block, and of a page */
	TOKENS = 2048, /* of a sequence, at most */
	/* A slab holds the keys of 1024 tokens in token order: generating crosses into the
	 * second. */
	PROMPT = 1000,
	MORE = 60,
	BUFFERS = 2 * MODEL_LAYERS, /* of a layout, at most */
	BLOCKS = TOKENS / BLOCK,
};
#define SEED 1 /* of the weights */
#define NUMBER MODEL_FP32

/* ---- An engine ---- */

struct engine {
	struct hbm *hbm;
	struct model *model;
	struct hbm_layout *layout;
	struct hbm_layout_facts facts;
	struct hbm_region *region; /* one slot */
	uint64_t committed;        /* for so many tokens */
	uint32_t ns;
	int32_t pages[TOKENS / BLOCK]; /* in block order */
	struct model_kv kv;
};

static void engine_open(struct engine *engine, const struct spawn *spawn,
			enum hbm_layout_order order)
{
	const bool paged = order == HBM_ORDER_BLOCK;
	char fingerprint[HBM_WIRE_NAME_BYTES];

	*engine = (struct engine){.hbm = spawn_connect(spawn), .model = model_new(SEED)};
	assert_non_null(engine->model);
	engine->layout = model_layout_new(order, NUMBER, TOKENS, paged ? BLOCK : 0);
	hbm_layout_facts(engine->layout, &engine->facts);
	hbm_layout_fingerprint(engine->layout, fingerprint);

	const struct hbm_namespace_options ns = {.model = "model",
						 .layout = fingerprint,
						 .weights = SEED,
						 .block_bytes = BLOCK * engine->facts.token_bytes};
	assert_int_equal(hbm_namespace_open(engine->hbm, &ns, &engine->ns), 0);
	const struct hbm_region_options options = {.address_space = engine->facts.slot_bytes,
						   .slab = HBM_LAYOUT_SLAB};
	assert_int_equal(hbm_region_create(engine->hbm, &options, &engine->region), 0);

	for (int32_t i = 0; i < TOKENS / BLOCK; i++)
		engine->pages[i] = i;
	engine->kv = model_layout_kv(engine->layout, NUMBER,
				     model_kv_memory(hbm_region_address(engine->region)),
				     paged ? engine->pages : NULL);
}

static void engine_close(struct engine *engine)
{
	engine->hbm = hbm_close(engine->hbm);
	engine->layout = hbm_layout_free(engine->layout);
	engine->model = model_free(engine->model);
}

/* Every buffer's slabs of tokens [first, end) that those before do not have. */
static size_t engine_ranges(struct engine *engine, uint64_t first, uint64_t end,
			    struct hbm_range *ranges)
{
	size_t count = 0;

	for (uint32_t i = 0; i < engine->facts.buffers; i++) {
		uint64_t has_at, has, at, bytes;
		assert_int_equal(hbm_layout_range(engine->layout, i, 0, first, &has_at, &has), 0);
		assert_int_equal(hbm_layout_range(engine->layout, i, 0, end, &at, &bytes), 0);
		if (bytes > has)
			ranges[count++] = (struct hbm_range){engine->region, at + has, bytes - has};
	}

	return count;
}

static void engine_grow(struct engine *engine, uint64_t tokens)
{
	struct hbm_range ranges[BUFFERS];

	if (tokens <= engine->committed)
		return;
	const size_t count = engine_ranges(engine, engine->committed, tokens, ranges);
	if (count > 0)
		assert_int_equal(hbm_commit(engine->hbm, ranges, count), 0);
	engine->committed = tokens;
}

/* Memory comes just in time: for one token more. */
static void engine_go(struct engine *engine, struct model_run *run, uint32_t more)
{
	for (; more > 0; more--) {
		engine_grow(engine, run->count);
		model_run_go(run, engine->model, &engine->kv, 1);
	}
}

/* Overwrites the memory, so that what is committed later is not what it was, and gives it
 * back. */
static void engine_wipe(struct engine *engine)
{
	struct hbm_range ranges[BUFFERS];
	const size_t count = engine_ranges(engine, 0, engine->committed, ranges);

	for (size_t i = 0; i < count; i++)
		memset(model_kv_memory(hbm_region_address(engine->region)) + ranges[i].offset, 0xa5,
		       ranges[i].bytes);
	assert_int_equal(hbm_decommit(engine->hbm, ranges, count), 0);
	engine->committed = 0;
}

/* ---- Its blocks ---- */

struct blocks {
	struct hbm_block of[BLOCKS];
	struct hbm_segment segments[BLOCKS][BUFFERS];
	hbm_result results[BLOCKS];
	hbm_key keys[BLOCKS];
};
static struct blocks blocks;

/* The blocks of the first `count` tokens, each with a key of all tokens up to its end. */
static uint32_t engine_blocks(struct engine *engine, const struct model_run *run, uint32_t count)
{
	uint64_t hash[2] = {SEED, 0};

	for (uint32_t n = 0; n < count / BLOCK; n++) {
		struct hbm_block *block = &blocks.of[n];
		*block = (struct hbm_block){.segments = blocks.segments[n],
					    .segment_count = engine->facts.buffers};
		if (n > 0)
			block->parent = blocks.keys[n - 1];
		for (uint32_t i = 0; i < BLOCK; i++)
			hash[0] = (hash[0] ^ run->tokens[n * BLOCK + i]) * 0x100000001b3;
		hash[1] = hash[0] * 0x9e3779b97f4a7c15;
		memcpy(block->key.bytes, hash, sizeof(hash));
		blocks.keys[n] = block->key;

		for (uint32_t i = 0; i < engine->facts.buffers; i++) {
			struct hbm_buffer buffer;
			assert_int_equal(hbm_layout_buffer(engine->layout, i, &buffer), 0);
			blocks.segments[n][i] = (struct hbm_segment){
				engine->region, buffer.offset + n * BLOCK * buffer.token_bytes,
				BLOCK * buffer.token_bytes};
		}
	}

	return count / BLOCK;
}

static void engine_store(struct engine *engine, const struct model_run *run)
{
	const uint32_t count = engine_blocks(engine, run, run->cached);

	assert_int_equal(hbm_store(engine->hbm, engine->ns, blocks.of, count, blocks.results), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_true(blocks.results[i].status == HBM_OK ||
			    blocks.results[i].status == HBM_EXISTS);
}

/* Loads all blocks that are there of a run's tokens, but for its last one. What is cached
 * then. */
static void engine_load(struct engine *engine, struct model_run *run)
{
	const uint32_t count = engine_blocks(engine, run, run->count - 1);
	struct hbm_lookup found;

	assert_int_equal(hbm_lookup(engine->hbm, engine->ns, blocks.keys, count, &found, NULL), 0);
	run->cached = found.resident * BLOCK;
	engine_grow(engine, run->cached);
	assert_int_equal(
		hbm_load(engine->hbm, engine->ns, blocks.of, found.resident, blocks.results), 0);
	for (uint32_t i = 0; i < found.resident; i++)
		assert_int_equal(blocks.results[i].status, HBM_OK);
}

static void engine_push_to_nvme(struct engine *engine)
{
	struct kv moves = {.hbm = engine->hbm};

	kv_push_to_nvme(&moves);
}

/* ---- What it would be ---- */

/* Without the daemon, in plain memory. */
static struct model_run expected;
static uint64_t expected_kv;

static int expect(void **state)
{
	(void)state;
	struct hbm_layout *layout = model_layout_new(HBM_ORDER_TOKEN, NUMBER, TOKENS, 0);
	struct hbm_layout_facts facts;
	hbm_layout_facts(layout, &facts);
	struct model *model = model_new(SEED);
	unsigned char *memory = calloc(1, facts.slot_bytes);
	assert_true(model && memory);
	const struct model_kv kv = model_layout_kv(layout, NUMBER, memory, NULL);

	model_run_prompt(&expected, 3, PROMPT);
	model_run_go(&expected, model, &kv, MORE);
	expected_kv = model_kv_digest(&kv, 0, expected.cached);
	free(memory);
	model_free(model);
	hbm_layout_free(layout);

	return 0;
}

static void assert_expected(const struct model_run *run, const struct engine *engine)
{
	assert_int_equal(run->count, expected.count);
	assert_memory_equal(run->tokens, expected.tokens, run->count * sizeof(*run->tokens));
	assert_int_equal(run->digest, expected.digest);
	assert_int_equal(model_kv_digest(&engine->kv, 0, run->cached), expected_kv);
}

/* ---- The tests ---- */

static unsigned fds;
static struct engine engine;
static struct model_run run;

static void start(void)
{
	spawn_needs_soft(); /* the model reads device memory as a CPU */
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
}

/* A generation's memory is taken from it in the middle, and again 25 tokens later, when its
 * blocks come back from NVMe. */
static void test_memory_goes_and_comes_back(void **state)
{
	(void)state;
	start();

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		engine_open(&engine, &daemon_, order);
		model_run_prompt(&run, 3, PROMPT);
		engine_go(&engine, &run, 15);
		for (int round = 0; round < 2; round++) {
			const uint32_t cached = run.cached;
			engine_store(&engine, &run);
			engine_wipe(&engine);
			if (round == 1)
				engine_push_to_nvme(&engine);

			engine_load(&engine, &run);
			assert_int_equal(run.cached, cached / BLOCK * BLOCK);
			engine_go(&engine, &run, 25 - 5 * (uint32_t)round);
		}
		assert_int_equal(run.count, PROMPT + MORE);
		assert_expected(&run, &engine);
		engine_close(&engine);
	}

	stage_finish(fds);
}

/* If one block is not what it was, it shows: the test above can fail. */
static void test_without_a_block_it_is_another(void **state)
{
	(void)state;
	start();
	engine_open(&engine, &daemon_, HBM_ORDER_LAYER);
	model_run_prompt(&run, 3, PROMPT);
	engine_go(&engine, &run, 1);
	engine_store(&engine, &run);
	engine_wipe(&engine);
	engine_load(&engine, &run);

	/* The second block again, where the third is. */
	blocks.of[1].segments = blocks.segments[2];
	assert_int_equal(hbm_load(engine.hbm, engine.ns, &blocks.of[1], 1, blocks.results), 0);
	engine_go(&engine, &run, MORE - 1);
	assert_int_equal(run.count, expected.count);
	assert_int_not_equal(run.digest, expected.digest);

	engine_close(&engine);
	stage_finish(fds);
}

/* What a child says of its generation. */
static struct model_run *shared_run(int fd)
{
	struct model_run *shared =
		mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);

	return shared;
}

static const uint32_t before_death = 30; /* tokens */

/* Generates, stores, and goes on until it is killed. */
static void generate_until_killed(const struct spawn *spawn, uint64_t number)
{
	const enum hbm_layout_order order = (enum hbm_layout_order)(number % HBM_LAYOUT_ORDERS);
	struct model_run *shared = shared_run((int)(number / HBM_LAYOUT_ORDERS));

	engine_open(&engine, spawn, order);
	model_run_prompt(&run, 3, PROMPT);
	engine_go(&engine, &run, before_death);
	engine_store(&engine, &run);
	*shared = run;
	child_tell();
	for (;;) {
		if (run.count == PROMPT + MORE)
			run = *shared;
		engine_go(&engine, &run, 1);
	}
}

/* The first process is killed. This one goes on where the first has said that it was; then it
 * takes the first one's blocks for a prefix of its own, of which it knows the tokens only,
 * and begins from the prompt. */
static void test_another_process_goes_on(void **state)
{
	(void)state;
	start();
	int fd = memfd_create("run", 0); /* the child inherits it */
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct model_run)), 0);
	struct model_run *shared = shared_run(fd);

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		struct child child;
		child_start(&child, "generate_until_killed", &daemon_,
			    (uint64_t)fd * HBM_LAYOUT_ORDERS + order);
		child_await(&child);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);

		engine_open(&engine, &daemon_, order);
		run = *shared;
		assert_int_equal(run.count, PROMPT + before_death);
		engine_load(&engine, &run);
		assert_int_equal(run.cached, shared->cached / BLOCK * BLOCK);
		engine_go(&engine, &run, MORE - before_death);
		assert_expected(&run, &engine);

		engine_wipe(&engine);
		model_run_prompt(&run, 3, PROMPT);
		engine_load(&engine, &run);
		assert_int_equal(run.cached, (PROMPT - 1) / BLOCK * BLOCK);
		engine_go(&engine, &run, MORE);
		assert_expected(&run, &engine);
		engine_close(&engine);
	}

	munmap(shared, sizeof(*shared));
	close(fd);
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"generate_until_killed", generate_until_killed},
						  {NULL, NULL}};
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory_goes_and_comes_back, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_without_a_block_it_is_another, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_another_process_goes_on, stage_setup,
						stage_teardown),
	};

	return cmocka_run_group_tests(tests, expect, NULL);
}
