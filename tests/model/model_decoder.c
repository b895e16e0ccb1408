/* SPDX-License-Identifier: Apache-2.0 */
/* model_decoder: see model_decoder.h. */
#include "tests/model/model_decoder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"

/* ---- Servers ---- */

void model_server_open(struct model_server *server, const struct spawn *spawn,
		       enum hbm_layout_order order, enum model_number number, uint64_t max_tokens,
		       uint32_t max_sequences)
{
	const bool is_paged = order == HBM_ORDER_BLOCK;

	assert_true(max_tokens <= (uint64_t)MODEL_PAGES * MODEL_PAGE);
	*server = (struct model_server){
		.hbm = spawn_connect(spawn),
		.layout = model_layout_new(order, number, max_tokens, is_paged ? MODEL_PAGE : 0),
		.number = number,
		.is_paged = is_paged,
	};
	for (int32_t i = 0; i < MODEL_PAGES; i++)
		server->pages[i] = i;

	const struct hbm_pool_options options = {.layout = server->layout,
						 .max_sequences = max_sequences};

	if (hbm_pool_open(server->hbm, &options, &server->pool) != 0)
		fail_msg("%s", hbm_error(server->hbm));
}

void model_server_close(struct model_server *server)
{
	assert_int_equal(hbm_pool_close(server->pool), 0);
	hbm_layout_free(server->layout);
	hbm_close(server->hbm);
	*server = (struct model_server){0};
}

/* ---- Decoders ---- */

void model_decoder_take(struct model_decoder *decoder, struct model_server *server,
			struct hbm_sequence *sequence)
{
	struct hbm_sequence_facts facts;

	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);
	decoder->server = server;
	decoder->sequence = sequence;
	decoder->kv =
		model_layout_kv(server->layout, server->number, model_kv_memory(facts.address),
				server->is_paged ? server->pages : NULL);
}

void model_decoder_open(struct model_decoder *decoder, struct model_server *server)
{
	struct hbm_sequence *sequence;

	if (hbm_sequence_open(server->pool, NULL, &sequence) != 0)
		fail_msg("%s", hbm_pool_error(server->pool));
	model_decoder_take(decoder, server, sequence);
}

void model_decoder_close(struct model_decoder *decoder)
{
	assert_int_equal(hbm_sequence_close(decoder->sequence), 0);
	decoder->sequence = NULL;
}

static void model_decoder_step(struct model_decoder *decoder, uint64_t length)
{
	struct hbm_pool *pool = decoder->server->pool;

	if (hbm_step(pool, &decoder->sequence, &length, 1) != 0)
		fail_msg("%s", hbm_pool_error(pool));
}

void model_decoder_prefill(struct model_decoder *decoder, struct model *model, uint32_t cached)
{
	model_decoder_step(decoder, cached);
	model_run_prefill(&decoder->run, model, &decoder->kv, cached);
}

void model_decoder_go(struct model_decoder *decoder, struct model *model, uint32_t more)
{
	for (uint32_t i = 0; i < more; i++) {
		model_decoder_step(decoder, decoder->run.count);
		model_run_go(&decoder->run, model, &decoder->kv, 1);
	}
}

/* ---- Speculation ---- */

/* A tree below the last token: what follows in the line is drafted now and then. */
static uint32_t model_decoder_guess(struct seed *seed, const uint32_t *ahead, uint32_t left,
				    int32_t *parents, uint32_t *tokens)
{
	uint32_t right[MODEL_DRAFTS] = {1}; /* so many tokens of the line lead to a draft, or 0 */
	const uint32_t count = 2 + (uint32_t)seed_below(seed, MODEL_DRAFTS - 1);

	parents[0] = -1;
	tokens[0] = ahead[0];
	for (uint32_t i = 1; i < count; i++) {
		const uint32_t parent = (uint32_t)seed_below(seed, i);

		parents[i] = (int32_t)parent;
		tokens[i] = (uint32_t)seed_below(seed, MODEL_VOCABULARY);
		if (right[parent] == 0 || right[parent] >= left)
			continue;
		if (seed_below(seed, 3) > 0)
			tokens[i] = ahead[right[parent]];
		if (tokens[i] == ahead[right[parent]])
			right[i] = right[parent] + 1;
	}

	return count;
}

/* In two calls: the second is below drafts of the first. */
static void model_decoder_draft(const struct model_decoder *decoder, struct seed *seed,
				const int32_t *parents, uint32_t count, uint64_t *indices)
{
	struct hbm_sequence *sequence = decoder->sequence;
	const uint32_t first = 1 + (uint32_t)seed_below(seed, count - 1);

	if (hbm_sequence_draft(sequence, parents, first, indices) != 0 ||
	    hbm_sequence_draft(sequence, parents + first, count - first, indices + first) != 0)
		fail_msg("%s", hbm_pool_error(decoder->server->pool));
}

uint32_t model_decoder_speculate(struct model_decoder *decoder, struct model *model,
				 const struct model_run *line, struct seed *seed, bool *moved)
{
	struct model_answer answers[MODEL_DRAFTS];
	int32_t parents[MODEL_DRAFTS], path[MODEL_DRAFTS];
	uint64_t indices[MODEL_DRAFTS], accepted[MODEL_DRAFTS];
	uint32_t tokens[MODEL_DRAFTS];
	const uint32_t cached = decoder->run.cached;
	const uint32_t count = model_decoder_guess(seed, line->tokens + cached,
						   line->count - cached, parents, tokens);

	model_decoder_draft(decoder, seed, parents, count, indices);
	const struct model_batch batch = {.tokens = tokens,
					  .count = count,
					  .first = cached,
					  .parents = parents,
					  .indices = indices};

	model_compute(model, &decoder->kv, &batch, answers);
	const uint32_t length = model_run_accept(&decoder->run, &batch, answers, accepted);

	for (uint32_t i = 0; i < length; i++) {
		path[i] = (int32_t)(accepted[i] - cached);
		*moved |= path[i] != (int32_t)i;
	}
	if (hbm_sequence_accept(decoder->sequence, path, length) != 0)
		fail_msg("%s", hbm_pool_error(decoder->server->pool));
	decoder->run.cached += length;

	return length;
}
