/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fit: if not one user fits: how much memory is missing, and which single change would be
 * enough: more GPUs, a shorter context, a smaller cache, narrower weights.
 */
#pragma once

#include "client/plan/hardware.h"
#include "client/plan/load.h"
#include "client/plan/model.h"
#include "client/plan/point.h"

/* Fills in point->fit; the point's sizes are known. */
void plan_fit(const struct plan_model *model, const struct plan_hardware *hardware,
	      const struct plan_load *load, struct plan_point *point);
