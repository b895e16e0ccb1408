/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_variant: the effect of one change to the request: half of the KV cache along each
 * axis of compression, or one more GPU.
 */
#pragma once

#include "client/plan/framework.h"

struct plan_variant {
	const char *name;  /* in JSON */
	const char *words; /* for people */
	double layers, heads, tokens;
	uint32_t bits;
	uint32_t more_gpus;
};

extern const struct plan_variant plan_variants[];
extern const size_t plan_variant_count;

/* The point with that change. False: it changes nothing here (an element has no more
 * bits already), or its sizes are beyond 64 bits. */
bool plan_variant_compute(const struct plan_variant *variant, const struct plan_model *model,
			  const struct plan_hardware *hardware, const struct plan_load *load,
			  struct plan_point *out);
