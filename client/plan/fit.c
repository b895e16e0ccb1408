/* SPDX-License-Identifier: Apache-2.0 */
/* fit: see fit.h. */
#include "client/plan/fit.h"
#include "client/plan/cost.h"

typedef unsigned __int128 fit_wide;

static double fit_min(double a, double b)
{
	return a < b ? a : b;
}

/* The longest context whose cache is at most `room` bytes. */
static uint64_t fit_longest_context(const struct plan_model *model, const struct plan_load *load,
				    uint64_t room)
{
	uint64_t fits = 0, beyond = PLAN_CONTEXT_MAX + 1;

	while (beyond - fits > 1) {
		uint64_t middle = fits + (beyond - fits) / 2, bytes;

		if (plan_kv_bytes(model, load, middle, &bytes) == 0 && bytes <= room)
			fits = middle;
		else
			beyond = middle;
	}

	return fits;
}

/* The fewest GPUs that hold the weights and one user. Beyond `parts` of them each
 * holds its part of the weights and as much of the cache as before: W / m + KV / parts
 * is at most its memory. */
static uint64_t fit_gpus(const struct plan_model *model, const struct plan_hardware *hardware,
			 const struct plan_point *point)
{
	uint32_t parts = plan_kv_parts_max(model, hardware);

	fit_wide hbm = hardware->hbm_bytes, weights = point->weight_bytes, kv = point->kv_bytes;

	fit_wide divided = (weights + kv + hbm - 1) / hbm;
	if (divided <= parts)
		return (uint64_t)divided;
	if (hbm * parts <= kv)
		return 0;

	fit_wide left = hbm * parts - kv;
	fit_wide replicated = (weights * parts + left - 1) / left;

	return replicated <= UINT64_MAX ? (uint64_t)replicated : 0;
}

void plan_fit(const struct plan_model *model, const struct plan_hardware *hardware,
	      const struct plan_load *load, struct plan_point *point)
{
	uint64_t hbm = point->hbm_bytes, slot = point->kv_slot_bytes;
	uint64_t left = hbm > point->weight_bytes ? hbm - point->weight_bytes : 0;
	uint64_t room =
		(uint64_t)((fit_wide)left * plan_kv_parts(model, hardware) / hardware->gpus);

	fit_wide needed = (fit_wide)point->weight_bytes + slot;

	point->fit = (struct plan_fit){
		.missing_bytes = needed > hbm ? (uint64_t)(needed - hbm) : 0,
		.gpus = fit_gpus(model, hardware, point),
		.context = fit_longest_context(model, load, room),
		.keep = fit_min(1, (double)room / (double)point->kv_bytes),
	};
	if (hbm > slot)
		point->fit.weight_bits = fit_min(model->weight_bits,
						 (double)(hbm - slot) * 8 / (double)model->params);
}
