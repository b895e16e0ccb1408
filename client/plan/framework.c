/* SPDX-License-Identifier: Apache-2.0 */
/* framework: see framework.h. The four metrics are here, what they come to for a host full of users in session.c. */
#include "client/plan/framework.h"
#include "client/plan/session.h"

#include "daemon/checked.h"

#include <assert.h>
#include <errno.h>

struct plan_load plan_load_default(void)
{
	return (struct plan_load){
		.output_tokens = 250,
		.batch = 1,
		.rounds = 1,
		.keep_layers = 1,
		.keep_heads = 1,
		.keep_tokens = 1,
	};
}

const char *plan_resource_name(enum plan_resource resource)
{
	static const char *const names[PLAN_RESOURCES] = {
		[PLAN_HBM_SIZE] = "HBM size", [PLAN_FLOPS] = "FLOP/s", [PLAN_HBM_BANDWIDTH] = "HBM bandwidth",
		[PLAN_LINK] = "host link",    [PLAN_NVME] = "NVMe",
	};
	return names[resource];
}

/* The part of its computed bytes that the cache of a user is kept in. */
static double kept(const struct plan_model *model, const struct plan_load *load)
{
	double encoding = load->encoding_bits ? (double)load->encoding_bits / model->element_bits : 1;
	return load->keep_layers * load->keep_heads * load->keep_tokens * encoding;
}

int plan_kv_bytes(const struct plan_model *model, const struct plan_load *load, uint64_t context, uint64_t *bytes)
{
	uint64_t in_window = context < model->window ? context : model->window;
	uint64_t full, windowed, places, bits;
	if (!checked_mul(context, model->layers - model->windowed_layers, &full) ||
	    !checked_mul(in_window, model->windowed_layers, &windowed) || !checked_add(full, windowed, &places) ||
	    !checked_mul(places, plan_model_elements(model) * model->element_bits, &bits))
		return -ERANGE;
	uint64_t whole = bits / 8;
	double part = kept(model, load);
	if (part < 1) {
		double exact = (double)whole * part;
		whole = (uint64_t)exact;
		whole += (double)whole < exact;
	}
	*bytes = whole;
	return 0;
}

/* Context tokens that a prompt token meets, twice the mean over the prompt: T in a full layer, and in one with a window
 * w what grows to w and stays there. */
static double twice_mean_context(double tokens, double window)
{
	return tokens <= window ? tokens : 2 * window - window * window / tokens;
}

/* FLOP of attention for one token of the prompt. */
static double attention_flop(const struct plan_model *model, const struct plan_load *load, double tokens)
{
	double width = load->attention_width > 0 ? load->attention_width : model->attention_width;
	double full = (double)(model->layers - model->windowed_layers) * tokens;
	double windowed = (double)model->windowed_layers * twice_mean_context(tokens, model->window);
	return width * (full + windowed);
}

double plan_prefill_compute_s(const struct plan_model *model, const struct plan_hardware *hardware,
			      const struct plan_load *load, uint64_t context)
{
	double tokens = (double)context;
	double flop = tokens * (2 * (double)model->active_params + attention_flop(model, load, tokens));
	/* A layer whose keys and values are not kept need not run over the prompt. */
	return flop * load->keep_layers / (hardware->gpus * hardware->flop_s);
}

/* Bytes of weights that `tokens` tokens at a time read: each its own experts at worst, and never more than there are.
 */
static double weights_read(const struct plan_model *model, uint64_t weight_bytes, double tokens)
{
	double active = (double)weight_bytes * ((double)model->active_params / (double)model->params);
	double read = active * tokens;
	return read < (double)weight_bytes ? read : (double)weight_bytes;
}

/* The longer of computing and reading, and which it is. */
static double slower_of(double compute_s, double memory_s, struct plan_wall *wall)
{
	double longest = compute_s >= memory_s ? compute_s : memory_s;
	wall->resource = compute_s >= memory_s ? PLAN_FLOPS : PLAN_HBM_BANDWIDTH;
	wall->used[PLAN_FLOPS] = compute_s / longest;
	wall->used[PLAN_HBM_BANDWIDTH] = memory_s / longest;
	return longest;
}

static void concurrency(struct plan_point *point)
{
	uint64_t hbm = point->hbm_bytes, weights = point->weight_bytes;
	uint64_t users = hbm > weights && point->kv_bytes > 0 ? (hbm - weights) / point->kv_bytes : 0;
	point->concurrency = users;
	point->concurrency_wall.resource = PLAN_HBM_SIZE;
	point->concurrency_wall.used[PLAN_HBM_SIZE] =
		((double)weights + (double)users * (double)point->kv_bytes) / (double)hbm;
}

static void prefill(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		    struct plan_point *point)
{
	double tokens = (double)load->context;
	double compute_s = plan_prefill_compute_s(model, hardware, load, load->context);
	double read = weights_read(model, point->weight_bytes, tokens) * load->keep_layers;
	double memory_s = read / (hardware->gpus * hardware->hbm_bytes_s);
	point->prefill_s = slower_of(compute_s, memory_s, &point->prefill_wall);
	point->prefill_linear_s =
		tokens * 2 * (double)model->active_params * load->keep_layers / (hardware->gpus * hardware->flop_s);
	point->break_even_bytes_s = (double)point->kv_bytes / point->prefill_s;
}

static void decode(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		   struct plan_point *point)
{
	uint64_t most = point->concurrency ? point->concurrency : 1;
	point->batch = load->batch && load->batch < most ? load->batch : most;
	double batch = (double)point->batch, steps = (double)load->output_tokens;
	double bytes = weights_read(model, point->weight_bytes, batch) + batch * (double)point->kv_bytes;
	double memory_s = steps * bytes / (hardware->gpus * hardware->hbm_bytes_s);
	double compute_s = steps * batch * 2 * (double)model->active_params / (hardware->gpus * hardware->flop_s);
	point->decode_s = slower_of(compute_s, memory_s, &point->decode_wall);
}

int plan_compute(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		 struct plan_point *out)
{
	assert(model->params > 0 && load->context > 0 && load->output_tokens > 0 && hardware->gpus > 0);
	struct plan_load whole = *load;
	whole.keep_layers = whole.keep_heads = whole.keep_tokens = 1;
	whole.encoding_bits = 0;
	struct plan_point point = {.context = load->context};
	if (plan_kv_bytes(model, load, load->context, &point.kv_bytes) < 0 ||
	    plan_kv_bytes(model, &whole, load->context, &point.kv_computed_bytes) < 0 ||
	    !plan_model_weight_bytes(model, &point.weight_bytes) ||
	    !checked_mul(hardware->hbm_bytes, hardware->gpus, &point.hbm_bytes))
		return -ERANGE;
	concurrency(&point);
	prefill(model, hardware, load, &point);
	decode(model, hardware, load, &point);
	plan_sessions(model, hardware, load, &point);
	point.fit = plan_fit_of(model, hardware, load, &point);
	*out = point;
	return 0;
}
