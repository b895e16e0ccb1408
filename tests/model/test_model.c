/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model is what the tests that use it take it for: its results depend on nothing but
 * what they should, and do depend on every byte of its KV cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_run.h"
#include "tests/model/quad.h"
#include "tests/support/seed.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOM ((size_t)64 << 20) /* address space of one cache */
#define TOKENS 512              /* at most, of a sequence here */
#define UNTOUCHED 0x5a

static struct model *model;
static unsigned char *room[3]; /* shared with children */
static struct seed seed;
static struct model_run run, other;

static int setup(void **state)
{
	(void)state;
	model = model_new(1);
	assert_non_null(model);
	for (int i = 0; i < 3; i++) {
		room[i] =
			mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(room[i], MAP_FAILED);
	}

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		munmap(room[i], ROOM);
	model = model_free(model);

	return 0;
}

/* A cache without gaps in a room, layers apart. */
static struct model_kv plain(enum model_number number, unsigned char *base)
{
	const uint64_t head = (uint64_t)MODEL_HEAD_DIM * model_number_bytes(number);
	struct model_kv kv = {.number = number};

	for (uint32_t i = 0; i < MODEL_LAYERS; i++) {
		kv.layers[i] = (struct model_kv_layer){base, base + TOKENS * MODEL_KV_HEADS * head,
						       MODEL_KV_HEADS * head, head};
		base += 2ull * TOKENS * MODEL_KV_HEADS * head;
	}

	return kv;
}

static void assert_same_run(const struct model_run *a, const struct model_run *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->tokens, b->tokens, a->count * sizeof(*a->tokens));
	assert_int_equal(a->digest, b->digest);
}

/* ---- Numbers ---- */

static double deviation(double is, double should)
{
	return fabs(is - should) / fabs(should);
}

static void test_functions_are_those_of_mathematics(void **state)
{
	(void)state;
	float sine, cosine;

	for (float x = -86; x < 88; x += 0.0371f)
		assert_true(deviation((double)quad_exp(quad_of(x))[2], exp((double)x)) < 3e-7);
	assert_true(quad_exp(quad_of(-1000))[0] <= 0);
	for (double x = -20; x <= 0; x += 0.0371)
		assert_true(deviation(quad_exp_of_double(x), exp(x)) < 1e-12);
	for (double x = 0; x < 70000; x += 1.371) {
		quad_sin_cos(x, &sine, &cosine);
		assert_true(fabs((double)sine - sin(x)) < 1e-7);
		assert_true(fabs((double)cosine - cos(x)) < 1e-7);
	}
}

/* Every finite number of 16 bits comes back; what is between two becomes the nearer one, and
 * the even one from the middle. */
static void test_numbers_are_rounded_to_nearest(void **state)
{
	(void)state;
	float numbers[MODEL_KV_WIDTH] = {0}, next[MODEL_HEAD_DIM];

	for (enum model_number number = MODEL_BF16; number <= MODEL_FP16; number++) {
		const struct model_kv kv = plain(number, room[0]);
		const uint16_t end = number == MODEL_BF16 ? 0x7f7f : 0x7bff; /* the largest */
		uint16_t bits[2], back;

		for (uint16_t n = 0; n < end; n++) {
			bits[0] = n;
			bits[1] = n + 1;
			memcpy(model_kv_head(&kv, 0, MODEL_KEYS, 0, 0), bits, sizeof(bits));
			model_kv_read(&kv, 0, MODEL_KEYS, 0, 0, next);
			const float middle = next[0] / 2 + next[1] / 2;
			const float tries[] = {next[0], nextafterf(middle, 0), middle,
					       nextafterf(middle, next[1] * 2), -middle};
			const uint16_t even = n % 2 ? n + 1 : n;
			const uint16_t want[] = {n, n, even, n + 1, even | 0x8000};

			for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
				/* fp32 has no number between two of the smallest */
				if (number == MODEL_BF16 && n < 0x80)
					break;
				numbers[0] = tries[i];
				model_kv_write(&kv, 0, MODEL_KEYS, 1, numbers);
				memcpy(&back, model_kv_head(&kv, 0, MODEL_KEYS, 1, 0), 2);
				assert_int_equal(back, want[i]);
			}
		}
	}
}

