/* SPDX-License-Identifier: Apache-2.0 */
/* Regions: creation, destruction, and the states of their slabs. See region.h. */
#include "client/region.h"

#include "client/device.h"
#include "client/error.h"
#include "client/host.h"
#include "client/request.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_MIN (2ull << 20)
#define SLAB_MAX (SLAB_MIN << 9)

uint64_t hbm_region_address(const struct hbm_region *region)
{
	return region->address;
}

void *hbm_region_host(const struct hbm_region *region)
{
	if (region->host)
		return (void *)(uintptr_t)region->address;

	return region->guest ? NULL : driver_host_address(region->hbm->gpu.driver, region->address);
}

uint64_t hbm_region_bytes(const struct hbm_region *region)
{
	return region->address_space;
}

uint64_t hbm_region_slab(const struct hbm_region *region)
{
	return region->slab;
}

uint32_t hbm_region_device(const struct hbm_region *region)
{
	return region->device;
}

/* ---- Ranges ---- */

int hbm_ranges_check(struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	size_t most = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_ranges)) /
		      sizeof(struct hbm_wire_range);

	if (count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no ranges");

	if (count > most)
		return hbm_fail(hbm, HBM_LIMIT, "%zu ranges: a request has at most %zu", count,
				most);

	for (size_t i = 0; i < count; i++) {
		const struct hbm_range *range = &ranges[i];
		if (!range->region || range->region->hbm != hbm)
			return hbm_fail(hbm, HBM_INVALID,
					"range %zu: not a region of this connection", i);
		if (range->region->guest)
			return hbm_fail(
				hbm, HBM_UNSUPPORTED,
				"range %zu: of a guest region, whose memory is its client's", i);

		uint64_t slab = range->region->slab;
		if (!is_aligned(range->offset, slab) || !is_aligned(range->bytes, slab) ||
		    !checked_range(range->offset, range->bytes, range->region->address_space))
			return hbm_fail(hbm, HBM_INVALID,
					"range %zu: %llu bytes at %llu are not slabs of %llu bytes "
					"within %llu",
					i, (unsigned long long)range->bytes,
					(unsigned long long)range->offset, (unsigned long long)slab,
					(unsigned long long)range->region->address_space);
	}

	return 0;
}

/* Turns slabs of the range from state `from` into `to` until one is in another state; the
 * number turned. */
static uint64_t region_range_change(const struct hbm_range *range, uint64_t slabs,
				    enum slab_state from, enum slab_state to)
{
	uint8_t *first = range->region->slabs + range->offset / range->region->slab;
	uint64_t n = 0;
	while (n < slabs && first[n] == from)
		first[n++] = (uint8_t)to;
	return n;
}

static uint64_t region_range_slabs(const struct hbm_range *range)
{
	return range->bytes / range->region->slab;
}

int hbm_ranges_turn(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
		    enum slab_state from, enum slab_state to, int refusal)
{
	uint64_t turned = 0;
	size_t i = 0;

	while (i < count &&
	       (turned = region_range_change(&ranges[i], region_range_slabs(&ranges[i]), from,
					     SLAB_MARKED)) == region_range_slabs(&ranges[i]))
		i++;

	if (i == count) {
		for (i = 0; i < count; i++)
			region_range_change(&ranges[i], region_range_slabs(&ranges[i]), SLAB_MARKED,
					    to);
		return 0;
	}

	const struct hbm_range *bad = &ranges[i];
	uint64_t offset = bad->offset + turned * bad->region->slab;
	bool twice = bad->region->slabs[offset / bad->region->slab] == SLAB_MARKED;
	region_range_change(bad, turned, SLAB_MARKED, from);
	for (size_t k = 0; k < i; k++)
		region_range_change(&ranges[k], region_range_slabs(&ranges[k]), SLAB_MARKED, from);

	return hbm_fail(hbm, twice ? HBM_INVALID : refusal, "range %zu: the slab at %llu %s", i,
			(unsigned long long)offset,
			twice                   ? "is in this request twice"
			: refusal == HBM_EXISTS ? "is committed or about to be"
						: "is not committed");
}

