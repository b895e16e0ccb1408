/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hardware: what a host has. m GPUs count as one large GPU (tensor parallelism), with m
 * times the memory, the FLOP/s and the bandwidths. Only the KV cache is not always divided
 * by m: see plan_kv_parts() in cost.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Bytes per second out of HBM and back into it. */
struct plan_link {
	double out_bytes_s, in_bytes_s;
};

struct plan_hardware {
	uint32_t gpus;
	bool data_parallel;    /* attention is: each GPU holds the caches of its own users */
	uint64_t hbm_bytes;    /* of one GPU */
	double flop_s;         /* of one GPU */
	double hbm_bytes_s;    /* of one GPU's memory */
	struct plan_link link; /* of one GPU, both directions at once */
	uint64_t ddr_bytes, nvme_bytes; /* for parked users; 0: none */
	struct plan_link nvme; /* of the host, one direction at a time; only with nvme_bytes */
};
