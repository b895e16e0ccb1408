/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_live: theory and measurement side by side. A context switch is performed
 * (plan_switch.h). Then the running daemon's sizes, and the rates its links have reached
 * while they were busy, go into the plan.
 */
#pragma once

#include "client/ctl/plan_measure.h"
#include "client/ctl/plan_request.h"

/* How much of the theory was reached, as rates: 1 is all of it; 0: the theory is not
 * known. */
double plan_measure_ratio(const struct plan_measure *measure);
double plan_switch_ratio(const struct plan_switch *performed);
/* Measures, and puts the daemon's sizes and rates into request->hardware. Needs the
 * hardware that the options name as the theory. Returns the exit status. */
int plan_live_measure(struct ctl *ctl, struct plan_request *request, struct plan_live *out);
