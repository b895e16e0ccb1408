/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr_size: how the daemon's host memory is divided, and whether there is so much: of the
 * host, of the memory cgroup, of huge pages. More than there is would be touched until
 * the kernel ends somebody for it.
 */
#pragma once

#include "daemon/base/memory_limit.h"

#include <stddef.h>
#include <stdint.h>

struct config;

#define DDR_SIZE_HUGE_PAGE (2ull << 20)
#define DDR_SIZE_OWN (32ull << 20) /* what the daemon itself is expected to need beside it */

struct ddr_size {
	uint64_t staging, headroom, size; /* one after the other */
	uint64_t bytes;                   /* all of it, in whole pages */
};

/* A percentage is of what can be had. */
void ddr_size_of(struct ddr_size *out, const struct config *config,
		 const struct memory_limit *limit);
/* Whether so much can be had: 0; -EINVAL where it never can, -ENOMEM where huge pages are
 * missing, and one line in error with both numbers. */
int ddr_size_check(const struct ddr_size *size, const struct config *config,
		   const struct memory_limit *limit, char *error, size_t error_size);
/* Huge pages of 2 MiB that can be had now: those that are free, and those that may be
 * made. */
uint64_t ddr_size_huge_pages(void);
