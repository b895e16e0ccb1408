/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate: the second act of `make demo`. A transformer (model.h) generates the same text in
 * one process for each way that its KV cache can go: in plain memory, in a sequence, suspended
 * in between, forked, on a prefix that another process left, by trees of drafts, saved and
 * restored. Each process prints what it did, the last tokens and a digest of all that the
 * tokens were chosen from.
 *
 *	generate SCENE FILE
 *
 * FILE takes the text from `save` to `restore`. `store` and `save` sleep in the end, to be
 * killed. It is no test: what has to hold is tested in tests/model and tests/integration.
 */
#include "tests/model/model_layout.h"
#include "tests/model/model_run.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hbm/saved.h>

enum {
	PREFIX = 1024, /* tokens: a slab of keys and one of values */
	PROMPT = PREFIX + 76,
	MORE = 60,
	FIRST = 20,    /* of them, before `save` is killed */
	TOKENS = 2048, /* of a sequence, at most */
	EVERY = 6,     /* suspended in the middle of each so manieth token */
	DRAFTS = 9,    /* of a tree */
	SHOWN = 6,
};
#define NUMBER MODEL_FP32

static const struct hbm_saved_space space = {.model = "demo"};
static const char *file;
static struct model *model;
static struct model_run run;
static struct hbm *hbm;
static struct hbm_pool *pool;

#define must(call) must_be_ok((call), #call)

static void must_be_ok(int r, const char *call)
{
	if (r != 0)
		errx(1, "%s: %d: %s", call, r, pool ? hbm_pool_error(pool) : hbm_error(hbm));
}

/* ---- A text ---- */

static void show(const char *what)
{
	printf("%-46s ..", what);
	for (uint32_t i = run.count - SHOWN; i < run.count; i++)
		printf(" %4u", run.tokens[i]);
	printf("  %016llx\n", (unsigned long long)run.digest);
	fflush(stdout);
}

static void begin(void)
{
	model_run_prompt(&run, 1, PROMPT);
}

static struct model_kv kv_of(struct hbm_sequence *sequence)
{
	struct hbm_sequence_facts facts;

	must(hbm_sequence_facts(sequence, &facts));

	return model_layout_kv(hbm_pool_layout(pool), NUMBER, model_kv_memory(facts.address), NULL);
}

/* Token by token, each after a step of its sequence. */
static void generate(struct hbm_sequence *sequence, uint32_t more)
{
	const struct model_kv kv = kv_of(sequence);

	for (uint32_t i = 0; i < more; i++) {
		const uint64_t length = run.count;

		must(hbm_step(pool, &sequence, &length, 1));
		model_run_go(&run, model, &kv, 1);
		hbm_pool_map_ahead(pool); /* nothing is lost if it fails: a step tries again */
	}
}

/* ---- A process that serves ---- */

static void serve(void)
{
	struct hbm_layout *layout = model_layout_new(HBM_ORDER_TOKEN, NUMBER, TOKENS, 0);
	const struct hbm_pool_options options = {.layout = layout, .max_sequences = 8};

	if (hbm_connect(&hbm, NULL) != 0)
		errx(1, "there is no daemon at HBM_SOCKET");
	must(hbm_pool_open(hbm, &options, &pool));
	hbm_layout_free(layout);
}

static struct hbm_sequence *sequence_new(const char *name)
{
	const struct hbm_sequence_options options = {.name = name, .expected = PROMPT + MORE};
	struct hbm_sequence *sequence;

	must(hbm_sequence_open(pool, &options, &sequence));

	return sequence;
}

/* ---- Scenes ---- */

static void plain(void)
{
	struct hbm_layout *layout = model_layout_new(HBM_ORDER_TOKEN, NUMBER, TOKENS, 0);
	struct hbm_layout_facts facts;

	hbm_layout_facts(layout, &facts);
	unsigned char *memory = calloc(1, facts.slot_bytes);
	if (!memory)
		err(1, "calloc");
	const struct model_kv kv = model_layout_kv(layout, NUMBER, memory, NULL);

	begin();
	model_run_go(&run, model, &kv, MORE);
	free(memory);
	hbm_layout_free(layout);
}

