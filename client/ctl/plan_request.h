/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_request: the options of `hbmctl plan`, validated and resolved into a
 * model, the hardware, the load and the context lengths. A function that returns
 * CTL_USAGE has printed one line about what is wrong.
 */
#pragma once

#include "client/ctl/ctl.h"
#include "client/ctl/plan_config.h"
#include "client/plan/framework.h"
#include "client/plan/gpu.h"

#define PLAN_CONTEXTS_MAX 64

enum plan_option {
	PLAN_OPTION_LIST,
	PLAN_OPTION_MODEL,
	PLAN_OPTION_PARAMS,
	PLAN_OPTION_WEIGHT_BITS,
	PLAN_OPTION_GPU,
	PLAN_OPTION_GPUS,
	PLAN_OPTION_DP_ATTENTION,
	PLAN_OPTION_HBM,
	PLAN_OPTION_FLOPS,
	PLAN_OPTION_BANDWIDTH,
	PLAN_OPTION_LINK,
	PLAN_OPTION_DDR,
	PLAN_OPTION_NVME,
	PLAN_OPTION_CONTEXT,
	PLAN_OPTION_OUTPUT_TOKENS,
	PLAN_OPTION_BATCH,
	PLAN_OPTION_USERS,
	PLAN_OPTION_ROUNDS,
	PLAN_OPTION_THINK_TIME,
	PLAN_OPTION_KEEP_LAYERS,
	PLAN_OPTION_KEEP_HEADS,
	PLAN_OPTION_KEEP_TOKENS,
	PLAN_OPTION_ENCODING,
	PLAN_OPTION_D_EFF,
	PLAN_OPTION_LAYOUT,
	PLAN_OPTION_CSV,
	PLAN_OPTION_PLOT,
	PLAN_OPTION_LIVE,
	PLAN_OPTION_SWITCH_BYTES,
};
extern const struct option_spec plan_options[];

struct plan_request {
	struct plan_config config;
	struct plan_model model;
	const struct plan_gpu *gpu; /* NULL: none was named */
	struct plan_hardware hardware;
	struct plan_load load; /* without a context */
	uint64_t contexts[PLAN_CONTEXTS_MAX];
	size_t context_count;
	const char *encoding; /* as named, or "none" */
	const char *hbm_note; /* which figure for HBM was taken */
	uint64_t switch_bytes;
};

/* Whether --list was given; CTL_USAGE if anything else was, too. */
int plan_request_list(const struct ctl *ctl, bool *asked);
/* The model, the load and the contexts. */
int plan_request_load(const struct ctl *ctl, struct plan_request *request);
/* The hardware that the options name; what they leave out is 0. */
int plan_request_hardware(const struct ctl *ctl, struct plan_request *request);
/* Checks that every figure of a GPU is given, except those that come from a daemon. */
int plan_request_complete(const struct ctl *ctl, const struct plan_request *request,
			  bool daemon_to_be_asked);
