/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framework: what a long context costs, as four metrics, each limited by one piece of
 * hardware: concurrency (size of HBM), prefill (FLOP/s), decode (bandwidth of HBM) and
 * the context switch (the link to the host). Pure arithmetic: from a model, the hardware
 * and a load to a point. hbm-plan(7) has the formulas.
 *
 * Bytes are whole numbers and checked; seconds and rates are doubles. All times are lower
 * bounds at the peak rates given. Activations, fragmentation, the network between GPUs
 * and how kernels fall short of their peak are left out.
 */
#pragma once

#include "client/plan/hardware.h"
#include "client/plan/load.h"
#include "client/plan/model.h"
#include "client/plan/point.h"

/* 0; -ERANGE: a size is beyond 64 bits. The caller has made sure that all inputs are
 * in range. */
int plan_compute(const struct plan_model *model, const struct plan_hardware *hardware,
		 const struct plan_load *load, struct plan_point *out);