static void scene_plain(void)
{
	plain();
	show("without hbmd");
}

static void scene_sequence(void)
{
	serve();
	begin();
	generate(sequence_new("grown"), MORE);
	show("in a sequence that grows");
}

static void scene_suspend(void)
{
	struct hbm_sequence *sequence;
	struct hbm_sequence_facts facts;
	char what[64];
	unsigned times = 0;

	serve();
	begin();
	sequence = sequence_new("suspended");
	for (unsigned i = 0; i < MORE; i++) {
		if (i % EVERY == EVERY / 2) {
			must(hbm_sequences_suspend(pool, &sequence, 1, HBM_TIER_NVME));
			must(hbm_sequence_facts(sequence, &facts));
			must(hbm_sequences_resume(pool, &sequence, 1));
			times++;
		}
		generate(sequence, 1);
	}
	snprintf(what, sizeof(what), "%u MiB to NVMe and back, %u times",
		 (unsigned)(facts.suspended_bytes >> 20), times);
	show(what);
}

/* The prompt is computed once; one of its forks goes on with another text. */
static void scene_fork(void)
{
	struct hbm_sequence *parent, *forks[2];
	struct hbm_sequence_facts facts;
	char what[64];

	serve();
	begin();
	parent = sequence_new("prompt");
	const uint64_t length = PROMPT - 1;

	must(hbm_step(pool, &parent, &length, 1));
	const struct model_kv kv = kv_of(parent);

	model_run_prefill(&run, model, &kv, PROMPT - 1);
	must(hbm_sequence_fork(parent, 2, forks));
	const struct model_run at_fork = run;

	run.tokens[run.count - 1] ^= 1;
	generate(forks[0], MORE);
	run = at_fork;
	generate(forks[1], MORE);
	must(hbm_sequence_facts(forks[1], &facts));
	snprintf(what, sizeof(what), "a fork; %u MiB are also its sibling's",
		 (unsigned)(facts.shared_bytes >> 20));
	show(what);
}

static void token_blocks(struct hbm_token_blocks *blocks, hbm_key *key)
{
	memset(key, 0x31, sizeof(*key));
	*blocks = (struct hbm_token_blocks){.block_tokens = PREFIX, .keys = key, .count = 1};
	must(hbm_pool_namespace(pool, &(struct hbm_namespace_options){.model = space.model}, PREFIX,
				&blocks->ns));
}

static void scene_store(void)
{
	struct hbm_token_blocks blocks;
	hbm_key key;

	serve();
	begin();
	struct hbm_sequence *sequence = sequence_new("first");
	const uint64_t length = PREFIX;

	must(hbm_step(pool, &sequence, &length, 1));
	const struct model_kv kv = kv_of(sequence);

	model_run_prefill(&run, model, &kv, PREFIX);
	token_blocks(&blocks, &key);
	must(hbm_sequence_store(sequence, &blocks, 0, NULL));
	puts("stored");
	fflush(stdout);
	pause();
}

static void scene_mapped(void)
{
	struct hbm_token_blocks blocks;
	struct hbm_sequence *sequence;
	struct hbm_sequence_facts facts;
	uint64_t tokens;
	char what[64];
	hbm_key key;

	serve();
	begin();
	token_blocks(&blocks, &key);
	must(hbm_sequence_open_cached(pool, NULL, &blocks, &sequence, &tokens));
	run.cached = (uint32_t)tokens;
	generate(sequence, MORE);
	must(hbm_sequence_facts(sequence, &facts));
	snprintf(what, sizeof(what), "%u tokens of a dead process, %u MiB mapped", (unsigned)tokens,
		 (unsigned)(facts.lent_bytes >> 20));
	show(what);
}

/* Two drafts a level: what follows in `ahead`, and another token. Each third time the first is
 * wrong as well. */
