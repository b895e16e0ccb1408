/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numa: the NUMA nodes of this host that have memory this process may use, which of them a
 * PCI device is at, and how memory and threads are bound to one. Where sysfs tells nothing
 * there is one node, and binding to the only one does nothing.
 *
 * A node is named by its index here, from 0; numa->ids has the kernel's number. The kernel's
 * calls are made without libnuma: there are two.
 */
#pragma once

#include <stdint.h>

#define NUMA_NODES_MAX 64u

struct numa {
	uint32_t count; /* at least 1 */
	uint32_t ids[NUMA_NODES_MAX];
	char root[256]; /* numa.c's */
};

/* root: a folder that stands for /, with sys/devices/system/node, sys/bus/pci and proc/self;
 * "" except in tests. */
void numa_read(struct numa *numa, const char *root);
/* The node of the device at domain:bus:device; -1: unknown. */
int numa_of_pci(const struct numa *numa, unsigned domain, unsigned bus, unsigned device);

/* Pages of [at, at + bytes), of a shared mapping that has none yet, come from that node while
 * it has any; or from all of them in turn. 0, or negative errno. */
int numa_place(const struct numa *numa, void *at, uint64_t bytes, uint32_t node);
int numa_interleave(const struct numa *numa, void *at, uint64_t bytes);
/* The calling thread runs on that node's processors, as far as it may; no-op for -1. */
void numa_run_on(const struct numa *numa, int node);