/* ---- The same, whatever the way ---- */

static void test_a_chunk_is_its_tokens_one_by_one(void **state)
{
	(void)state;
	for (enum model_number number = 0; number < MODEL_NUMBERS; number++) {
		const struct model_kv alone = plain(number, room[0]), kv = plain(number, room[1]);

		model_run_prompt(&run, 7, 150);
		other = run;
		for (uint32_t i = 1; i < run.count; i++)
			model_run_prefill(&run, model, &alone, i);
		model_run_go(&run, model, &alone, 20);

		while (other.cached + 1 < other.count)
			model_run_prefill(&other, model, &kv,
					  other.cached + 1 +
						  (uint32_t)seed_below(
							  &seed, other.count - 1 - other.cached));
		model_run_go(&other, model, &kv, 20);

		assert_same_run(&run, &other);
		assert_true(model_kv_same(&alone, &kv, 0, run.cached));
		assert_int_equal(model_kv_digest(&alone, 0, run.cached),
				 model_kv_digest(&kv, 0, run.cached));
	}
}

/* Generates with a cache of other strides what a plain one gives, and touches nothing that is
 * not the cache's. */
static void strides_are_followed(const struct model_kv *kv, unsigned char *base)
{
	const struct model_kv reference = plain(kv->number, room[0]);
	const unsigned char zeros[4 * MODEL_HEAD_DIM] = {0};

	memset(base, UNTOUCHED, ROOM);
	model_run_prompt(&run, 9, 70);
	other = run;
	model_run_go(&run, model, &reference, 20);
	model_run_go(&other, model, kv, 20);
	assert_same_run(&run, &other);
	assert_true(model_kv_same(&reference, kv, 0, run.cached));

	/* Where its bytes were, paint over them: the whole room is as it was. */
	for (uint64_t token = 0; token < run.cached; token++)
		for (uint32_t i = 0; i < MODEL_LAYERS * 2 * MODEL_KV_HEADS; i++) {
			unsigned char *head = model_kv_head(kv, i / 2 % MODEL_LAYERS, i % 2, token,
							    i / 2 / MODEL_LAYERS);
			const size_t bytes =
				(size_t)MODEL_HEAD_DIM * model_number_bytes(kv->number);
			assert_memory_not_equal(head, zeros, bytes);
			memset(head, UNTOUCHED, bytes);
		}
	for (size_t i = 0; i < ROOM; i += sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, base + i, sizeof(word));
		if (word != 0x0101010101010101u * UNTOUCHED)
			fail_msg("byte %zu of the room was touched", i);
	}
}

/* Keys and values are where the layout says. */
static void test_addresses_are_those_of_the_layout(void **state)
{
	(void)state;
	int32_t pages[TOKENS / 8];
	for (int32_t i = 0; i < TOKENS / 8; i++)
		pages[i] = i;

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		const bool paged = order == HBM_ORDER_BLOCK;
		struct hbm_layout *layout =
			model_layout_new(order, MODEL_BF16, TOKENS, paged ? 8 : 0);
		const struct model_kv kv =
			model_layout_kv(layout, MODEL_BF16, room[0], paged ? pages : NULL);

		for (uint64_t token = 0; token < TOKENS; token++)
			for (uint32_t i = 0; i < MODEL_LAYERS * 2 * MODEL_KV_HEADS; i++) {
				const uint32_t layer = i / 2 % MODEL_LAYERS,
					       head = i / 2 / MODEL_LAYERS;
				uint64_t offset;
				assert_int_equal(hbm_layout_offset(layout, layer, i % 2, token,
								   head, &offset),
						 0);
				assert_ptr_equal(model_kv_head(&kv, layer, i % 2, token, head),
						 room[0] + offset);
			}
		hbm_layout_free(layout);
	}
}

