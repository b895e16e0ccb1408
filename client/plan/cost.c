/* SPDX-License-Identifier: Apache-2.0 */
/* cost: see cost.h. */
#include "client/plan/cost.h"

#include "daemon/base/checked.h"

#include <errno.h>

/* The part of the computed bytes of a cache that is kept. */
static double cost_kept_part(const struct plan_model *model, const struct plan_load *load)
{
	double encoding =
		load->encoding_bits ? (double)load->encoding_bits / model->element_bits : 1;

	return load->keep_layers * load->keep_heads * load->keep_tokens * encoding;
}

static uint64_t cost_round_up(double bytes)
{
	uint64_t whole = (uint64_t)bytes;

	return whole + ((double)whole < bytes);
}

int plan_kv_bytes(const struct plan_model *model, const struct plan_load *load, uint64_t context,
		  uint64_t *bytes)
{
	uint64_t in_window = context < model->window ? context : model->window;
	uint64_t full, windowed, tokens, bits;

	if (!checked_mul(context, model->layers - model->windowed_layers, &full) ||
	    !checked_mul(in_window, model->windowed_layers, &windowed) ||
	    !checked_add(full, windowed, &tokens) ||
	    !checked_mul(tokens, plan_model_elements(model) * model->element_bits, &bits))
		return -ERANGE;

	double part = cost_kept_part(model, load);
	uint64_t whole = bits / 8;
	*bytes = part < 1 ? cost_round_up((double)whole * part) : whole;

	return 0;
}

uint32_t plan_kv_parts_max(const struct plan_model *model, const struct plan_hardware *hardware)
{
	return hardware->data_parallel || model->latent_dim ? 1 : model->kv_heads;
}

uint32_t plan_kv_parts(const struct plan_model *model, const struct plan_hardware *hardware)
{
	uint32_t most = plan_kv_parts_max(model, hardware);

	return most < hardware->gpus ? most : hardware->gpus;
}

/* Twice the mean number of context tokens that a prompt token attends to: T in a full
 * layer; in a layer with a window w it grows to w and stays there. */
static double cost_twice_mean_context(double tokens, double window)
{
	return tokens <= window ? tokens : 2 * window - window * window / tokens;
}

/* FLOP of attention for one token of the prompt. */
static double cost_attention_flop(const struct plan_model *model, const struct plan_load *load,
				  double tokens)
{
	double width = load->attention_width > 0 ? load->attention_width : model->attention_width;
	double full = (double)(model->layers - model->windowed_layers) * tokens;
	double windowed =
		(double)model->windowed_layers * cost_twice_mean_context(tokens, model->window);

	return width * (full + windowed);
}

double plan_prefill_compute_s(const struct plan_model *model, const struct plan_hardware *hardware,
			      const struct plan_load *load, uint64_t context)
{
	double tokens = (double)context;
	double flop = tokens *
		      (2 * (double)model->active_params + cost_attention_flop(model, load, tokens));

	/* A layer whose keys and values are not kept is not computed for the prompt. */
	return flop * load->keep_layers / (hardware->gpus * hardware->flop_s);
}
