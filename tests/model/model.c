/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass. A chunk goes through a layer together, so that its weights are read
 * once; each token's numbers are computed as if it were alone. A matrix is kept in blocks of
 * 16 outputs, [output / 16][input][16]: an output is the sum over the inputs in their order,
 * and four quads of such sums go on at a time.
 */
#include "tests/model/model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/quad.h"

enum {
	MODEL_WIDTH = 256,
	MODEL_HEADS = 8, /* of queries */
	MODEL_GROUP = MODEL_HEADS / MODEL_KV_HEADS,
	MODEL_FF = 512,
	MODEL_BLOCK = 16,        /* outputs of a matrix that are computed together */
	MODEL_POSITIONS = 65536, /* that a token can see */
};

#define MODEL_ROPE_BASE_LOG 9.210340371976184 /* ln 10000 */

struct model_layer {
	float query[MODEL_WIDTH * MODEL_WIDTH], out[MODEL_WIDTH * MODEL_WIDTH];
	float key[MODEL_KV_WIDTH * MODEL_WIDTH], value[MODEL_KV_WIDTH * MODEL_WIDTH];
	float gate[MODEL_FF * MODEL_WIDTH], up[MODEL_FF * MODEL_WIDTH];
	float down[MODEL_WIDTH * MODEL_FF];
};

/* A token on its way through the layers. */
struct model_token {
	uint64_t index;             /* where its keys and values are */
	uint32_t depth;             /* below the line: how many of the batch it sees */
	uint64_t path[MODEL_CHUNK]; /* their indices, itself the last */
	float cos[MODEL_HEAD_DIM / 2], sin[MODEL_HEAD_DIM / 2]; /* of its position */
};

struct model {
	float embedding[MODEL_VOCABULARY * MODEL_WIDTH];
	struct model_layer layers[MODEL_LAYERS];
	float head[MODEL_VOCABULARY * MODEL_WIDTH];
	double frequency[MODEL_HEAD_DIM / 2];

	/* of a call: by token */
	struct model_token tokens[MODEL_CHUNK];
	float stream[MODEL_CHUNK][MODEL_WIDTH], normed[MODEL_CHUNK][MODEL_WIDTH];
	float query[MODEL_CHUNK][MODEL_WIDTH], seen[MODEL_CHUNK][MODEL_WIDTH];
	float key[MODEL_CHUNK][MODEL_KV_WIDTH], value[MODEL_CHUNK][MODEL_KV_WIDTH];
	float gate[MODEL_CHUNK][MODEL_FF], up[MODEL_CHUNK][MODEL_FF];
	float logits[MODEL_CHUNK][MODEL_VOCABULARY];
	float scores[MODEL_GROUP][MODEL_POSITIONS]; /* of one token and one key head */
};

/* ---- Weights ---- */

static uint64_t model_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;

	return x ^ x >> 31;
}

/* Uniform, with a variance of gain^2 / inputs: what comes out is `gain` as large as what goes
 * in. */
static void model_fill(uint64_t *state, float *weights, size_t count, uint32_t inputs, float gain)
{
	const float scale = gain * sqrtf(3.0f / (float)inputs) / (float)(1 << 23);

	for (size_t i = 0; i < count; i++)
		weights[i] = (float)((int32_t)(model_random(state) >> 40) - (1 << 23)) * scale;
}

struct model *model_new(uint64_t seed)
{
	struct model *model;

	model = calloc(1, sizeof(*model));
	if (!model)
		return NULL;

#define FILL(matrix, inputs, gain)                                                                 \
	model_fill(&seed, matrix, sizeof(matrix) / sizeof(float), inputs, gain)
	FILL(model->embedding, 1, 1);
	FILL(model->head, MODEL_WIDTH, 1);
	for (uint32_t i = 0; i < MODEL_LAYERS; i++) {
		struct model_layer *layer = &model->layers[i];
		/* Sharp enough that what follows is varied, and soft enough that every token
		 * counts: nearly any bit of any number shows in the digest. */
		FILL(layer->query, MODEL_WIDTH, 1.25f);
		FILL(layer->key, MODEL_WIDTH, 1.25f);
		FILL(layer->value, MODEL_WIDTH, 1);
		FILL(layer->out, MODEL_WIDTH, 2);
		FILL(layer->gate, MODEL_WIDTH, 2);
		FILL(layer->up, MODEL_WIDTH, 1);
		FILL(layer->down, MODEL_FF, 1);
	}
#undef FILL
	for (uint32_t i = 0; i < MODEL_HEAD_DIM / 2; i++)
		model->frequency[i] =
			quad_exp_of_double(-MODEL_ROPE_BASE_LOG * i / (MODEL_HEAD_DIM / 2));

	return model;
}

struct model *model_free(struct model *model)
{
	free(model);

	return NULL;
}

/* ---- Steps of a token ---- */

/* One block of outputs of a matrix. Three quarters of the time is spent here, in the model's
 * own arrays: sanitizers, which would make that tenfold, look at everything else. */
