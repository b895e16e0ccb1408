/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/numa.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LONG_BITS (8 * sizeof(unsigned long))
#define MASK_LONGS 16 /* 1024 nodes, as many as the kernel can be built for */

/* ---- what the kernel says ---- */

static FILE *numa_open(const struct numa *numa, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", numa->root, name);
	return fopen(path, "re");
}

static void numa_set(cpu_set_t *set, unsigned long number)
{
	if (number < CPU_SETSIZE)
		CPU_SET(number, set);
}

/* A list of the kernel's: "0-3,8". False: it is none. */
static bool numa_parse(const char *text, cpu_set_t *set)
{
	CPU_ZERO(set);

	while (*text != '\0' && *text != '\n') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;
		if (end == text)
			return false;
		if (*end == '-') {
			text = end + 1;
			last = strtoul(text, &end, 10);
			if (end == text)
				return false;
		}

		for (; first <= last && first < CPU_SETSIZE; first++)
			numa_set(set, first);
		text = *end == ',' ? end + 1 : end;
		if (*end != ',' && *end != '\n' && *end != '\0')
			return false;
	}

	return true;
}

static bool numa_read_list(const struct numa *numa, const char *name, cpu_set_t *set)
{
	char text[1024] = "";
	FILE *file = numa_open(numa, name);
	if (!file)
		return false;

	bool read = fgets(text, sizeof(text), file);
	fclose(file);

	return read && numa_parse(text, set);
}

/* The nodes that the process may have memory of; all where the kernel does not say. */
static void numa_read_allowed(const struct numa *numa, cpu_set_t *set)
{
	static const char prefix[] = "Mems_allowed_list:";
	char line[1024];
	bool found = false;
	FILE *file = numa_open(numa, "proc/self/status");

	while (!found && file && fgets(line, sizeof(line), file)) {
		const char *list = line + sizeof(prefix) - 1;
		found = strncmp(line, prefix, sizeof(prefix) - 1) == 0 &&
			numa_parse(list + strspn(list, " \t"), set);
	}

	if (file)
		fclose(file);
	if (!found)
		memset(set, 0xff, sizeof(*set));
}

void numa_read(struct numa *numa, const char *root)
{
	cpu_set_t with_memory, allowed;

	*numa = (struct numa){0};
	snprintf(numa->root, sizeof(numa->root), "%s", root);
	numa_read_allowed(numa, &allowed);

	if (numa_read_list(numa, "sys/devices/system/node/has_memory", &with_memory))
		for (uint32_t id = 0; id < CPU_SETSIZE && numa->count < NUMA_NODES_MAX; id++)
			if (CPU_ISSET(id, &with_memory) && CPU_ISSET(id, &allowed))
				numa->ids[numa->count++] = id;

	if (numa->count == 0)
		numa->count = 1; /* node 0 */
}

int numa_of_pci(const struct numa *numa, unsigned domain, unsigned bus, unsigned device)
{
	char name[96], text[32] = "";

	snprintf(name, sizeof(name), "sys/bus/pci/devices/%04x:%02x:%02x.0/numa_node", domain, bus,
		 device);
	FILE *file = numa_open(numa, name);
	if (!file)
		return -1;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);

	char *end;
	long id = strtol(text, &end, 10); /* -1: the firmware does not say */
	for (uint32_t i = 0; end != text && i < numa->count; i++)
		if (id == (long)numa->ids[i])
			return (int)i;

	return -1;
}

/* ---- binding ---- */

static int numa_set_policy(void *at, uint64_t bytes, int policy, const unsigned long *mask)
{
	/* the kernel takes one bit less than it is told */
	long r = syscall(SYS_mbind, at, bytes, policy, mask, MASK_LONGS * LONG_BITS + 1, 0);
	return r < 0 ? -errno : 0;
}

static void numa_mask_add(unsigned long *mask, uint32_t id)
{
	if (id < MASK_LONGS * LONG_BITS)
		mask[id / LONG_BITS] |= 1ul << id % LONG_BITS;
}

int numa_place(const struct numa *numa, void *at, uint64_t bytes, uint32_t node)
{
	unsigned long mask[MASK_LONGS] = {0};

	if (numa->count == 1)
		return 0;

	numa_mask_add(mask, numa->ids[node]);

	return numa_set_policy(at, bytes, MPOL_PREFERRED, mask);
}

int numa_interleave(const struct numa *numa, void *at, uint64_t bytes)
{
	unsigned long mask[MASK_LONGS] = {0};

	if (numa->count == 1)
		return 0;

	for (uint32_t i = 0; i < numa->count; i++)
		numa_mask_add(mask, numa->ids[i]);

	return numa_set_policy(at, bytes, MPOL_INTERLEAVE, mask);
}

void numa_run_on(const struct numa *numa, int node)
{
	char name[64];
	cpu_set_t near, now;

	if (node < 0 || numa->count == 1)
		return;

	snprintf(name, sizeof(name), "sys/devices/system/node/node%u/cpulist", numa->ids[node]);
	if (!numa_read_list(numa, name, &near) || sched_getaffinity(0, sizeof(now), &now) < 0)
		return;

	CPU_AND(&near, &near, &now);
	if (CPU_COUNT(&near) > 0)
		(void)sched_setaffinity(0, sizeof(near), &near); /* it runs as it did */
}
