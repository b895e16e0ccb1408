/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_setup: the host memory that regions may be of, ddr.regions: its device (host_device.h),
 * with a pool of slabs, and two copy queues, in which threads copy by themselves.
 */
#pragma once

struct hbmd;

/* Nothing where ddr.regions is 0. What an earlier daemon had is taken over (region_kept.h). The
 * link statistics are open. Negative errno. */
int host_setup_open(struct hbmd *hbmd);
/* As memory_setup_close() closes devices. */
void host_setup_close(struct hbmd *hbmd);
