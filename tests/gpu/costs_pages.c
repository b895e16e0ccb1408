/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What device memory the page tables of registered host memory take, by the size of its
 * pages: the device's free memory before and after. hbmd registers its whole DDR pool for
 * every device.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES_MOST (16 * GIB)
#define PAGES_PIECE (256 * MIB) /* what hbmd registers with one call */

struct pages {
	const char *name;
	int map_flags, advice; /* advice -1: none */
};

/* Registers pieces until one is refused. How many bytes are. */
static size_t pages_register(const struct rig *rig, char *memory, size_t bytes)
{
	for (size_t done = 0; done < bytes; done += PAGES_PIECE) {
		if (!COST(rig, cuMemHostRegister, memory + done, PAGES_PIECE,
			  CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP))
			return done;
	}
	return bytes;
}

static void pages_measure(const struct rig *rig, const char *name, char *memory, size_t bytes)
{
	size_t before = 0, after = 0, total, registered = 0;
	const bool asked = COST(rig, cuMemGetInfo, &before, &total);

	if (asked)
		registered = pages_register(rig, memory, bytes);

	const bool works = registered == bytes && COST(rig, cuMemGetInfo, &after, &total);

	for (size_t done = 0; done < registered; done += PAGES_PIECE)
		rig->driver->cuMemHostUnregister(memory + done);

	if (works)
		record_number(name,
			      ((double)before - (double)after) / (double)MIB /
				      ((double)bytes / (double)GIB),
			      "MiB/GiB", "of %s; expected: 2 or less", size_text(bytes));
	else
		costs_blame(name);
}

static void pages_kind(const struct rig *rig, const struct pages *pages, size_t bytes)
{
	char name[80];
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | pages->map_flags, -1, 0);

	snprintf(name, sizeof(name), "device memory for registered memory, %s pages", pages->name);

	if (memory == MAP_FAILED) {
		record(name, OUTCOME_UNSUPPORTED, "no such memory of %s: %s", size_text(bytes),
		       strerror(errno));
		return;
	}

	if (pages->advice >= 0)
		madvise(memory, bytes, pages->advice);

	/* What a container does not grant is an error here, and no signal. */
	if (madvise(memory, bytes, MADV_POPULATE_WRITE) < 0)
		record(name, OUTCOME_UNSUPPORTED, "%s of such pages cannot be touched: %s",
		       size_text(bytes), strerror(errno));
	else
		pages_measure(rig, name, memory, bytes);

	munmap(memory, bytes);
}

void costs_pages(const struct rig *rig, const struct limits *limits)
{
	static const struct pages kinds[] = {{"4 KiB", 0, MADV_NOHUGEPAGE},
					     {"transparent huge", 0, MADV_HUGEPAGE},
					     {"huge", MAP_HUGETLB, -1}};
	size_t bytes = limits->quick ? PAGES_PIECE : PAGES_MOST;

	while (bytes > limits->ddr && bytes > PAGES_PIECE)
		bytes /= 2;

	if (bytes > limits->ddr) {
		record("device memory for registered memory", OUTCOME_UNSUPPORTED,
		       "it takes 256 MiB of host memory");
		return;
	}

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		pages_kind(rig, &kinds[i], bytes);
}