static void test_strides(void **state)
{
	(void)state;
	int32_t pages[TOKENS / 8];

	for (size_t i = 0; i < TOKENS / 8; i++)
		pages[i] = (int32_t)(i * 29 % (TOKENS / 8)); /* 29 is odd: each once */

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		const bool paged = order == HBM_ORDER_BLOCK;
		const enum model_number number = order % MODEL_NUMBERS;
		struct hbm_layout *layout = model_layout_new(order, number, TOKENS, paged ? 8 : 0);
		const struct model_kv kv =
			model_layout_kv(layout, number, room[1], paged ? pages : NULL);
		strides_are_followed(&kv, room[1]);
		hbm_layout_free(layout);
	}
}

static void test_gaps_between_heads_and_tokens(void **state)
{
	(void)state;
	struct model_kv kv = {.number = MODEL_BF16};

	/* A plane of each head, tokens of all layers within, values first. */
	for (uint32_t i = 0; i < MODEL_LAYERS; i++)
		kv.layers[i] = (struct model_kv_layer){.keys = room[1] + 1024 * i + 514,
						       .values = room[1] + 1024 * i,
						       .token_stride = 1024 * MODEL_LAYERS + 6,
						       .head_stride = ROOM / MODEL_KV_HEADS};
	assert_ptr_equal(model_kv_head(&kv, 2, MODEL_KEYS, 3, 1),
			 room[1] + 2 * 1024 + 514 + 3 * (1024 * MODEL_LAYERS + 6) +
				 ROOM / MODEL_KV_HEADS);
	strides_are_followed(&kv, room[1]);
}

static void reach_brings(void *arg, uint32_t layer)
{
	const struct model_kv *away = arg;
	const struct model_kv here = plain(away->number, room[1]);

	for (uint64_t token = 0; token < run.cached; token++)
		for (uint32_t i = 0; i < 2 * MODEL_KV_HEADS; i++)
			memcpy(model_kv_head(&here, layer, i % 2, token, i / 2),
			       model_kv_head(away, layer, i % 2, token, i / 2),
			       (size_t)MODEL_HEAD_DIM * model_number_bytes(away->number));
}

/* A layer is not touched before it is reached: it may arrive meanwhile. */
static void test_layers_may_arrive_one_by_one(void **state)
{
	(void)state;
	struct model_kv away = plain(MODEL_FP16, room[0]), kv = plain(MODEL_FP16, room[1]);

	model_run_prompt(&run, 10, 60);
	model_run_go(&run, model, &away, 1);
	other = run;
	memset(room[1], 0xff, ROOM); /* NaN */
	kv.reach = reach_brings;
	kv.reach_arg = &away;
	model_run_go(&other, model, &kv, 1);
	model_run_go(&run, model, &away, 1);
	assert_same_run(&run, &other);
}

/* ---- Forks, trees, processes ---- */

static void test_a_fork_is_as_if_computed_again(void **state)
{
	(void)state;
	const struct model_kv trunk = plain(MODEL_BF16, room[0]),
			      branch = plain(MODEL_BF16, room[1]),
			      again = plain(MODEL_BF16, room[2]);
	const struct model_answer turn = {.token = 77};

	model_run_prompt(&run, 11, 90);
	model_run_go(&run, model, &trunk, 10);

	/* A fork in the middle, which goes another way. */
	other = run;
	other.count = 80;
	other.cached = 80;
	other.digest = 0;
	for (uint64_t token = 0; token < other.cached; token++)
		model_kv_copy(&trunk, token, &branch, token);
	model_run_append(&other, &turn);
	static struct model_run recomputed;
	recomputed = other;
	model_run_go(&other, model, &branch, 20);

	recomputed.cached = 0;
	model_run_go(&recomputed, model, &again, 20);
	assert_same_run(&other, &recomputed);
	assert_true(model_kv_same(&branch, &again, 0, other.cached));

	/* The trunk goes on as if there were no fork. */
	model_run_go(&run, model, &trunk, 10);
	model_run_prompt(&other, 11, 90);
	model_run_go(&other, model, &branch, 20);
	assert_same_run(&run, &other);
}

/*
 * A tree of drafts below the last token, its numbers in the order of their computation:
 *
 *	0 - 1 - 3 - 5 - 6	0, 1, 3, 5 are what the model would say, 6 is not
 *	  \   \
 *	   2   4 - 7
 *
 * and the indices of their KV in another order still, with gaps.
 */
