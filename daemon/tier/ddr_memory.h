/* SPDX-License-Identifier: Apache-2.0 */
/* ddr_memory: what the daemon's host memory is made of. Only ddr.c and ddr_resize.c include this. */
#pragma once

#include <stdatomic.h>

#include "daemon/device/device.h"
#include "daemon/tier/ddr_nodes.h"

#define DDR_WORKERS_MAX 8

struct chunk {
	struct job job;
	struct ddr *ddr;
	struct worker *worker;
	struct chunk *next;     /* of those that wait for a worker */
	uint64_t offset, bytes; /* of memory; 0: there is none */
	uint64_t served;        /* of them, those that are of a tier: the others only fill a page */
	uint64_t collapsed;     /* of them, in transparent huge pages */
	unsigned attempts;
	struct device *device; /* whose context registered it, or tried to */
	bool registered;
	bool in_tier;    /* the tier has grown by it */
	bool stuck;      /* it could not be given back */
	int error;       /* of touching */
	CUresult result; /* of registering */
};

struct ddr {
	struct tier *tier, *staging_tier;
	struct devices *devices;
	int fd; /* of the memory */
	char *base;
	uint64_t bytes, staging; /* bytes: of the memory, without what chunks have given back */
	uint64_t chunk;          /* bytes of one at most, counted from base */
	uint64_t span;           /* bytes of addresses: a multiple of chunk */
	uint64_t opened;         /* the bytes that it was opened with */
	bool hugepages;
	bool adopted; /* it has the bytes of the daemon before */
	struct ddr_nodes nodes;
	atomic_bool stop;
	atomic_bool fragmented; /* transparent huge pages cannot be allocated, or only slowly */
	atomic_uint_fast64_t collapsed; /* bytes in transparent huge pages */
	uint64_t started_ns, ready;     /* ready: bytes in service */
	uint32_t pending;
	bool broken;
	void (*progress)(void *arg);
	void *arg;
	struct worker *workers[DDR_WORKERS_MAX];
	uint32_t chunk_count;
	struct chunk *chunks; /* one for each `chunk` bytes of addresses */
	struct chunk *waiting, **last_waiting;
	void (*given_back)(void *arg); /* while memory is given back (ddr_resize.c); else NULL */
	void *given_back_arg;
};

/* ddr.c's, for ddr_resize.c. */
uint64_t ddr_page(const struct ddr *ddr); /* bytes of one */
/* A chunk that has an offset and bytes is to be put into service, after those that wait already. */
void ddr_prepare_later(struct ddr *ddr, struct chunk *chunk);
/* Workers that have nothing to do begin with what waits. */
void ddr_start(struct ddr *ddr);
/* The device forgets a chunk: whether it has; on a worker, or when none runs. */
bool ddr_unregister(struct chunk *chunk);