__attribute__((no_sanitize("address", "undefined"))) static void
model_block(const float *block, const float *in, uint32_t inputs, float *out)
{
	const quad zero = {0, 0, 0, 0};
	quad a = zero, b = zero, c = zero, d = zero;

	for (uint32_t i = 0; i < inputs; i++, block += MODEL_BLOCK) {
		const quad *four = (const quad *)(const void *)block;
		const quad x = {in[i], in[i], in[i], in[i]};
		a += four[0] * x;
		b += four[1] * x;
		c += four[2] * x;
		d += four[3] * x;
	}

	quad *to = (quad *)(void *)out;
	to[0] = a;
	to[1] = b;
	to[2] = c;
	to[3] = d;
}

/* out[token] = matrix * in[token] */
static void model_multiply(const float *matrix, const float *in, uint32_t inputs, float *out,
			   uint32_t outputs, uint32_t count)
{
	for (uint32_t first = 0; first < outputs; first += MODEL_BLOCK)
		for (uint32_t token = 0; token < count; token++)
			model_block(matrix + (size_t)first * inputs, in + (size_t)token * inputs,
				    inputs, out + (size_t)token * outputs + first);
}

static void model_add(float *to, const float *numbers)
{
	for (uint32_t i = 0; i < MODEL_WIDTH / QUAD; i++)
		quad_put(to, i, quad_get(to, i) + quad_get(numbers, i));
}

static void model_norm(struct model *model, uint32_t count)
{
	for (uint32_t token = 0; token < count; token++) {
		const float *in = model->stream[token];
		const float mean = quad_dot(in, in, MODEL_WIDTH) / MODEL_WIDTH;
		const quad scale = quad_of(1.0f / sqrtf(mean + 1e-5f));

		for (uint32_t i = 0; i < MODEL_WIDTH / QUAD; i++)
			quad_put(model->normed[token], i, quad_get(in, i) * scale);
	}
}

/* Turns each pair (i, i + HEAD_DIM / 2) of each head by the token's position. */
static void model_rotate(const struct model_token *token, float *heads, uint32_t count)
{
	enum { HALF = MODEL_HEAD_DIM / 2 };

	for (uint32_t head = 0; head < count; head++, heads += MODEL_HEAD_DIM)
		for (uint32_t i = 0; i < HALF / QUAD; i++) {
			const quad x = quad_get(heads, i), y = quad_get(heads + HALF, i);
			const quad cos = quad_get(token->cos, i), sin = quad_get(token->sin, i);
			quad_put(heads, i, x * cos - y * sin);
			quad_put(heads + HALF, i, x * sin + y * cos);
		}
}

/* ---- Attention ---- */

/* Index of the nth token that one sees. */
static uint64_t model_visible(const struct model_token *token, uint64_t first, uint64_t n)
{
	return n < first ? n : token->path[n - first];
}

/* Scores of one query head become weights, of which this is the sum. */
static float model_softmax(float *scores, uint64_t count)
{
	float most = scores[0];
	quad sum = quad_of(0);

	for (uint64_t n = 1; n < count; n++)
		most = scores[n] > most ? scores[n] : most;

	/* What fills up the last four weighs nothing. */
	for (uint64_t n = count; n % QUAD != 0; n++)
		scores[n] = most - 1000.0f;
	for (uint32_t i = 0; i < (count + QUAD - 1) / QUAD; i++) {
		const quad weights = quad_exp(quad_get(scores, i) - quad_of(most));
		quad_put(scores, i, weights);
		sum += weights;
	}

	return quad_sum(sum);
}

/* What the query heads of one key head see, of `count` tokens. */
static void model_attend_head(struct model *model, const struct model_kv *kv, uint32_t layer,
			      uint64_t first, uint32_t which, uint32_t head)
{
	enum { QUADS = MODEL_HEAD_DIM / QUAD };
	const struct model_token *token = &model->tokens[which];
	const uint32_t at = head * MODEL_GROUP * MODEL_HEAD_DIM;
	const uint64_t count = first + token->depth;
	float numbers[MODEL_HEAD_DIM], sum[MODEL_GROUP];

	for (uint64_t n = 0; n < count; n++) {
		model_kv_read(kv, layer, MODEL_KEYS, model_visible(token, first, n), head, numbers);
		for (uint32_t i = 0; i < MODEL_GROUP; i++)
			model->scores[i][n] =
				quad_dot(model->query[which] + at + i * MODEL_HEAD_DIM, numbers,
					 MODEL_HEAD_DIM) *
				0x1.6a09e6p-3f; /* 1 / sqrt(MODEL_HEAD_DIM) */
	}
	for (uint32_t i = 0; i < MODEL_GROUP; i++)
		sum[i] = model_softmax(model->scores[i], count);

	quad seen[MODEL_GROUP][QUADS] = {0};
	for (uint64_t n = 0; n < count; n++) {
		model_kv_read(kv, layer, MODEL_VALUES, model_visible(token, first, n), head,
			      numbers);
		for (uint32_t i = 0; i < MODEL_GROUP; i++)
			for (uint32_t q = 0; q < QUADS; q++)
				seen[i][q] += quad_get(numbers, q) * quad_of(model->scores[i][n]);
	}
	for (uint32_t i = 0; i < MODEL_GROUP; i++)
		for (uint32_t q = 0; q < QUADS; q++)
			quad_put(model->seen[which] + at + i * MODEL_HEAD_DIM, q,
				 seen[i][q] / quad_of(sum[i]));
}

