/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framework: see framework.h. Sizes, concurrency, prefill and decode are here; the
 * context switch and the sessions of a host are in session.c, and what would make a user
 * fit is in fit.c.
 */
#include "client/plan/framework.h"
#include "client/plan/cost.h"
#include "client/plan/fit.h"
#include "client/plan/session.h"

#include "daemon/base/checked.h"

#include <assert.h>
#include <errno.h>

/* Bytes of weights that a step of `tokens` tokens reads: at worst each token has its own
 * experts; never more than there are. */
static double framework_weights_read(const struct plan_model *model, uint64_t weight_bytes,
				     double tokens)
{
	double active =
		(double)weight_bytes * ((double)model->active_params / (double)model->params);
	double read = active * tokens;

	return read < (double)weight_bytes ? read : (double)weight_bytes;
}

/* The longer of computing and reading, and which of them it is. */
static double framework_slower(double compute_s, double memory_s, struct plan_wall *wall)
{
	double longest = compute_s >= memory_s ? compute_s : memory_s;

	wall->resource = compute_s >= memory_s ? PLAN_FLOPS : PLAN_HBM_BANDWIDTH;
	wall->used[PLAN_FLOPS] = compute_s / longest;
	wall->used[PLAN_HBM_BANDWIDTH] = memory_s / longest;

	return longest;
}

/* Users per slot: with data-parallel attention one on each GPU. */
static uint64_t framework_slot_users(const struct plan_hardware *hardware)
{
	return hardware->data_parallel ? hardware->gpus : 1;
}

static int framework_sizes(const struct plan_model *model, const struct plan_hardware *hardware,
			   const struct plan_load *load, struct plan_point *point)
{
	struct plan_load whole = *load;

	whole.keep_layers = whole.keep_heads = whole.keep_tokens = 1;
	whole.encoding_bits = 0;

	uint64_t on_all;
	if (plan_kv_bytes(model, load, load->context, &point->kv_bytes) < 0 ||
	    plan_kv_bytes(model, &whole, load->context, &point->kv_computed_bytes) < 0 ||
	    !checked_mul(point->kv_bytes, hardware->gpus, &on_all) ||
	    !plan_model_weight_bytes(model, &point->weight_bytes) ||
	    !checked_mul(hardware->hbm_bytes, hardware->gpus, &point->hbm_bytes))
		return -ERANGE;

	uint32_t parts = plan_kv_parts(model, hardware);
	point->kv_slot_bytes = on_all / parts + (on_all % parts != 0);
	point->kv_copies = (double)hardware->gpus / parts / (double)framework_slot_users(hardware);

	return 0;
}

static void framework_concurrency(const struct plan_hardware *hardware, struct plan_point *point)
{
	uint64_t hbm = point->hbm_bytes, weights = point->weight_bytes;
	uint64_t slots = hbm > weights && point->kv_slot_bytes > 0
				 ? (hbm - weights) / point->kv_slot_bytes
				 : 0;
	double used = (double)weights + (double)slots * (double)point->kv_slot_bytes;

	point->concurrency = slots * framework_slot_users(hardware);
	point->concurrency_wall.resource = PLAN_HBM_SIZE;
	point->concurrency_wall.used[PLAN_HBM_SIZE] = used / (double)hbm;
}

static void framework_prefill(const struct plan_model *model, const struct plan_hardware *hardware,
			      const struct plan_load *load, struct plan_point *point)
{
	double tokens = (double)load->context;
	double compute_s = plan_prefill_compute_s(model, hardware, load, load->context);
	double read =
		framework_weights_read(model, point->weight_bytes, tokens) * load->keep_layers;
	double memory_s = read / (hardware->gpus * hardware->hbm_bytes_s);
	double linear_flop = tokens * 2 * (double)model->active_params * load->keep_layers;

	point->prefill_s = framework_slower(compute_s, memory_s, &point->prefill_wall);
	point->prefill_linear_s = linear_flop / (hardware->gpus * hardware->flop_s);
	point->break_even_bytes_s = (double)point->kv_bytes / point->prefill_s;
}

/* Every GPU reads the part of the batch that it holds. With data-parallel attention these
 * are the caches of its own users, and a step takes as long as on the GPU with the most. */
static void framework_decode(const struct plan_model *model, const struct plan_hardware *hardware,
			     const struct plan_load *load, struct plan_point *point)
{
	uint64_t most = point->concurrency ? point->concurrency : 1;

	point->batch = load->batch && load->batch < most ? load->batch : most;

	uint64_t slot_users = framework_slot_users(hardware);
	uint64_t slots = point->batch / slot_users + (point->batch % slot_users != 0);
	double batch = (double)point->batch, steps = (double)load->output_tokens;
	double bytes = framework_weights_read(model, point->weight_bytes, batch) +
		       (double)slots * (double)point->kv_slot_bytes;
	double memory_s = steps * bytes / (hardware->gpus * hardware->hbm_bytes_s);
	double compute_s = steps * batch * 2 * (double)model->active_params /
			   (hardware->gpus * hardware->flop_s);

	point->decode_s = framework_slower(compute_s, memory_s, &point->decode_wall);
}

int plan_compute(const struct plan_model *model, const struct plan_hardware *hardware,
		 const struct plan_load *load, struct plan_point *out)
{
	assert(model->params > 0 && load->context > 0 && load->output_tokens > 0 &&
	       hardware->gpus > 0);

	struct plan_point point = {.context = load->context};
	int r = framework_sizes(model, hardware, load, &point);
	if (r < 0)
		return r;

	framework_concurrency(hardware, &point);
	framework_prefill(model, hardware, load, &point);
	framework_decode(model, hardware, load, &point);
	plan_sessions(model, hardware, load, &point);
	plan_fit(model, hardware, load, &point);
	*out = point;

	return 0;
}
