/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loan: blocks that the connection has borrowed, and the slabs that they lie in.
 *
 * A slab is imported when the daemon sends it, and kept while a loan is in it; after the last
 * one was returned, until the BORROWs in flight are answered, for their replies may name it
 * without sending it again.
 *
 * A block that shares its slab with others is mapped with all of the slab, once for all loans.
 * One that has slabs of its own is mapped by itself, as a whole or piece by piece.
 */
#pragma once

#include "client/connection.h"

struct borrowed_slab {
	struct list link; /* in hbm->slabs */
	uint64_t id, bytes;
	uint32_t device;
	uint64_t loans, mappings; /* mappings: of all of it, at `address` */
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
};

struct borrowed_piece {
	struct borrowed_slab *slab;
	uint64_t offset;
	CUdeviceptr address; /* where the caller has it mapped; 0: nowhere */
};

struct hbm_loan {
	struct list link; /* in hbm->loans */
	struct hbm *hbm;
	uint64_t id, bytes;
	uint32_t device, count;
	bool returning;      /* a RETURN of it is in flight */
	CUdeviceptr address; /* of all of it, by hbm_loan_map(); 0: it is not mapped so */
	struct borrowed_piece pieces[];
};

/* hbm_borrow() of what the device has a copy of, all else is a miss: waits for no transfer. */
int hbm_borrow_ready(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece,
		     const hbm_key *keys, size_t count, struct hbm_loan **loans);
/* NULL: the connection has no such slab. */
struct borrowed_slab *hbm_slab_find(struct hbm *hbm, uint64_t id);
/* Imports a slab that the daemon has sent. False: no memory, or gpu.failed_call failed. */
bool hbm_slab_import(struct hbm *hbm, uint32_t device, const struct hbm_wire_slab *wire, int fd);
/* Releases the slabs without a loan, unless a reply may still name them. */
void hbm_slabs_sweep(struct hbm *hbm);
/* Unmaps what is mapped of it. */
void hbm_loan_unmap(struct hbm_loan *loan);
/* Unmaps and frees it; its slabs are for hbm_slabs_sweep(). */
void hbm_loan_drop(struct hbm_loan *loan);
/* The connection is closed: returns all loans, if it is not broken. */
void hbm_loans_close(struct hbm *hbm);
