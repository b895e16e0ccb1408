/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the calls cost that make, hand over, map and give back a slab, by its size: one
 * slab at a time through all of them, over and over. And what backing 1 GiB costs with
 * them: with slabs that are made for it, and with slabs that were there, which is the
 * daemon's and its client's part together.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/record.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 200
#define PATIENCE_S 2.0
#define COMMIT_ROUNDS 5

static const uint64_t slab_sizes[] = {2 * MIB, 8 * MIB, 32 * MIB, 128 * MIB, 512 * MIB, GIB};

enum step { CREATE, EXPORT, IMPORT, MAP, ACCESS, UNMAP, RELEASE, STEPS };
static const char *const step_names[STEPS] = {"create",     "export", "import", "map",
					      "set-access", "unmap",  "release"};

/* Takes the time of a call; gives false up the function it is in if the call failed. */
#define TIMED(samples, step, ...)                                                                  \
	do {                                                                                       \
		double began = clock_s();                                                          \
		if (!COST(__VA_ARGS__))                                                            \
			return false;                                                              \
		samples_add(&(samples)[step], (clock_s() - began) * 1e6);                          \
	} while (0)

/* What fails here leaves what it had to the end of the process. */
static bool one_slab(const struct rig *rig, CUdeviceptr address, size_t bytes,
		     struct samples *samples)
{
	const CUmemAllocationProp prop = rig_prop(rig);
	const CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	const CUmemAllocationHandleType type = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	CUmemGenericAllocationHandle made, imported;
	int fd;

	TIMED(samples, CREATE, rig, cuMemCreate, &made, bytes, &prop, 0);
	TIMED(samples, EXPORT, rig, cuMemExportToShareableHandle, &fd, made, type, 0);
	TIMED(samples, IMPORT, rig, cuMemImportFromShareableHandle, &imported,
	      (void *)(uintptr_t)fd, type);
	close(fd);
	TIMED(samples, MAP, rig, cuMemMap, address, bytes, 0, imported, 0);
	TIMED(samples, ACCESS, rig, cuMemSetAccess, address, bytes, &access, 1);
	TIMED(samples, UNMAP, rig, cuMemUnmap, address, bytes);
	if (!COST(rig, cuMemRelease, imported))
		return false;

	TIMED(samples, RELEASE, rig, cuMemRelease, made);

	return true;
}

static void vmm_report(uint64_t bytes, struct samples *samples)
{
	char name[64];

	for (int step = 0; step < STEPS; step++) {
		snprintf(name, sizeof(name), "%s, slab of %s", step_names[step], size_text(bytes));
		record_number(name, samples_percentile(&samples[step], 50), "us",
			      "p99 %.1f us of %zu", samples_percentile(&samples[step], 99),
			      samples[step].count);
	}
}

static void vmm_size(const struct rig *rig, const struct limits *limits, uint64_t bytes)
{
	static struct samples samples[STEPS];
	const unsigned rounds = limits->quick ? 10 : ROUNDS;
	const double until = clock_s() + PATIENCE_S;
	CUdeviceptr address;
	char name[64];
	bool works = COST(rig, cuMemAddressReserve, &address, bytes, 0, 0, 0);

	memset(samples, 0, sizeof(samples));
	for (unsigned round = 0; works && round < rounds && clock_s() < until; round++)
		works = one_slab(rig, address, bytes, samples);
	if (works) {
		rig->driver->cuMemAddressFree(address, bytes);
		vmm_report(bytes, samples);
		return;
	}

	snprintf(name, sizeof(name), "slab of %s", size_text(bytes));
	costs_blame(name);
}

void costs_vmm(const struct rig *rig, const struct limits *limits)
{
	for (size_t i = 0; i < sizeof(slab_sizes) / sizeof(slab_sizes[0]); i++) {
		if (slab_sizes[i] <= limits->hbm)
			vmm_size(rig, limits, slab_sizes[i]);
	}
}