static void test_a_path_of_a_tree_is_a_line(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, 0, 0, 1, 1, 3, 5, 4};
	static const uint32_t accepted[] = {0, 1, 3, 5};
	enum { DRAFTS = sizeof(parents) / sizeof(parents[0]) };

	for (enum model_number number = 0; number < MODEL_NUMBERS; number++) {
		const struct model_kv line = plain(number, room[0]), tree = plain(number, room[1]);
		struct model_answer answers[DRAFTS];
		uint64_t indices[DRAFTS], path[DRAFTS];
		uint32_t tokens[DRAFTS];

		model_run_prompt(&run, 13, 75);
		other = run;
		model_run_go(&run, model, &line, 12);
		model_run_go(&other, model, &tree, 1);

		const uint32_t *ahead = run.tokens + other.cached;
		for (uint32_t i = 0; i < DRAFTS; i++) {
			tokens[i] = (uint32_t)seed_below(&seed, MODEL_VOCABULARY);
			indices[i] = other.cached + (i * 5 % 8) * 3;
		}
		for (uint32_t i = 0; i < 4; i++)
			tokens[accepted[i]] = ahead[i];
		tokens[2] = (ahead[1] + 1) % MODEL_VOCABULARY;
		tokens[4] = (ahead[2] + 1) % MODEL_VOCABULARY;
		tokens[6] = (ahead[4] + 1) % MODEL_VOCABULARY;
		/* The path's indices ascend, as those of drafts along a branch do. */
		indices[1] = indices[0] + 2, indices[3] = indices[0] + 4,
		indices[5] = indices[0] + 7;

		const struct model_batch drafts = {.tokens = tokens,
						   .count = DRAFTS,
						   .first = other.cached,
						   .parents = parents,
						   .indices = indices};
		model_compute(model, &tree, &drafts, answers);
		const uint32_t length = model_run_accept(&other, &drafts, answers, path);
		assert_int_equal(length, 4);
		model_kv_compact(&tree, other.cached, path, length);
		other.cached += length;
		assert_true(model_kv_same(&line, &tree, 0, other.cached));

		/* One token a step, or several: the rest is the same. */
		model_run_go(&other, model, &tree, run.count - other.count);
		assert_same_run(&run, &other);
		assert_true(model_kv_same(&line, &tree, 0, other.cached));
	}
}

