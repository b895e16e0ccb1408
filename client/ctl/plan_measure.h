/* SPDX-License-Identifier: Apache-2.0 */
/* plan_measure: measurements of a running daemon, and the expected values. */
#pragma once

#include <hbm/wire.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_SWITCHES_MAX 3

/* A rate, and its value in the data sheet or the options; 0: not known. */
struct plan_measure {
	const char *name;
	double theoretical_bytes_s, measured_bytes_s;
};

struct plan_switch {
	enum hbm_tier tier;
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
	/* What blocks were before they were encoded, for each byte that they take of NVMe; 1
	 * where it has none. */
	double nvme_ratio;
	char note[160]; /* why a tier was not measured, or "" */
};
