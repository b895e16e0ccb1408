/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_costs: what the calls and the links cost on this machine, as records.
 *
 * 	gpu_costs [--quick] HBM DDR DISK FOLDER
 * 	gpu_costs --actor N	an actor on socket N
 *
 * The first three are how many MiB of each it may use; in FOLDER it makes one file, which
 * it removes.
 */
#include "tests/gpu/actor.h"
#include "tests/gpu/costs.h"
#include "tests/gpu/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What may be used, and no more than half of what there is. */
static uint64_t at_most_half(uint64_t limit, uint64_t available)
{
	return limit < available / 2 ? limit : available / 2;
}

static void measure(const struct rig *rig, struct limits *limits)
{
	size_t free_bytes = 0, total;

	if (rig->driver->cuMemGetInfo(&free_bytes, &total) == CUDA_SUCCESS)
		limits->hbm = at_most_half(limits->hbm, free_bytes);

	limits->ddr = at_most_half(limits->ddr, (uint64_t)sysconf(_SC_AVPHYS_PAGES) *
							(uint64_t)sysconf(_SC_PAGESIZE));
	costs_vmm(rig, limits);
	costs_commit(rig, limits);
	costs_register(rig, limits);
	costs_pages(rig, limits);
	costs_copy(rig, limits);
	costs_queues(rig, limits);
	costs_rows(rig, limits);
	costs_hash(rig, limits);
	costs_beside(rig, limits);
	costs_disk(limits);
}

int main(int argc, char **argv)
{
	struct limits limits = {.quick = argc > 1 && strcmp(argv[1], "--quick") == 0};
	char error[256] = "no device";
	struct rig rig;

	if (argc == 3 && strcmp(argv[1], "--actor") == 0)
		return actor_play(atoi(argv[2]));

	argv += limits.quick;

	if (argc - limits.quick != 5) {
		fprintf(stderr, "usage: gpu_costs [--quick] HBM_MIB DDR_MIB DISK_MIB FOLDER\n");
		return 2;
	}

	limits.hbm = strtoull(argv[1], NULL, 10) * MIB;
	limits.ddr = strtoull(argv[2], NULL, 10) * MIB;
	limits.disk = strtoull(argv[3], NULL, 10) * MIB;
	limits.folder = argv[4];

	if (!rig_open(&rig, error, sizeof(error))) {
		fprintf(stderr, "gpu_costs: %s\n", error);
		return 1;
	}

	record_part("costs");
	measure(&rig, &limits);
	rig_close(&rig);

	return 0;
}
