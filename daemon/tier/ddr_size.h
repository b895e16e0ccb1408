/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr_size: how the daemon's host memory is divided, into tier, staging and regions, and whether the host, the memory
 * cgroup and the huge pages have enough. Without this check the daemon would touch more
 * memory than there is, and the kernel would kill a process.
 */
#pragma once

#include "daemon/base/memory_limit.h"

#include <stddef.h>
#include <stdint.h>

struct config;

#define DDR_SIZE_HUGE_PAGE (2ull << 20)
#define DDR_SIZE_OWN (32ull << 20) /* what the daemon is expected to need besides */

struct ddr_size {
	uint64_t staging, headroom, size; /* one after the other */
	uint64_t bytes;                   /* their sum, in whole pages */
	uint64_t taken;                   /* of them, what memory of the daemon before takes */
	uint64_t regions;                 /* beside them, for regions; never huge pages */
};

/* A percentage is taken of the available memory. */
void ddr_size_of(struct ddr_size *out, const struct config *config,
		 const struct memory_limit *limit);
/* What host regions may have: whole slabs of 2 MiB. */
uint64_t ddr_size_regions(const struct config *config, const struct memory_limit *limit);
/* Whether that much memory is available: 0; -EINVAL if it never is, -ENOMEM if huge pages
 * are missing, and one line in error with both numbers. */
int ddr_size_check(const struct ddr_size *size, const struct config *config,
		   const struct memory_limit *limit, char *error, size_t error_size);
/* Huge pages of 2 MiB that are available now: the free ones and those the kernel may
 * add. */
uint64_t ddr_size_huge_pages(void);
