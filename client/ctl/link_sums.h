/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_sums: what the links did in a window of time, from the movements that the daemon
 * keeps: the record that it has of each link since its start, for that window alone.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NVMe I/O; otherwise copies by a device. */
bool link_sums_is_nvme(uint32_t link);
/* Sums over [from_ns, to_ns) of `count` intervals in any order. A movement that is partly
 * inside counts as one, with its share of the bytes. 0 and links[], one for each; -ENOMEM. */
int link_sums(const struct hbm_wire_interval *intervals, size_t count, uint64_t from_ns,
	      uint64_t to_ns, struct hbm_wire_link links[static HBM_LINKS]);
