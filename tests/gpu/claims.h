/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims: what claims have in common, and those of gpu_claims about what processes share in
 * other ways than by a slab of the daemon's: legacy handles, memory of an engine, memory for
 * other devices; and about batches.
 */
#pragma once

#include "tests/gpu/cast.h"
#include "tests/gpu/rig.h"

#include <stdbool.h>
#include <stdint.h>

#define CLAIM_SLAB (8 * MIB)
#define CLAIM_NOBODY 65534
#define CLAIM_READ_WRITE CU_MEM_ACCESS_FLAGS_PROT_READWRITE
#define CLAIM_IMPORT(into, access)                                                                 \
	(&(const struct order){VERB_IMPORT, (into), CLAIM_SLAB, (access)})
#define CLAIM_HOLD (&(const struct order){.verb = VERB_HOLD})

bool claim_is_soft(void);
/* Whether each process has a soft device for itself. */
bool claim_is_alone(void);
void claim_sleep_ms(long ms);
/* PASS or FAIL with the note; where a step was refused, FAIL with that. */
void claim_verdict(const char *name, const struct cast *cast, bool holds, const char *note);
/* The maker has a slab, filled from seed 1. */
void claim_make_slab(struct cast *cast);
/* Of device memory, as the watcher sees it. */
uint64_t claim_free_bytes(struct cast *cast);
/* By how much less is free. */
double claim_mib(uint64_t before, uint64_t after);

void claim_dead_client_with_child(const char *name);
void claim_rdma(const char *name);
void claim_batch(const char *name);
void claim_batch_beside_compute(const char *name);
void claim_guest_descriptor(const char *name);
void claim_guest_legacy(const char *name);
void claim_guest_legacy_death(const char *name);
void claim_guest_legacy_read(const char *name);
