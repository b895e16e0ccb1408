/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process prefills a prompt and stores it; another one opens sequences on it, whose whole
 * blocks are the very slabs, and decodes, whatever becomes of the first: alone, by forks and
 * by trees of drafts. All tokens, and all that they were chosen from, are those of one process
 * that computes everything itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_decoder.h"
#include "tests/model/model_rig.h"
#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <hbm/wire.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* fp32: a block of tokens of a layout is 1,024 tokens in token order, and 512 in block order.
 * In layer order it would be 4,096: blocks are loaded. */
enum {
	PROMPT = 1101,
	CACHED = PROMPT - 1,
	WHOLE = 1024,
	HALF = 30,
	MORE = 60,
	OTHERS = 40,
};
#define NUMBER MODEL_FP32

static const char *const sets[] = {"device.lend=64MiB", "ddr.staging=32MiB", NULL};
static unsigned fds;
static struct model_server server;
static struct model_decoder decoder;
static struct model_kv plain; /* of `expected` */
static struct model_run expected, run;
static hbm_key keys[PROMPT];
static struct hbm_token_blocks blocks;

static int expect(void **state)
{
	model_rig_setup(state);
	plain = model_rig_plain(NUMBER, room[0]);
	model_run_prompt(&expected, 31, PROMPT);
	model_run_go(&expected, model, &plain, MORE);

	return 0;
}

/* ---- The cache ---- */

static void serve(const struct spawn *spawn, enum hbm_layout_order order)
{
	const struct hbm_namespace_options options = {.model = "prefix"};

	model_server_open(&server, spawn, order, NUMBER, MODEL_RIG_TOKENS, 4);
	blocks = (struct hbm_token_blocks){
		.block_tokens = order == HBM_ORDER_TOKEN ? WHOLE : WHOLE / 2,
		.tokens = CACHED,
		.keys = keys,
	};
	blocks.count = (CACHED + blocks.block_tokens - 1) / blocks.block_tokens;
	for (size_t i = 0; i < blocks.count; i++)
		keys[i] = kv_key(1 + i);
	assert_int_equal(hbm_pool_namespace(server.pool, &options, blocks.block_tokens, &blocks.ns),
			 0);
}

/* Bytes of the blocks that can be mapped. */
static uint64_t lent_bytes(void)
{
	const uint64_t whole = hbm_layout_block_tokens(server.layout);

	return blocks.block_tokens % whole ? 0 : WHOLE * model_kv_token_bytes(NUMBER);
}

/* ---- The first process ---- */

static volatile sig_atomic_t told;

static void hear(int signal)
{
	(void)signal;
	told = 1;
}

static const char *file_of(const struct spawn *spawn)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/run", spawn->dir);

	return path;
}

