/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_live: theory and measurement side by side. A context switch is performed
 * (plan_switch.h). Then the running daemon's sizes, and the rates its links have reached
 * while they were busy, go into the plan.
 */
#pragma once

#include "client/ctl/plan_request.h"

#define PLAN_SWITCHES_MAX 3

/* A rate, and what the data sheet or the options say it should be; 0: not known. */
struct plan_measure {
	const char *name;
	double theoretical_bytes_s, measured_bytes_s;
};

struct plan_switch {
	const char *tier;
	uint64_t bytes;
	double out_s, in_s;
	/* both, at the rates the plan would take without a daemon; 0: not known */
	double theoretical_s;
};

struct plan_live {
	struct plan_measure links[HBM_LINKS];
	size_t link_count;
	struct plan_switch switches[PLAN_SWITCHES_MAX];
	size_t switch_count;
	char note[160]; /* why a tier was not measured, or "" */
};

/* How much of the theory was reached, as rates: 1 is all of it; 0: the theory is not
 * known. */
double plan_measure_ratio(const struct plan_measure *measure);
double plan_switch_ratio(const struct plan_switch *performed);
/* Measures, and puts the daemon's sizes and rates into request->hardware. Needs the
 * hardware that the options name as the theory. Returns the exit status. */
int plan_live_measure(struct ctl *ctl, struct plan_request *request, struct plan_live *out);
