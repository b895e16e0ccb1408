/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framework: what a long context costs, as four metrics that each have one piece of hardware for a wall: concurrency
 * (size of HBM), prefill (FLOP/s), decode (bandwidth of HBM) and the context switch (the link to the host). Pure
 * arithmetic on three structs: the model, the hardware, the load. hbm-plan(7) has the formulas.
 *
 * Bytes are whole numbers and checked; seconds and rates are doubles. GPUs are counted as one large one (tensor
 * parallel): m times the memory, the FLOP/s, the bandwidths. All times are lower bounds at the peak rates given.
 *
 * It does not know activations, fragmentation, the network between GPUs, or how kernels fall short of their peak.
 */
#pragma once

#include "client/plan/model.h"

#define PLAN_CONTEXT_MAX 1000000000ull /* tokens */

/* Bytes per second out of HBM and back into it. */
struct plan_link {
	double out_bytes_s, in_bytes_s;
};

struct plan_hardware {
	uint32_t gpus;
	uint64_t hbm_bytes;             /* of one GPU */
	double flop_s;                  /* of one GPU */
	double hbm_bytes_s;             /* of one GPU's memory */
	struct plan_link link;          /* of one GPU, both directions at once */
	uint64_t ddr_bytes, nvme_bytes; /* for parked users; 0: none */
	struct plan_link nvme;          /* of the host, one direction at a time; only with nvme_bytes */
};

struct plan_load {
	uint64_t context; /* tokens of each user */
	uint64_t output_tokens;
	uint64_t batch;                              /* users decoded together; 0: as many as fit */
	uint64_t users;                              /* at the same time; 0: no more than fit */
	uint64_t rounds;                             /* questions in a session */
	double think_s;                              /* between two of them */
	double keep_layers, keep_heads, keep_tokens; /* parts of the KV cache that are kept: above 0, at most 1 */
	uint32_t encoding_bits;                      /* of an element that is kept; 0: as computed */
	double attention_width;                      /* FLOP for one token, context token and layer; 0: the model's */
};

enum plan_resource {
	PLAN_HBM_SIZE,
	PLAN_FLOPS,
	PLAN_HBM_BANDWIDTH,
	PLAN_LINK,
	PLAN_NVME,
	PLAN_RESOURCES,
};

/* What bounds a metric, and the part of each resource that is in use then. A resource without a part in it has 0. */
struct plan_wall {
	enum plan_resource resource;
	double used[PLAN_RESOURCES];
};

/* A tier below HBM, holding users that are not being served. */
struct plan_parking {
	uint64_t users;            /* it has room for */
	double out_s, in_s;        /* of one user */
	double serial_s, duplex_s; /* of a switch: out, then in; one out while another comes in */
	struct plan_wall wall;     /* of the serial switch */
	uint64_t break_even;       /* tokens from which on loading is faster than prefill; 0: none */
	double session_s;          /* with every switch through this tier; 0: no user fits */
	double sessions_per_hour, sustainable_users;
};

/* What is missing for one user, and each of the things that would do alone. */
struct plan_fit {
	uint64_t missing_bytes; /* 0: one user fits */
	uint64_t gpus;          /* of this kind that hold one user */
	uint64_t context;       /* the longest that fits; 0: not even the weights do */
	double weight_bits;     /* for one parameter at most; 0: none would do */
	double keep;            /* the part of the KV cache that fits, at most 1; 0: not even the weights do */
};

struct plan_point {
	uint64_t context;
	uint64_t weight_bytes, hbm_bytes; /* of all GPUs */
	uint64_t kv_bytes;                /* of one user, as kept */
	uint64_t kv_computed_bytes;       /* of one user, with nothing left out */
	uint64_t concurrency, batch;
	double prefill_s, prefill_linear_s; /* the second without attention */
	double decode_s;                    /* of all output tokens of the batch */
	double switch_s, switch_duplex_s;   /* through the link */
	double break_even_bytes_s;          /* a tier with more loads faster than prefill computes */
	double session_s;                   /* 0: no user fits */
	double sessions_per_hour, sustainable_users;
	uint64_t users_in_ddr, users_in_nvme, users_without_place; /* of the users beyond concurrency */
	struct plan_wall concurrency_wall, prefill_wall, decode_wall, switch_wall;
	struct plan_parking ddr, nvme;
	struct plan_fit fit;
};

/* The load that most questions start from: one user at a time, everything kept. */
struct plan_load plan_load_default(void);
/* 0; -ERANGE: a size is beyond 64 bits. The caller has seen to it that all inputs are in their ranges. */
int plan_compute(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		 struct plan_point *out);
/* Bytes of the KV cache of `context` tokens, as load keeps it. -ERANGE as above. */
int plan_kv_bytes(const struct plan_model *model, const struct plan_load *load, uint64_t context, uint64_t *bytes);
/* The name of a resource, for people. */
const char *plan_resource_name(enum plan_resource resource);