static void model_attention(struct model *model, const struct model_kv *kv, uint32_t nth,
			    uint64_t first, uint32_t count)
{
	const struct model_layer *layer = &model->layers[nth];
	const float *in = model->normed[0];

	model_norm(model, count);
	model_multiply(layer->query, in, MODEL_WIDTH, model->query[0], MODEL_WIDTH, count);
	model_multiply(layer->key, in, MODEL_WIDTH, model->key[0], MODEL_KV_WIDTH, count);
	model_multiply(layer->value, in, MODEL_WIDTH, model->value[0], MODEL_KV_WIDTH, count);

	for (uint32_t i = 0; i < count; i++) {
		const struct model_token *token = &model->tokens[i];
		model_rotate(token, model->query[i], MODEL_HEADS);
		model_rotate(token, model->key[i], MODEL_KV_HEADS);
		model_kv_write(kv, nth, MODEL_KEYS, token->index, model->key[i]);
		model_kv_write(kv, nth, MODEL_VALUES, token->index, model->value[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t head = 0; head < MODEL_KV_HEADS; head++)
			model_attend_head(model, kv, nth, first, i, head);

	/* The queries are no longer needed. */
	model_multiply(layer->out, model->seen[0], MODEL_WIDTH, model->query[0], MODEL_WIDTH,
		       count);
	for (uint32_t i = 0; i < count; i++)
		model_add(model->stream[i], model->query[i]);
}

/* ---- The rest of a layer ---- */

static void model_feed_forward(struct model *model, uint32_t nth, uint32_t count)
{
	const struct model_layer *layer = &model->layers[nth];
	const float *in = model->normed[0];

	model_norm(model, count);
	model_multiply(layer->gate, in, MODEL_WIDTH, model->gate[0], MODEL_FF, count);
	model_multiply(layer->up, in, MODEL_WIDTH, model->up[0], MODEL_FF, count);

	float *gate = model->gate[0], *up = model->up[0];
	for (uint32_t i = 0; i < count * MODEL_FF / QUAD; i++) {
		const quad x = quad_get(gate, i), one = quad_of(1.0f);
		quad_put(gate, i, x / (one + quad_exp(-x)) * quad_get(up, i));
	}

	model_multiply(layer->down, gate, MODEL_FF, model->query[0], MODEL_WIDTH, count);
	for (uint32_t i = 0; i < count; i++)
		model_add(model->stream[i], model->query[i]);
}

/* ---- A call ---- */

static void model_enter(struct model *model, const struct model_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		struct model_token *token = &model->tokens[i];
		const int32_t parent = batch->parents ? batch->parents[i] : (int32_t)i - 1;
		assert(parent < (int32_t)i && batch->tokens[i] < MODEL_VOCABULARY);

		token->index = batch->indices ? batch->indices[i] : batch->first + i;
		token->depth = 1;
		if (parent >= 0) {
			const struct model_token *above = &model->tokens[parent];
			token->depth += above->depth;
			memcpy(token->path, above->path, above->depth * sizeof(*token->path));
		}
		token->path[token->depth - 1] = token->index;

		const uint64_t position = batch->first + token->depth - 1;
		assert(position < MODEL_POSITIONS && token->index >= batch->first);
		for (uint32_t k = 0; k < MODEL_HEAD_DIM / 2; k++)
			quad_sin_cos((double)position * model->frequency[k], &token->sin[k],
				     &token->cos[k]);
		memcpy(model->stream[i], model->embedding + (size_t)batch->tokens[i] * MODEL_WIDTH,
		       sizeof(model->stream[i]));
	}
}

static struct model_answer model_choose(const float *logits)
{
	struct model_answer answer = {.digest = 0xcbf29ce484222325};

	for (uint32_t i = 0; i < MODEL_VOCABULARY; i++) {
		uint32_t bits;
		memcpy(&bits, &logits[i], sizeof(bits));
		answer.digest = (answer.digest ^ bits) * 0x100000001b3;
		if (logits[i] > logits[answer.token])
			answer.token = i;
	}

	return answer;
}

void model_compute(struct model *model, const struct model_kv *kv, const struct model_batch *batch,
		   struct model_answer *answers)
{
	const uint32_t count = batch->count;
	assert(count <= MODEL_CHUNK);

	model_enter(model, batch);
	for (uint32_t nth = 0; nth < MODEL_LAYERS; nth++) {
		if (kv->reach)
			kv->reach(kv->reach_arg, nth);
		model_attention(model, kv, nth, batch->first, count);
		model_feed_forward(model, nth, count);
	}
	if (!answers)
		return;

	model_norm(model, count);
	model_multiply(model->head, model->normed[0], MODEL_WIDTH, model->logits[0],
		       MODEL_VOCABULARY, count);
	for (uint32_t i = 0; i < count; i++)
		answers[i] = model_choose(model->logits[i]);
}
