/* SPDX-License-Identifier: Apache-2.0 */
/* model_run: see model_run.h. */
#include "tests/model/model_run.h"

#include <assert.h>
#include <string.h>

void model_run_prompt(struct model_run *run, uint64_t seed, uint32_t count)
{
	assert(count <= MODEL_RUN_TOKENS);

	memset(run, 0, sizeof(*run));
	run->count = count;
	for (uint32_t i = 0; i < count; i++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		run->tokens[i] = (uint32_t)(seed >> 33) % MODEL_VOCABULARY;
	}
}

void model_run_prefill(struct model_run *run, struct model *model, const struct model_kv *kv,
		       uint32_t cached)
{
	assert(cached < run->count);

	while (run->cached < cached) {
		const uint32_t left = cached - run->cached;
		const struct model_batch batch = {.tokens = run->tokens + run->cached,
						  .count = left < MODEL_CHUNK ? left : MODEL_CHUNK,
						  .first = run->cached};
		model_compute(model, kv, &batch, NULL);
		run->cached += batch.count;
	}
}

void model_run_append(struct model_run *run, const struct model_answer *answer)
{
	assert(run->count < MODEL_RUN_TOKENS);

	run->tokens[run->count++] = answer->token;
	run->digest = (run->digest ^ answer->digest) * 0x9e3779b97f4a7c15;
}

void model_run_go(struct model_run *run, struct model *model, const struct model_kv *kv,
		  uint32_t more)
{
	struct model_answer answer;

	for (; more > 0; more--) {
		model_run_prefill(run, model, kv, run->count - 1);
		const struct model_batch last = {
			.tokens = run->tokens + run->cached, .count = 1, .first = run->cached};
		model_compute(model, kv, &last, &answer);
		run->cached++;
		model_run_append(run, &answer);
	}
}

uint32_t model_run_accept(struct model_run *run, const struct model_batch *drafts,
			  const struct model_answer *answers, uint64_t *path)
{
	uint32_t length = 0;

	assert(drafts->first == run->cached && run->cached + 1 == run->count &&
	       drafts->tokens[0] == run->tokens[run->cached]);

	/* Children come after their parents. */
	for (uint32_t i = 0, at = 0; i < drafts->count; i++) {
		if (i > 0 &&
		    (drafts->parents[i] != (int32_t)at || drafts->tokens[i] != answers[at].token))
			continue;
		at = i;
		path[length++] = drafts->indices[i];
		model_run_append(run, &answers[i]);
	}

	return length;
}