/* ---- Device memory, or the host's ---- */

bool hbm_region_enter(struct hbm_region *region)
{
	return region->host || hbm_gpu_enter(&region->hbm->gpu, region->device);
}

void hbm_region_leave(struct hbm_region *region)
{
	if (!region->host)
		hbm_gpu_leave(&region->hbm->gpu);
}

/* What the system said of a host region. */
static bool region_host_check(struct hbm_region *region, const char *call, bool done)
{
	return hbm_gpu_check(&region->hbm->gpu, call,
			     done              ? CUDA_SUCCESS
			     : errno == ENOMEM ? CUDA_ERROR_OUT_OF_MEMORY
					       : CUDA_ERROR_OPERATING_SYSTEM);
}

/* Releases a handle; the mapping keeps the memory. A leaked handle would keep the memory
 * allocated until this process exits, so a refused release is retried once. A sticky error
 * is not: it may belong to an earlier call, this release may have succeeded, and the driver
 * may have reused the handle. */
static bool region_handle_release(struct gpu *gpu, CUmemGenericAllocationHandle handle)
{
	return GPU_CALL(gpu, cuMemRelease, handle) ||
	       (!driver_error_is_sticky(gpu->failed_result) && GPU_CALL(gpu, cuMemRelease, handle));
}

bool hbm_region_place_handle(struct hbm_region *region, uint64_t offset,
			     CUmemGenericAllocationHandle handle)
{
	struct gpu *gpu = &region->hbm->gpu;
	bool mapped = GPU_CALL(gpu, cuMemMap, region->address + offset, region->slab, 0, handle, 0);
	if (mapped)
		region->slabs[offset / region->slab] = SLAB_PLACED;

	return mapped;
}

/* Maps the memory of a handle, which is used up whatever the result. */
static bool region_handle_map(struct hbm_region *region, uint64_t offset,
			      CUmemGenericAllocationHandle handle)
{
	bool mapped = hbm_region_place_handle(region, offset, handle);
	bool released = region_handle_release(&region->hbm->gpu, handle);

	return mapped && released;
}

static bool region_host_placed(struct hbm_region *region, uint64_t offset, bool mapped)
{
	if (mapped)
		region->slabs[offset / region->slab] = SLAB_PLACED;

	return region_host_check(region, "mmap", mapped);
}

bool hbm_region_place(struct hbm_region *region, uint64_t offset, int fd)
{
	if (region->host)
		return region_host_placed(region, offset,
					  hbm_host_map(region->address + offset, region->slab, fd));

	struct gpu *gpu = &region->hbm->gpu;
	CUmemGenericAllocationHandle handle;

	return GPU_CALL(gpu, cuMemImportFromShareableHandle, &handle, (void *)(intptr_t)fd,
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) &&
	       region_handle_map(region, offset, handle);
}

bool hbm_region_place_again(struct hbm_region *region, uint64_t offset,
			    const struct hbm_region *source, uint64_t source_offset)
{
	if (region->host)
		return region_host_placed(region, offset,
					  hbm_host_map_again(region->address + offset, region->slab,
							     source->address + source_offset));

	struct gpu *gpu = &region->hbm->gpu;
	CUmemGenericAllocationHandle handle;

	return GPU_CALL(gpu, cuMemRetainAllocationHandle, &handle,
			(void *)(uintptr_t)(source->address + source_offset)) &&
	       region_handle_map(region, offset, handle);
}

