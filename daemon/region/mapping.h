/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: a job for a device's control worker: maps, or unmaps, the slabs of runs of
 * slots in the daemon's address space. Only this module calls cuMemMap and cuMemUnmap for
 * regions.
 *
 * Mapping is all or none: on failure none of it stays mapped and no fd stays open. A long
 * one goes on after jobs that were posted later; its slots are claimed until done(), so no
 * client uses a part of it.
 * Unmapping always completes; a slab the device refuses to unmap is marked stuck.
 */
#pragma once

#include "daemon/region/slot.h"

void mapping_map(struct mapping *mapping);
void mapping_unmap(struct mapping *mapping); /* empty slots are skipped */
/* Maps at once, on this thread, and calls nothing: before the loop runs. */
void mapping_map_now(struct mapping *mapping);
