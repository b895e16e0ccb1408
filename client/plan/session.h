/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: the second half of the framework: the context switch, the tiers that hold parked users, and what a session
 * of a user costs with both; and for those who do not fit, what would make them fit. Works on a point whose
 * concurrency, prefill and decode are known.
 */
#pragma once

#include "client/plan/framework.h"

/* Fills in the switch, the parking and the session. */
void plan_sessions(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		   struct plan_point *point);
struct plan_fit plan_fit_of(const struct plan_model *model, const struct plan_hardware *hardware,
			    const struct plan_load *load, const struct plan_point *point);
/* Prefill as far as arithmetic bounds it: grows at least with the context, and so has one break-even point. */
double plan_prefill_compute_s(const struct plan_model *model, const struct plan_hardware *hardware,
			      const struct plan_load *load, uint64_t context);