bool hbm_region_open(struct hbm_region *region, uint64_t offset, uint64_t bytes, bool read_only)
{
	if (region->host)
		return region_host_check(region, "mprotect",
					 hbm_host_open(region->address + offset, bytes, read_only));

	CUmemAccessDesc access = {
		.location = {CU_MEM_LOCATION_TYPE_DEVICE,
			     region->hbm->gpu.ordinals[region->device]},
		.flags = read_only ? CU_MEM_ACCESS_FLAGS_PROT_READ
				   : CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	return GPU_CALL(&region->hbm->gpu, cuMemSetAccess, region->address + offset, bytes, &access,
			1);
}

static bool region_unmap(struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	uint64_t address = region->address + offset;

	if (!region->host)
		return GPU_CALL(&region->hbm->gpu, cuMemUnmap, address, bytes);

	return hbm_registrations_end(region, offset, bytes) &&
	       region_host_check(region, "mmap", hbm_host_unmap(address, bytes));
}

bool hbm_region_unmap(struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	if (!region_unmap(region, offset, bytes))
		return false;
	memset(region->slabs + offset / region->slab, SLAB_EMPTY, bytes / region->slab);
	return true;
}

void hbm_region_unplace(struct hbm_region *region, uint64_t offset, uint64_t bytes,
			enum slab_state asked)
{
	for (uint64_t at = offset; at < offset + bytes; at += region->slab) {
		uint8_t *slab = &region->slabs[at / region->slab];
		if (*slab == SLAB_PLACED && !hbm_region_unmap(region, at, region->slab))
			continue;
		if (*slab == SLAB_ASKED || *slab == SLAB_EMPTY)
			*slab = (uint8_t)asked;
	}
}

/* Unmaps every mapped run of slabs. */
static void region_unmap_all(struct hbm_region *region)
{
	uint64_t count = region->address_space / region->slab;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t end = i;
		while (end < count && region->slabs[end] != SLAB_EMPTY)
			end++;
		if (end > i)
			hbm_region_unmap(region, i * region->slab, (end - i) * region->slab);
		i = end;
	}
}

bool hbm_region_reserve(struct hbm_region *region)
{
	struct gpu *gpu = &region->hbm->gpu;
	if (region->host)
		return region_host_check(region, "mmap",
					 hbm_host_reserve(&region->address, region->address_space));
	if (!hbm_gpu_enter(gpu, region->device))
		return false;

	bool reserved = GPU_CALL(gpu, cuMemAddressReserve, &region->address, region->address_space,
				 0, 0, 0);
	hbm_gpu_leave(gpu);

	return reserved;
}

static void region_address_free(struct hbm_region *region)
{
	struct gpu *gpu = &region->hbm->gpu;
	if (region->host) {
		(void)hbm_registrations_end(region, 0, region->address_space);
		hbm_host_free(region->address, region->address_space);
		return;
	}

	bool entered = hbm_gpu_enter(gpu, region->device);

	region_unmap_all(region);
	GPU_CALL(gpu, cuMemAddressFree, region->address, region->address_space);
	if (entered)
		hbm_gpu_leave(gpu);
}

/* ---- Create and destroy ---- */

struct default_slab {
	uint32_t device;
	uint64_t bytes; /* 0: not received */
};

static int default_slab_found(const void *record, size_t record_bytes, void *arg)
{
	(void)record_bytes;
	const struct hbm_wire_device *device = record;
	struct default_slab *found = arg;
	if (device->index == found->device)
		found->bytes = device->slab;

	return 0;
}

bool hbm_region_slab_is_valid(uint64_t slab)
{
	return is_power_of_two(slab) && slab >= SLAB_MIN && slab <= SLAB_MAX;
}

/* The slab to use: the caller's, or the daemon's default for the device. */
static int region_slab(struct hbm *hbm, const struct hbm_region_options *options, uint64_t *slab)
{
	struct default_slab asked = {options->device, options->slab};
	if (asked.bytes == 0) {
		int rc = hbm_query(hbm, HBM_QUERY_DEVICES, default_slab_found, &asked);
		if (rc)
			return rc;

		if (asked.bytes == 0 && asked.device == HBM_DEVICE_HOST)
			return hbm_fail(hbm, HBM_UNSUPPORTED,
					"the daemon has no host memory for regions: ddr.regions");
		if (!hbm_region_slab_is_valid(asked.bytes))
			return hbm_fail(hbm, -EPROTO,
					"the daemon reports no default slab for device %u",
					asked.device);
	}

	if (!hbm_region_slab_is_valid(asked.bytes))
		return hbm_fail(hbm, HBM_INVALID,
				"a slab of %llu bytes: 2 MiB << 0 to 9 are possible",
				(unsigned long long)asked.bytes);

	*slab = asked.bytes;

	return 0;
}