/* ---- 1 GiB ---- */

struct backing {
	const struct rig *rig;
	CUdeviceptr range;
	size_t slab, count, made, mapped; /* slabs: their size, how many there are to be, and are */
	CUmemGenericAllocationHandle handles[512];
};

static bool backing_make(struct backing *backing)
{
	for (; backing->made < backing->count; backing->made++) {
		if (!costs_did(backing->rig, "cuMemCreate",
			       rig_create(backing->rig, backing->slab,
					  &backing->handles[backing->made])))
			return false;
	}
	return true;
}

/* What daemon and client do for a slab that is there. */
static bool slab_hand_over(const struct backing *backing, size_t i)
{
	const struct rig *rig = backing->rig;
	const CUmemAllocationHandleType type = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	CUmemGenericAllocationHandle imported;
	bool works;
	int fd;

	if (!COST(rig, cuMemExportToShareableHandle, &fd, backing->handles[i], type, 0))
		return false;

	works = COST(rig, cuMemImportFromShareableHandle, &imported, (void *)(uintptr_t)fd, type);
	close(fd);
	if (!works)
		return false;

	works = COST(rig, cuMemMap, backing->range + i * backing->slab, backing->slab, 0, imported,
		     0);
	rig->driver->cuMemRelease(imported);

	return works;
}

static bool backing_map(struct backing *backing)
{
	const CUmemAccessDesc access = {rig_prop(backing->rig).location,
					CU_MEM_ACCESS_FLAGS_PROT_READWRITE};

	for (; backing->mapped < backing->count; backing->mapped++) {
		if (!slab_hand_over(backing, backing->mapped))
			return false;
	}

	return COST(backing->rig, cuMemSetAccess, backing->range, GIB, &access, 1);
}

/* Also one that is not complete. */
static bool backing_drop(struct backing *backing)
{
	const size_t bytes = backing->mapped * backing->slab;
	bool works = bytes == 0 || COST(backing->rig, cuMemUnmap, backing->range, bytes);

	for (size_t i = 0; i < backing->made; i++)
		backing->rig->driver->cuMemRelease(backing->handles[i]);
	backing->made = backing->mapped = 0;

	return works;
}

static void commit_slab(const struct rig *rig, uint64_t slab, CUdeviceptr range)
{
	static struct backing backing;
	static struct samples made, mapped;
	char name[64];
	bool works = true;

	backing = (struct backing){.rig = rig, .range = range, .slab = slab, .count = GIB / slab};
	made.count = mapped.count = 0;
	for (int round = 0; works && round < COMMIT_ROUNDS; round++) {
		double began = clock_s(), between;

		works = backing_make(&backing);
		between = clock_s();
		works = works && backing_map(&backing);
		samples_add(&made, (double)GIB / (clock_s() - began) / 1e9);
		samples_add(&mapped, (double)GIB / (clock_s() - between) / 1e9);
		works = backing_drop(&backing) && works;
	}

	snprintf(name, sizeof(name), "1 GiB in one process, slab of %s", size_text(slab));

	if (works)
		record_number(name, samples_percentile(&mapped, 50), "GB/s",
			      "export to set-access; with creation: %.1f GB/s",
			      samples_percentile(&made, 50));
	else
		costs_blame(name);
}

void costs_commit(const struct rig *rig, const struct limits *limits)
{
	CUdeviceptr range;

	if (limits->hbm < GIB ||
	    rig->driver->cuMemAddressReserve(&range, GIB, 0, 0, 0) != CUDA_SUCCESS) {
		record("1 GiB in one process", OUTCOME_UNSUPPORTED,
		       "there is less memory than that");
		return;
	}

	for (size_t i = 0; i < sizeof(slab_sizes) / sizeof(slab_sizes[0]); i++)
		commit_slab(rig, slab_sizes[i], range);
	rig->driver->cuMemAddressFree(range, GIB);
}
