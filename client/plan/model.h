/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: the facts about a language model from which its memory and its work follow, and
 * a built-in table of models.
 *
 * Every layer keeps the same number of elements for a token: keys and values of each KV
 * head, or one latent vector shared by all heads (multi-head latent attention). Some
 * layers may keep only the last `window` tokens. All parameters of a mixture-of-experts
 * model are in memory, and `active_params` of them are used for one token.
 *
 * The table has published facts, with their sources in the rows. Weights have their
 * published width: DeepSeek-V3 in FP8, gpt-oss with its experts in MXFP4, most others in
 * the 16 bits of their type.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan_model {
	const char *name, *hf_id;
	uint32_t layers;          /* that have a KV cache */
	uint32_t windowed_layers; /* of them, those with a window */
	uint32_t window;          /* tokens; 0 without windowed layers */
	uint32_t q_heads, hidden;
	uint32_t kv_heads, head_dim; /* 0 where there is a latent vector instead */
	uint32_t latent_dim;         /* elements of it for a token and layer; else 0 */
	uint32_t element_bits;       /* of the KV cache as the model computes it */
	/* FLOP of attention for one token, context token and layer, causality counted */
	uint32_t attention_width;
	double weight_bits;             /* for one parameter, on average */
	uint64_t params, active_params; /* 0: not known */
	uint64_t max_context;           /* tokens the model was made for */
	const char *source;
};

extern const struct plan_model plan_models[];
extern const size_t plan_model_count;

/* The names of a row, for names.h: its own, its Hugging Face id, the id without the owner,
 * and an alias if it has one. */
const char *plan_model_name(size_t row, unsigned which);
/* The row that a name means (names.h); NULL: none or several. */
const struct plan_model *plan_model_find(const char *name);
/* Elements that a layer keeps for a token. */
uint64_t plan_model_elements(const struct plan_model *model);
/* Bytes of all weights. False: beyond 64 bits. */
bool plan_model_weight_bytes(const struct plan_model *model, uint64_t *bytes);