struct hbm_region *hbm_region_new(struct hbm *hbm, uint32_t device, uint64_t address_space,
				  uint64_t slab)
{
	struct hbm_region *region = calloc(1, sizeof(*region) + address_space / slab);
	if (!region)
		return NULL;

	region->hbm = hbm;
	region->device = device;
	region->host = device == HBM_DEVICE_HOST;
	region->slab = slab;
	region->address_space = address_space;
	list_init(&region->link);
	list_init(&region->registrations);

	return region;
}

static int region_new(struct hbm *hbm, const struct hbm_region_options *options,
		      struct hbm_region **out)
{
	uint64_t slab = 0, address_space;
	int rc = region_slab(hbm, options, &slab);
	if (rc)
		return rc;

	if (options->address_space == 0 ||
	    !checked_add(options->address_space, slab - 1, &address_space) ||
	    address_space > INT64_MAX)
		return hbm_fail(hbm, HBM_INVALID, "a region of %llu bytes",
				(unsigned long long)options->address_space);

	address_space -= address_space % slab;

	struct hbm_region *region = hbm_region_new(hbm, options->device, address_space, slab);
	if (!region)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a region of %llu slabs",
				(unsigned long long)(address_space / slab));

	*out = region;

	return 0;
}

static int region_register(struct hbm *hbm, struct hbm_region *region)
{
	struct hbm_wire_region_create_reply reply;
	struct hbm_wire_region_create create = {
		.device = region->device,
		.address_space = region->address_space,
		.slab = region->slab,
	};
	struct request request = {
		.opcode = HBM_WIRE_REGION_CREATE,
		.kind = &hbm_kind_fixed,
		.answer = {.body = &reply, .size = sizeof(reply)},
		.pieces = {{&create, sizeof(create)}},
		.piece_count = 1,
	};
	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;

	if (reply.region == 0 || reply.address_space != region->address_space ||
	    reply.slab != region->slab) {
		hbm_request_break(hbm, -EPROTO);
		return hbm_fail(hbm, -EPROTO, "the daemon made another region than was asked for");
	}

	region->id = reply.region;

	return 0;
}

int hbm_region_device_usable(struct hbm *hbm, uint32_t device)
{
	if (device != HBM_DEVICE_HOST)
		return hbm_use_device(hbm, device);

	return hbm_check_owner(hbm) ? -EPERM : 0;
}

int hbm_region_create(struct hbm *hbm, const struct hbm_region_options *options,
		      struct hbm_region **out)
{
	int rc = hbm_region_device_usable(hbm, options->device);
	if (rc)
		return rc;

	struct hbm_region *region = NULL;
	rc = region_new(hbm, options, &region);
	if (rc)
		return rc;

	if (!hbm_region_reserve(region)) {
		free(region);
		return hbm_fail_device(hbm, hbm->gpu.failed_call, hbm->gpu.failed_result);
	}

	rc = region_register(hbm, region);
	if (rc) {
		region_address_free(region);
		free(region);
		return rc;
	}

	list_push_back(&hbm->regions, &region->link);
	*out = region;

	return 0;
}

int hbm_region_destroy(struct hbm *hbm, struct hbm_region *region)
{
	if (region && region->hbm == hbm && hbm_check_owner(hbm))
		return -EPERM;
	if (!region || region->hbm != hbm)
		return hbm_fail(hbm, HBM_INVALID, "not a region of this connection");

	const struct hbm_range all = {region, 0, region->address_space};
	while (region->commits > 0)
		hbm_request_poll(hbm);
	hbm_shares_await(hbm, &all, 1);
	if (!region->guest)
		region_address_free(region);

	struct hbm_wire_region_destroy destroy = {.region = region->id};
	struct request request = {
		.opcode = HBM_WIRE_REGION_DESTROY,
		.kind = &hbm_kind_bare,
		.pieces = {{&destroy, sizeof(destroy)}},
		.piece_count = 1,
	};
	list_remove(&region->link);
	free(region);

	return hbm_request_submit_wait(hbm, &request);
}
