/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failed_extents: where the extents of a tier are that are out of service, because a disk has failed
 * there or a late copy may still use them. They stay allocated, so a tier that is to become smaller
 * cannot wait for them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct failed_extent {
	uint32_t unit;
	uint64_t bytes;
};

struct failed_extents {
	struct failed_extent *list; /* [count], in no order */
	size_t count, capacity;
	uint64_t unknown; /* bytes of those for which there was no memory */
};

void failed_extents_add(struct failed_extents *failed, uint32_t unit, uint64_t bytes);
/* It is in service again. */
void failed_extents_remove(struct failed_extents *failed, uint32_t unit, uint64_t bytes);
void failed_extents_clear(struct failed_extents *failed);
