/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host: the memory of host regions in this process: address space that is set apart, and the
 * memfds of slabs mapped there. Called by region.c alone, in place of the driver's calls. False:
 * the system refused; errno says why.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Aligned as large pages are. */
bool hbm_host_reserve(unsigned long long *address, uint64_t bytes);
bool hbm_host_free(uint64_t address, uint64_t bytes);
/* All of the memfd, which stays the caller's. Without access. */
bool hbm_host_map(uint64_t address, uint64_t bytes, int fd);
/* What is mapped at `source`, once more. */
bool hbm_host_map_again(uint64_t address, uint64_t bytes, uint64_t source);
bool hbm_host_open(uint64_t address, uint64_t bytes, bool read_only);
bool hbm_host_unmap(uint64_t address, uint64_t bytes);