static void test_another_process_goes_on(void **state)
{
	(void)state;
	struct model_run *shared = (struct model_run *)(void *)room[2];
	const struct model_kv kv = plain(MODEL_BF16, room[0]);

	model_run_prompt(shared, 15, 40);
	model_run_go(shared, model, &kv, 5);

	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct model *own = model_new(1);
		if (own)
			model_run_go(shared, own, &kv, 10);
		kill(getpid(), SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	model_run_go(shared, model, &kv, 5);

	const struct model_kv alone = plain(MODEL_BF16, room[1]);
	model_run_prompt(&run, 15, 40);
	model_run_go(&run, model, &alone, 20);
	assert_same_run(&run, shared);
	assert_true(model_kv_same(&kv, &alone, 0, run.cached));
}

/* ---- What it was, and what it is sensitive to ---- */

/* With any compiler, any optimization, on any processor. */
static void test_golden(void **state)
{
	(void)state;
	static const struct {
		uint64_t run, kv;
	} golden[MODEL_NUMBERS] = {[MODEL_FP32] = {0x93e9e91483793683, 0x8614f3a06a65e462},
				   [MODEL_BF16] = {0xc47f2cad1b805e15, 0xac24cd23e4744cce},
				   [MODEL_FP16] = {0xa21419de79907839, 0xdc85743c54d6762b}};

	for (enum model_number number = 0; number < MODEL_NUMBERS; number++) {
		const struct model_kv kv = plain(number, room[0]);
		model_run_prompt(&run, 17, 32);
		model_run_go(&run, model, &kv, 64);
		if (run.digest != golden[number].run ||
		    model_kv_digest(&kv, 0, run.cached) != golden[number].kv)
			fail_msg("type %d: {0x%016llx, 0x%016llx}", (int)number,
				 (unsigned long long)run.digest,
				 (unsigned long long)model_kv_digest(&kv, 0, run.cached));
	}
}

/* Other weights, another model; and what it says is no loop of few tokens. */
static void test_weights_and_variety(void **state)
{
	(void)state;
	const struct model_kv kv = plain(MODEL_BF16, room[0]);
	bool said[MODEL_VOCABULARY] = {false};
	uint32_t distinct = 0;
	struct model *stranger = model_new(2);

	assert_non_null(stranger);
	model_run_prompt(&run, 19, 32);
	other = run;
	model_run_go(&other, stranger, &kv, 8);
	model_free(stranger);
	model_run_go(&run, model, &kv, 128);
	assert_memory_not_equal(run.tokens + 32, other.tokens + 32, 8 * sizeof(*run.tokens));

	for (uint32_t i = 32; i < run.count; i++) {
		distinct += !said[run.tokens[i]];
		said[run.tokens[i]] = true;
	}
	assert_true(distinct >= 64);
}

/* The next digest, with some bits of a byte inverted. Of the nth number of those that are
 * tried, which lie all over the cache: always the same, so that what is so here is so. */
static uint64_t digest_with(const struct model_kv *kv, uint64_t n, unsigned char bits)
{
	const uint32_t bytes = model_number_bytes(kv->number);
	unsigned char *byte;

	n = (n + 1) * 0x9e3779b97f4a7c15;
	byte = model_kv_head(kv, (uint32_t)(n >> 62), n >> 61 & 1, (n >> 40) % run.cached,
			     n >> 32 & 3) +
	       (n >> 27 & 31) * bytes + bytes - 2;
	*byte ^= bits;
	other = run;
	model_run_go(&other, model, kv, 1);
	*byte ^= bits;

	return other.digest;
}

/* A wrong byte anywhere shows in the next digest, and so does the lowest bit of a bf16 number
 * but in few cases. What is wrong enough shows in the tokens, within 32. */
static void test_a_wrong_byte_shows(void **state)
{
	(void)state;
	enum { PROMPT = 120, TRIES = 100, AFTER = 32 };
	static struct model_run right;

	for (enum model_number number = 0; number < MODEL_NUMBERS; number++) {
		const struct model_kv kv = plain(number, room[0]);
		uint32_t shown = 0;

		model_run_prompt(&run, 21, PROMPT);
		model_run_prefill(&run, model, &kv, PROMPT - 1);
		right = run;
		model_run_go(&right, model, &kv, 1);
		assert_int_equal(digest_with(&kv, 0, 0), right.digest);
		for (uint64_t n = 0; n < TRIES; n++) {
			assert_int_not_equal(digest_with(&kv, n, 0xff), right.digest);
			shown += digest_with(&kv, n, 1) != right.digest;
		}
		assert_in_range(shown, TRIES * 95 / 100, TRIES);

		model_run_go(&right, model, &kv, AFTER - 1);
		for (uint32_t head = 0; head < MODEL_KV_HEADS; head++)
			memset(model_kv_head(&kv, 0, MODEL_VALUES, PROMPT / 2, head), 0x41,
			       (size_t)MODEL_HEAD_DIM * model_number_bytes(number));
		model_run_go(&run, model, &kv, AFTER);
		assert_memory_not_equal(run.tokens, right.tokens,
					right.count * sizeof(*right.tokens));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_functions_are_those_of_mathematics),
		cmocka_unit_test(test_numbers_are_rounded_to_nearest),
		cmocka_unit_test(test_a_chunk_is_its_tokens_one_by_one),
		cmocka_unit_test(test_addresses_are_those_of_the_layout),
		cmocka_unit_test(test_strides),
		cmocka_unit_test(test_gaps_between_heads_and_tokens),
		cmocka_unit_test(test_layers_may_arrive_one_by_one),
		cmocka_unit_test(test_a_fork_is_as_if_computed_again),
		cmocka_unit_test(test_a_path_of_a_tree_is_a_line),
		cmocka_unit_test(test_another_process_goes_on),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_weights_and_variety),
		cmocka_unit_test(test_a_wrong_byte_shows),
	};
	seed_open(&seed, "test_model");

	return cmocka_run_group_tests(tests, setup, teardown);
}
