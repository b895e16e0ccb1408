/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots: names for objects, which detect use after free. A name is a slot's number, the
 * generation of its use, and the kind of object. A name that was removed, or is of another
 * kind, finds nothing, and is not reused before its slot was used 2^24 times. Names are
 * never 0. The caller locks.
 */
#pragma once

#include <stdint.h>

struct slot;

struct slots {
	uint8_t kind; /* set once, different for each set */
	struct slot *list;
	uint32_t used, capacity; /* slots ever used; allocated */
	uint32_t free;           /* head of the free ones, as index + 1 */
	uint64_t live;
};

uint64_t slots_add(struct slots *slots, void *object); /* its name, or 0: out of memory */
void *slots_find(const struct slots *slots, uint64_t name);
void slots_remove(struct slots *slots, uint64_t name); /* of an object that is there */
/* The next object from *at on, moving it, or NULL at the end; objects may be removed
 * meanwhile. */
void *slots_next(const struct slots *slots, uint32_t *at);
void slots_clear(struct slots *slots); /* frees the table, not the objects */
