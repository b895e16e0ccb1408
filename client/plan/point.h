/* SPDX-License-Identifier: Apache-2.0 */
/*
 * point: the answer for one context length: the four metrics, the resource that limits
 * each, and what follows from them. framework.h fills one in.
 */
#pragma once

#include <stdint.h>

enum plan_resource {
	PLAN_HBM_SIZE,
	PLAN_FLOPS,
	PLAN_HBM_BANDWIDTH,
	PLAN_LINK,
	PLAN_NVME,
	PLAN_RESOURCES,
};

/* What limits a metric, and the part of each resource that is in use then; 0: not in
 * use. */
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
	uint64_t break_even; /* tokens from which on loading is faster than prefill; 0: none */
	double session_s;    /* with every switch through this tier; 0: no user fits */
	double sessions_per_hour, sustainable_users;
};

/* What is missing for one user, and the single changes that would be enough. */
struct plan_fit {
	uint64_t missing_bytes; /* 0: one user fits */
	uint64_t gpus;          /* of this kind that hold one user; 0: no number of them */
	uint64_t context;       /* the longest that fits; 0: not even the weights do */
	double weight_bits;     /* for one parameter at most; 0: none would do */
	double keep; /* the part of the KV cache that fits, at most 1; 0: not even the weights do */
};

struct plan_point {
	uint64_t context;
	uint64_t weight_bytes, hbm_bytes; /* of all GPUs */
	uint64_t kv_bytes;                /* of one user, as kept */
	uint64_t kv_computed_bytes;       /* of one user, with nothing left out */
	/* on all GPUs, for one user; with data-parallel attention for one on each */
	uint64_t kv_slot_bytes;
	double kv_copies; /* of a user's cache in HBM: above 1 where GPUs replicate it */
	uint64_t concurrency, batch;
	double prefill_s, prefill_linear_s; /* the second without attention */
	double decode_s;                    /* of all output tokens of the batch */
	double switch_s, switch_duplex_s;   /* through the link */
	double break_even_bytes_s; /* a tier with more loads faster than prefill computes */
	double session_s;          /* 0: no user fits */
	double sessions_per_hour, sustainable_users;
	uint64_t users_in_ddr, users_in_nvme,
		users_without_place; /* of the users beyond concurrency */
	struct plan_wall concurrency_wall, prefill_wall, decode_wall, switch_wall;
	struct plan_parking ddr, nvme;
	struct plan_fit fit;
};

/* The name of a resource, for people. */
const char *plan_resource_name(enum plan_resource resource);
