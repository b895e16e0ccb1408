/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model is what the tests that use it take it for: its results depend on nothing but
 * what they should, and do depend on every byte of its KV.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_rig.h"
#include "tests/support/seed.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct seed seed;
static struct model_run run, other;

/* ---- The same, whatever the way ---- */

static void test_a_chunk_is_its_tokens_one_by_one(void **state)
{
	(void)state;
	for (enum model_number number = 0; number < MODEL_NUMBERS; number++) {
		const struct model_kv alone = model_rig_plain(number, room[0]),
				      kv = model_rig_plain(number, room[1]);

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

		model_rig_same(&run, &other);
		assert_true(model_kv_same(&alone, &kv, 0, run.cached));
		assert_int_equal(model_kv_digest(&alone, 0, run.cached),
				 model_kv_digest(&kv, 0, run.cached));
	}
}

/* ---- Forks, trees, processes ---- */

static void test_a_fork_is_as_if_computed_again(void **state)
{
	(void)state;
	const struct model_kv trunk = model_rig_plain(MODEL_BF16, room[0]),
			      branch = model_rig_plain(MODEL_BF16, room[1]),
			      again = model_rig_plain(MODEL_BF16, room[2]);
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
	model_rig_same(&other, &recomputed);
	assert_true(model_kv_same(&branch, &again, 0, other.cached));

	/* The trunk goes on as if there were no fork. */
	model_run_go(&run, model, &trunk, 10);
	model_run_prompt(&other, 11, 90);
	model_run_go(&other, model, &branch, 20);
	model_rig_same(&run, &other);
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
		const struct model_kv line = model_rig_plain(number, room[0]),
				      tree = model_rig_plain(number, room[1]);
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
		model_rig_same(&run, &other);
		assert_true(model_kv_same(&line, &tree, 0, other.cached));
	}
}

static void test_another_process_goes_on(void **state)
{
	(void)state;
	struct model_run *shared = (struct model_run *)(void *)room[2];
	const struct model_kv kv = model_rig_plain(MODEL_BF16, room[0]);

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

	const struct model_kv alone = model_rig_plain(MODEL_BF16, room[1]);
	model_run_prompt(&run, 15, 40);
	model_run_go(&run, model, &alone, 20);
	model_rig_same(&run, shared);
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
		const struct model_kv kv = model_rig_plain(number, room[0]);
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
	const struct model_kv kv = model_rig_plain(MODEL_BF16, room[0]);
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
		const struct model_kv kv = model_rig_plain(number, room[0]);
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
		cmocka_unit_test(test_a_chunk_is_its_tokens_one_by_one),
		cmocka_unit_test(test_a_fork_is_as_if_computed_again),
		cmocka_unit_test(test_a_path_of_a_tree_is_a_line),
		cmocka_unit_test(test_another_process_goes_on),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_weights_and_variety),
		cmocka_unit_test(test_a_wrong_byte_shows),
	};
	seed_open(&seed, "test_model");

	return cmocka_run_group_tests(tests, model_rig_setup, model_rig_teardown);
}
