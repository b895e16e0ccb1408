/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab: the HBM lent to regions. A slab is one physical allocation (a VMM handle) of 2
 * MiB << k. The pool has a budget in bytes; it is at every moment the sum of
 *
 * 	leased		in a region of a live session
 * 	quarantined	in a region of a session whose process has not been seen to be gone
 * 	retiring	given back, its handle being released on the control worker
 * 	ready		created ahead, never exported
 * 	uncreated	budget without a handle
 *
 * A slab is reference-counted: each slot of a region that maps it has one reference, so
 * that regions can share a slab (a fork, a shared prefix). It is charged once, and
 * quarantined once all of its references are.
 *
 * A slab that was ever exported is never handed to anyone again: an fd is a capability
 * that cannot be revoked, so the handle is released and a new one created; the driver
 * clears the memory and refuses to create it while somebody still holds the old. Ready
 * slabs are created in the background so that a commit does not pay for creation; when
 * another size is asked for, ready slabs of the wrong size are released first. A slab
 * whose handle the device refuses to release stays quarantined for the life of the
 * daemon.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/device/device.h"

struct slabs;

struct slab {
	struct list link; /* in the pool's ready list, or with its owner */
	CUmemGenericAllocationHandle handle;
	uint64_t bytes;
	uint32_t refs, quarantined; /* references, and those of them that are quarantined */
	bool exported;
	bool stuck; /* the device refused to unmap it: it is still mapped somewhere in the daemon */
	CUresult result; /* the pool's, as are the following */
	struct job job;
	struct slabs *slabs;
};

struct slabs_books {
	uint64_t budget, leased, quarantined, retiring, ready, uncreated;
};

/* A pool of `budget` bytes, none of it created yet; the default slab is what is created
 * ahead. -ENOMEM. */
int slabs_open(struct slabs **out, struct device *device, struct loop *loop, uint64_t budget,
	       uint64_t default_slab);
/* The daemon stops: slabs are made for orders only, no longer ahead of them. Memory that
 * drained sessions gave back may still be mapped by their processes, and nobody will come
 * for it. */
void slabs_drain(struct slabs *slabs);
/* For the time after loop_run(), when no region is left: releases all that is ready.
 * Takes NULL, returns NULL. */
struct slabs *slabs_close(struct slabs *slabs);
struct slabs_books slabs_books(const struct slabs *slabs);
uint64_t slabs_default(const struct slabs *slabs); /* bytes of the default slab */
bool slabs_is_size(uint64_t bytes);                /* 2 MiB << k, k = 0..9 */
/* Whether what the pool counts and what it holds agree: the first fault as a static
 * sentence, or NULL. */
const char *slabs_check(const struct slabs *slabs);

/* All that one commit needs of one device: taken from the budget at once, created where
 * none is ready, on the control worker. done() is called once, on the loop thread and
 * maybe before slabs_request() returns: status 0 and `count` slabs on `taken`, now
 * leased, with one reference each; or an enum hbm_status and none. If slabs_request
 * itself refuses (budget), it returns HBM_NO_SPACE and done() is not called. */
struct slab_request {
	uint64_t bytes; /* of each */
	uint64_t count;
	void (*done)(struct slab_request *request);
	struct list taken;
	int status;
	struct list link; /* the pool's, as are the following */
	uint64_t missing;
	bool retried;
	bool lacks_fds; /* result came for want of descriptors */
	CUresult result;
	struct job job;
	struct slabs *slabs;
};
int slabs_request(struct slabs *slabs, struct slab_request *request);

/* One more reference to a leased slab. */
struct slab *slab_ref(struct slab *slab);
/* A reference is quarantined: its holder may still write to the slab. With the last one
 * the slab is. */
void slab_quarantine(struct slab *slab);
/* Consumes a reference; `quarantined` says whether it was. The caller has unmapped what
 * the reference stood for. With the last one the slab goes back into the budget: an
 * exported slab retires, another becomes ready, and one that the device refused to unmap
 * (slab->stuck) stays quarantined for good. */
void slab_unref(struct slab *slab, bool quarantined);