static void write_run(const struct spawn *spawn)
{
	FILE *file = fopen(file_of(spawn), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(&decoder.run, sizeof(decoder.run), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static void read_run(const struct spawn *spawn)
{
	FILE *file = fopen(file_of(spawn), "r");

	assert_non_null(file);
	assert_int_equal(fread(&run, sizeof(run), 1, file), 1);
	fclose(file);
	unlink(file_of(spawn));
}

/* Stores its prompt, and goes on when it is told to. */
static void play_first(const struct spawn *spawn, uint64_t order)
{
	hbm_result results[PROMPT];

	signal(SIGUSR1, hear);
	model = model_new(1);
	serve(spawn, (enum hbm_layout_order)order);
	model_decoder_open(&decoder, &server);
	model_run_prompt(&decoder.run, 31, PROMPT);
	model_decoder_prefill(&decoder, model, CACHED);
	const uint64_t digest = model_kv_digest(&decoder.kv, 0, CACHED);

	assert_int_equal(hbm_sequence_store(decoder.sequence, &blocks, 0, results), 0);
	for (size_t i = 0; i < blocks.count; i++)
		assert_int_equal(results[i].status, HBM_OK);
	child_tell();
	while (!told)
		poll(NULL, 0, 10);

	/* Nobody has written to what it has lent. */
	assert_int_equal(model_kv_digest(&decoder.kv, 0, CACHED), digest);
	model_decoder_go(&decoder, model, MORE);
	write_run(spawn);
	child_tell();
	pause();
}

static void start(struct child *first, enum hbm_layout_order order)
{
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	serve(&daemon_, order);
	child_start(first, "first", &daemon_, order);
	child_await(first);
}

static void die(struct child *first)
{
	assert_int_equal(child_kill(first), 128 + SIGKILL);
}

/* ---- The second ---- */

static int take_record(const void *record, size_t bytes, void *arg)
{
	memcpy(arg, record, bytes);

	return 1;
}

static uint64_t leased(void)
{
	struct hbm_wire_device device = {0};

	assert_int_equal(hbm_query(server.hbm, HBM_QUERY_DEVICES, take_record, &device), 1);

	return device.leased;
}

/* What hbmctl sequences shows: of its own, and what others have, too. */
static int take_bytes(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_sequence *shown = record;
	struct hbm_wire_sequence *wanted = arg;

	(void)bytes;
	if (shown->session == wanted->session && shown->sequence == wanted->sequence)
		*wanted = *shown;

	return 0;
}

static void expect_shown(uint64_t number, uint64_t own, uint64_t shared)
{
	struct hbm_wire_sequence shown = {
		.session = hbm_info(server.hbm)->session, .sequence = number, .own = 1};

	assert_int_equal(hbm_query(server.hbm, HBM_QUERY_SEQUENCES, take_bytes, &shown), 0);
	assert_int_equal(shown.own, own);
	assert_int_equal(shown.shared, shared);
}

/* A decoder that goes on behind what is cached. */
static void go_on_from_cache(struct model_decoder *at)
{
	struct hbm_sequence *sequence;
	struct hbm_sequence_facts facts;
	uint64_t tokens;

	if (hbm_sequence_open_cached(server.pool, NULL, &blocks, &sequence, &tokens) != 0)
		fail_msg("%s", hbm_pool_error(server.pool));
	assert_int_equal(tokens, CACHED);
	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);
	assert_int_equal(facts.lent_bytes, lent_bytes());
	expect_shown(facts.number, facts.mapped_bytes - lent_bytes(), lent_bytes());

	model_decoder_take(at, &server, sequence);
	model_run_prompt(&at->run, 31, PROMPT);
	at->run.cached = CACHED;
	assert_true(model_kv_same(&at->kv, &plain, 0, CACHED));
}

static void expect_the_same(const struct model_decoder *at)
{
	model_rig_same(&at->run, &expected);
	assert_true(model_kv_same(&at->kv, &plain, 0, expected.cached));
}

/* Closes it: what was lent is there as long as its blocks are. */
static void finish(void)
{
	assert_int_equal(
		hbm_keys(server.hbm, HBM_WIRE_REMOVE, blocks.ns, 0, keys, blocks.count, NULL), 0);
	model_server_close(&server);
	spawn_settle(&daemon_);
	stage_finish(fds);
}

/* ---- One after the other, and side by side ---- */

static void play_side_by_side(enum hbm_layout_order order)
{
	struct child first;
	struct hbm_sequence_facts facts;

	start(&first, order);
	const uint64_t before = leased();

	/* The device has given out what is the second's own, and no copy of the prefix. */
	go_on_from_cache(&decoder);
	assert_int_equal(hbm_sequence_facts(decoder.sequence, &facts), 0);
	assert_int_equal(leased() - before, facts.mapped_bytes - lent_bytes());

	model_decoder_go(&decoder, model, HALF);
	kill(first.pid, SIGUSR1);
	child_await(&first);
	read_run(&daemon_);
	model_rig_same(&run, &expected);

	die(&first);
	model_decoder_go(&decoder, model, MORE - HALF);
	expect_the_same(&decoder);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

static void test_the_first_is_killed_while_the_second_decodes(void **state)
{
	(void)state;
	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++)
		play_side_by_side(order);
}

/* The daemon has a copy of the blocks, which all that come later have in common. */
static void test_the_first_is_killed_before_the_second_begins(void **state)
{
	(void)state;
	static struct model_decoder third;
	struct child first;
	struct hbm_sequence_facts facts;

	start(&first, HBM_ORDER_TOKEN);
	die(&first);
	go_on_from_cache(&decoder);
	const uint64_t before = leased();

	go_on_from_cache(&third);
	assert_int_equal(hbm_sequence_facts(third.sequence, &facts), 0);
	assert_int_equal(leased() - before, facts.mapped_bytes - lent_bytes());
	for (unsigned i = 0; i < MORE; i++) {
		model_decoder_go(&decoder, model, 1);
		model_decoder_go(&third, model, 1);
	}
	expect_the_same(&decoder);
	expect_the_same(&third);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* ---- Forks and trees ---- */

/* It forgets what follows `tokens`, and goes on with others: as if it had never known. */
static void go_another_way(struct model_decoder *fork, uint32_t tokens, uint64_t seed)
{
	const struct model_kv recomputed = model_rig_plain(NUMBER, room[1]);

	assert_int_equal(hbm_sequence_truncate(fork->sequence, tokens), 0);
	model_run_prompt(&run, seed, tokens + OTHERS);
	memcpy(run.tokens, expected.tokens, tokens * sizeof(run.tokens[0]));
	fork->run = run;
	fork->run.cached = tokens;

	model_run_go(&run, model, &recomputed, HALF);
	model_decoder_prefill(fork, model, tokens + OTHERS - 1);
	model_decoder_go(fork, model, HALF);
	model_rig_same(&fork->run, &run);
	assert_true(model_kv_same(&fork->kv, &recomputed, 0, run.cached));
}

static void test_forks_of_a_mapped_prefix(void **state)
{
	(void)state;
	static const uint32_t places[] = {CACHED, WHOLE, WHOLE - 300};
	static struct model_decoder forks[3];
	struct hbm_sequence *sequences[3];
	struct child first;

	start(&first, HBM_ORDER_TOKEN);
	go_on_from_cache(&decoder);
	assert_int_equal(hbm_sequence_fork(decoder.sequence, 3, sequences), 0);
	for (size_t i = 0; i < 3; i++) {
		model_decoder_take(&forks[i], &server, sequences[i]);
		go_another_way(&forks[i], places[i], 50 + i);
	}
	model_decoder_go(&decoder, model, MORE);
	expect_the_same(&decoder);
	assert_true(spawn_balanced(&daemon_));

	/* Nor has the first noticed. */
	kill(first.pid, SIGUSR1);
	child_await(&first);
	read_run(&daemon_);
	model_rig_same(&run, &expected);
	die(&first);
	finish();
}

static void test_trees_on_a_mapped_prefix(void **state)
{
	(void)state;
	struct child first;
	struct seed seed;
	bool moved = false;
	uint32_t steps = 0;

	seed_open(&seed, "trees on a prefix");
	start(&first, HBM_ORDER_TOKEN);
	go_on_from_cache(&decoder);
	die(&first);
	model_decoder_go(&decoder, model, 1);
	for (; decoder.run.count + MODEL_DRAFTS < expected.count; steps++)
		model_decoder_speculate(&decoder, model, &expected, &seed, &moved);
	assert_true(moved);
	assert_true(decoder.run.count > PROMPT + 1 + steps);
	model_decoder_go(&decoder, model, expected.count - decoder.run.count);
	expect_the_same(&decoder);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

static const struct child_part parts[] = {{"first", play_first}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_the_first_is_killed_while_the_second_decodes),
		TEST(test_the_first_is_killed_before_the_second_begins),
		TEST(test_forks_of_a_mapped_prefix),
		TEST(test_trees_on_a_mapped_prefix),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, expect, model_rig_teardown);
}
