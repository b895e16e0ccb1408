/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_extents: the extents of a tier, by their units, that a late copy of a device
 * (device_late.c) may still read or write. They are taken out of service when their blocks
 * leave them, and put into service again when all such copies are known to be over, if they
 * ever are.
 *
 * Where one cannot be remembered, every extent that is freed from then on counts as late,
 * until the daemon restarts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;

/* One for each extent and device. */
struct late_extent {
	struct device *device;
	uint64_t mark;  /* of its last copy */
	uint64_t bytes; /* that were freed; 0: it is in use */
	uint32_t unit;
	bool wipe; /* its bytes are to be overwritten then */
};

struct late_extents {
	struct late_extent *list; /* [count], in no order */
	size_t count, capacity;
	bool all;
};

void late_extents_add(struct late_extents *late, uint32_t unit, struct device *device);
/* The extent is to be freed: whether it is late, and stays out of service. */
bool late_extents_free(struct late_extents *late, uint32_t unit, uint64_t bytes);
/* The same of one whose bytes are to be overwritten when its copies are over. */
bool late_extents_free_wiped(struct late_extents *late, uint32_t unit, uint64_t bytes);
/* Forgets an extent that was to be freed and whose copies are over: its bytes, and whether they
 * are to be overwritten; 0: there is none. */
uint64_t late_extents_take_over(struct late_extents *late, uint32_t *unit, bool *wipe);
/* Whether one that was to be freed is to be overwritten, as far as it is known. */
bool late_extents_have_wiped(const struct late_extents *late);
void late_extents_clear(struct late_extents *late);
