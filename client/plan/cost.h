/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cost: the cost of one user's context: bytes of KV cache, how GPUs divide or replicate
 * them, and the arithmetic of its prompt.
 *
 * Tensor parallelism divides a cache by its KV heads, so a GPU holds at least one of
 * them: with fewer KV heads than GPUs, heads are replicated. A latent vector belongs to
 * all heads, and every GPU holds all of it. With data-parallel attention each GPU holds
 * whole caches, each of a user of its own.
 */
#pragma once

#include "client/plan/hardware.h"
#include "client/plan/load.h"
#include "client/plan/model.h"

/* Bytes of one copy of the KV cache of `context` tokens, as load keeps it. 0; -ERANGE:
 * beyond 64 bits. */
int plan_kv_bytes(const struct plan_model *model, const struct plan_load *load, uint64_t context,
		  uint64_t *bytes);
/* The largest number of GPUs that one user's cache can be divided among. */
uint32_t plan_kv_parts_max(const struct plan_model *model, const struct plan_hardware *hardware);
/* The number of GPUs that it is divided among, each of which holds one part. At most
 * hardware->gpus. */
uint32_t plan_kv_parts(const struct plan_model *model, const struct plan_hardware *hardware);
/* Seconds that a prompt's arithmetic takes. Grows at least with the context: there is
 * at most one context from which on loading is faster. */
double plan_prefill_compute_s(const struct plan_model *model, const struct plan_hardware *hardware,
			      const struct plan_load *load, uint64_t context);
