/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loading: estimates how long it takes to load bytes from their tiers into a client's
 * memory. The links work in parallel, so the slowest counts; bytes from NVMe also cross
 * the link to the device. The daemon estimates a lookup with the rates it has measured, at
 * first by a probe, `hbmctl plan` a context switch with those of data sheets.
 */
#pragma once

#include <stdint.h>

/* Bytes per second; 0: not known, and taken to need no time. */
struct loading_rates {
	double hbm_bytes_s, link_bytes_s, nvme_bytes_s;
};

/* Seconds for so many bytes in each tier. */
double loading_seconds(const struct loading_rates *rates, uint64_t hbm, uint64_t ddr,
		       uint64_t nvme);
