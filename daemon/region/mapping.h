/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: one job for a device's control worker: maps, or unmaps, the slabs of stretches
 * of slots in the daemon's address space. The only place that calls cuMemMap and
 * cuMemUnmap for regions.
 *
 * Mapping is all or none: on failure nothing of it is mapped and no fd is left. Unmapping
 * always ends; a slab the device refuses to unmap is marked stuck.
 */
#pragma once

#include "daemon/region/slot.h"

void mapping_map(struct mapping *mapping);
void mapping_unmap(struct mapping *mapping); /* empty slots are skipped */