static void drafts_guess(const uint32_t *ahead, uint32_t left, uint32_t *tokens, int32_t *parents)
{
	static unsigned guesses;

	tokens[0] = ahead[0];
	parents[0] = -1;
	for (uint32_t i = 1; i < DRAFTS; i++) {
		const uint32_t depth = (i + 1) / 2;
		const bool right = i % 2 == 0 && depth < left && ++guesses % 3 > 0;

		tokens[i] = right ? ahead[depth] : (ahead[0] + i) % MODEL_VOCABULARY;
		parents[i] = depth == 1 ? 0 : (int32_t)(2 * depth - 2);
	}
}

static void scene_tree(void)
{
	struct hbm_sequence *sequence;
	unsigned trees = 0;
	char what[64];

	plain();
	const struct model_run line = run;

	serve();
	begin();
	sequence = sequence_new("speculative");
	generate(sequence, 1);
	const struct model_kv kv = kv_of(sequence);

	for (; run.count + DRAFTS < line.count; trees++) {
		uint32_t tokens[DRAFTS], length;
		int32_t parents[DRAFTS], path[DRAFTS];
		uint64_t indices[DRAFTS], accepted[DRAFTS];
		struct model_answer answers[DRAFTS];
		const struct model_batch batch = {.tokens = tokens,
						  .count = DRAFTS,
						  .first = run.cached,
						  .parents = parents,
						  .indices = indices};

		drafts_guess(line.tokens + run.cached, line.count - run.cached, tokens, parents);
		must(hbm_sequence_draft(sequence, parents, DRAFTS, indices));
		model_compute(model, &kv, &batch, answers);
		length = model_run_accept(&run, &batch, answers, accepted);
		for (uint32_t i = 0; i < length; i++)
			path[i] = (int32_t)(accepted[i] - batch.first);
		must(hbm_sequence_accept(sequence, path, length));
		run.cached += length;
	}
	snprintf(what, sizeof(what), "by %u trees of %u drafts, %u tokens taken", trees, DRAFTS,
		 run.count - PROMPT - 1);
	generate(sequence, line.count - run.count);
	show(what);
}

static void scene_save(void)
{
	const struct hbm_save_options options = {.space = space};
	uint64_t saved;

	serve();
	begin();
	struct hbm_save save = {.sequence = sequence_new("chat"), .name = "chat"};

	generate(save.sequence, FIRST);
	must(hbm_sequences_save(pool, &save, 1, &options, &saved));
	FILE *out = fopen(file, "w");

	if (!out || fwrite(&run, sizeof(run), 1, out) != 1 || fclose(out) != 0)
		err(1, "%s", file);
	puts("saved");
	fflush(stdout);
	pause();
}

static void scene_restore(void)
{
	const struct hbm_sequence_options options = {.name = "chat"};
	struct hbm_sequence *sequence;
	FILE *in = fopen(file, "r");

	if (!in || fread(&run, sizeof(run), 1, in) != 1 || fclose(in) != 0)
		err(1, "%s", file);
	serve();
	must(hbm_sequence_restore(pool, &space, "chat", &options, &sequence));
	generate(sequence, MORE - FIRST);
	show("saved by a process that was killed, restored");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*play)(void);
	} scenes[] = {
		{"plain", scene_plain}, {"sequence", scene_sequence}, {"suspend", scene_suspend},
		{"fork", scene_fork},   {"store", scene_store},       {"mapped", scene_mapped},
		{"tree", scene_tree},   {"save", scene_save},         {"restore", scene_restore},
	};

	file = argc > 2 ? argv[2] : NULL;
	for (size_t i = 0; file && i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		if (strcmp(argv[1], scenes[i].name) != 0)
			continue;
		model = model_new(1);
		if (!model)
			err(1, "the model");
		scenes[i].play();
		if (pool)
			must(hbm_pool_close(pool));
		hbm_close(hbm);
		model_free(model);
		return 0;
	}
	errx(2, "usage: generate SCENE FILE; scenes: plain, sequence, suspend, fork, store, "
		"mapped, tree, save, restore");
}
