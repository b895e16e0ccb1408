/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: the context switch, the tiers that hold parked users, and what a session of a
 * user costs with both.
 *
 * A switch writes one copy of a cache, over the links of all GPUs. It reads as many
 * copies as GPUs hold: each GPU loads its own over its own link.
 */
#pragma once

#include "client/plan/hardware.h"
#include "client/plan/load.h"
#include "client/plan/model.h"
#include "client/plan/point.h"

/* Fills in the switch, the parking and the session of a point whose sizes,
 * concurrency, prefill and decode are known. */
void plan_sessions(const struct plan_model *model, const struct plan_hardware *hardware,
		   const struct plan_load *load, struct plan_point *point);
