/* SPDX-License-Identifier: Apache-2.0 */
/*
 * area: a region of libhbm, as requests and objects of Python share it. It is destroyed with its
 * last use, or closed before; all that is here is changed with the GIL.
 */
#pragma once

#include "client/python/native/native.h"

struct allocation;
struct core;

enum area_slab { AREA_EMPTY, AREA_COMMITTED, AREA_READ_ONLY };

struct area {
	struct area *next;         /* of its connection's */
	struct core *core;         /* not counted: who has a use of an area has one of its core */
	struct hbm_region *region; /* NULL: closed */
	struct allocation *allocation; /* whose region it is; NULL: its own */
	int refs;
	int pins;         /* requests in flight that use it */
	Py_ssize_t views; /* exported buffers: it cannot be closed or decommitted */
	uint64_t address, bytes, slab;
	uint32_t device;
	bool read_only;
	unsigned char *memory; /* where its bytes are for this process; NULL: they are not */
	unsigned char *slabs;  /* [slabs], enum area_slab */
};

/* Takes a region over, with one use. NULL: MemoryError is set, and the region stays. */
struct area *area_new(struct core *core, struct hbm_region *region, bool committed);
void area_unref(struct area *area); /* the last one destroys the region */
/* False: BufferError is set, as views of it are alive or requests in flight use it. */
bool area_is_unused(const struct area *area, const char *what);
/* Destroys the region. False: an exception is set; the region is gone all the same. */
bool area_close(struct area *area);
/* False: an exception is set: it is closed, or the range is beyond its end. */
bool area_check(const struct area *area, uint64_t offset, uint64_t bytes);
/* Whether this process can reach the bytes of a range. False: an exception is set. */
bool area_can_be_seen(const struct area *area, uint64_t offset, uint64_t bytes);
bool area_is_committed(const struct area *area, uint64_t offset, uint64_t bytes);
bool area_is_read_only(const struct area *area, uint64_t offset, uint64_t bytes);
void area_set(struct area *area, uint64_t offset, uint64_t bytes, enum area_slab slab);
