/* SPDX-License-Identifier: Apache-2.0 */
/* link: see link.h. */
#include "tests/gpu/link.h"

#include "tests/gpu/costs.h"

#include <sys/mman.h>

bool link_open(struct link *link)
{
	const struct rig *rig = link->rig;
	void *host = mmap(NULL, 2 * LINK_SPAN, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (host == MAP_FAILED)
		return costs_did(rig, "mmap", CUDA_ERROR_OUT_OF_MEMORY);

	link->host = host;

	return COST(rig, cuMemHostRegister, host, 2 * LINK_SPAN, CU_MEMHOSTREGISTER_PORTABLE) &&
	       costs_did(rig, "a slab", rig_slab(rig, LINK_SPAN, &link->down)) &&
	       costs_did(rig, "a slab", rig_slab(rig, LINK_SPAN, &link->up)) &&
	       COST(rig, cuStreamCreate, &link->streams[0], CU_STREAM_NON_BLOCKING) &&
	       COST(rig, cuStreamCreate, &link->streams[1], CU_STREAM_NON_BLOCKING);
}

void link_close(struct link *link)
{
	for (int i = 0; i < 2; i++) {
		if (link->streams[i])
			link->rig->driver->cuStreamDestroy(link->streams[i]);
	}

	rig_drop(link->rig, &link->down);
	rig_drop(link->rig, &link->up);

	if (link->host) {
		link->rig->driver->cuMemHostUnregister(link->host);
		munmap(link->host, 2 * LINK_SPAN);
	}
}
