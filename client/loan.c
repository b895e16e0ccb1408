/* SPDX-License-Identifier: Apache-2.0 */
/* loan: see loan.h. The requests are borrow.c's. */
#include "client/loan.h"

#include "client/error.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Device calls; the context of the device is current ---- */

static bool loan_allow(struct gpu *gpu, uint32_t device, CUdeviceptr address, uint64_t bytes)
{
	CUmemAccessDesc access = {
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, gpu->ordinals[device]},
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READ,
	};

	return GPU_CALL(gpu, cuMemSetAccess, address, bytes, &access, 1);
}

/* Maps a slab at an address that is reserved. */
static bool loan_map_slab(struct gpu *gpu, const struct borrowed_slab *slab, CUdeviceptr address)
{
	if (!GPU_CALL(gpu, cuMemMap, address, slab->bytes, 0, slab->handle, 0))
		return false;
	if (loan_allow(gpu, slab->device, address, slab->bytes))
		return true;

	gpu->driver->cuMemUnmap(address, slab->bytes); /* the failure of the line above is told */

	return false;
}

/* ---- Slabs ---- */

struct borrowed_slab *hbm_slab_find(struct hbm *hbm, uint64_t id)
{
	list_for_each (node, &hbm->slabs[id % LOAN_SLAB_BUCKETS]) {
		struct borrowed_slab *slab = container_of(node, struct borrowed_slab, link);
		if (slab->id == id)
			return slab;
	}

	return NULL;
}

bool hbm_slab_import(struct hbm *hbm, uint32_t device, const struct hbm_wire_slab *wire, int fd)
{
	struct gpu *gpu = &hbm->gpu;
	struct borrowed_slab *slab = calloc(1, sizeof(*slab));
	if (!slab)
		return false;

	if (!hbm_gpu_enter(gpu, device)) {
		free(slab);
		return false;
	}

	bool imported = GPU_CALL(gpu, cuMemImportFromShareableHandle, &slab->handle,
				 (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	hbm_gpu_leave(gpu);
	if (!imported) {
		free(slab);
		return false;
	}

	slab->id = wire->slab;
	slab->bytes = wire->bytes;
	slab->device = device;
	list_push_back(&hbm->slabs[slab->id % LOAN_SLAB_BUCKETS], &slab->link);

	return true;
}

static void loan_release_slab(struct hbm *hbm, struct borrowed_slab *slab)
{
	struct gpu *gpu = &hbm->gpu;

	if (hbm_gpu_enter(gpu, slab->device)) {
		GPU_CALL(gpu, cuMemRelease, slab->handle);
		hbm_gpu_leave(gpu);
	}

	list_remove(&slab->link);
	free(slab);
}

void hbm_slabs_sweep(struct hbm *hbm)
{
	if (hbm->borrows > 0)
		return;

	for (size_t i = 0; i < LOAN_SLAB_BUCKETS; i++)
		list_for_each_safe (node, after, &hbm->slabs[i]) {
			struct borrowed_slab *slab = container_of(node, struct borrowed_slab, link);
			if (slab->loans == 0)
				loan_release_slab(hbm, slab);
		}
}

/* ---- Mapping ---- */

static int loan_fail(struct hbm *hbm)
{
	return hbm_fail_device(hbm, hbm->gpu.failed_call, (int)hbm->gpu.failed_result);
}

static int loan_check(struct hbm *hbm, const struct hbm_loan *loan)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (!loan || loan->hbm != hbm)
		return hbm_fail(hbm, HBM_INVALID, "no loan of this connection");

	return 0;
}

/* Reserves addresses for the pieces, or for the slab that has all of the loan, and maps them
 * there. 0: it failed. */
static CUdeviceptr loan_map_all(struct gpu *gpu, const struct hbm_loan *loan)
{
	uint64_t bytes = 0;
	CUdeviceptr address = 0;
	uint32_t mapped = 0;

	for (uint32_t i = 0; i < loan->count; i++)
		bytes += loan->pieces[i].slab->bytes;
	if (!GPU_CALL(gpu, cuMemAddressReserve, &address, bytes, 0, 0, 0))
		return 0;

	uint64_t at = 0;
	while (mapped < loan->count && loan_map_slab(gpu, loan->pieces[mapped].slab, address + at))
		at += loan->pieces[mapped++].slab->bytes;
	if (mapped == loan->count)
		return address;

	if (at > 0)
		gpu->driver->cuMemUnmap(address, at);
	gpu->driver->cuMemAddressFree(address, bytes);

	return 0;
}

static void loan_unmap_all(struct gpu *gpu, CUdeviceptr address, uint64_t bytes)
{
	if (GPU_CALL(gpu, cuMemUnmap, address, bytes))
		GPU_CALL(gpu, cuMemAddressFree, address, bytes);
}

/* Whether its slab may have other blocks, and is mapped for all of them. */
static bool loan_is_packed(const struct hbm_loan *loan)
{
	return loan->count == 1;
}

static bool loan_map(struct hbm *hbm, struct hbm_loan *loan)
{
	struct borrowed_slab *slab = loan->pieces[0].slab;
	bool shared = loan_is_packed(loan) && slab->mappings > 0;
	CUdeviceptr address = shared ? slab->address : 0;

	if (!shared) {
		if (!hbm_gpu_enter(&hbm->gpu, loan->device))
			return false;

		address = loan_map_all(&hbm->gpu, loan);
		hbm_gpu_leave(&hbm->gpu);
		if (address == 0)
			return false;
	}

	if (loan_is_packed(loan)) {
		slab->address = address;
		slab->mappings++;
	}

	loan->address = address + loan->pieces[0].offset;

	return true;
}

int hbm_loan_map(struct hbm *hbm, struct hbm_loan *loan, uint64_t *address)
{
	int rc = loan_check(hbm, loan);
	if (rc)
		return rc;
	if (loan->address == 0 && !loan_map(hbm, loan))
		return loan_fail(hbm);

	*address = loan->address;

	return 0;
}

int hbm_loan_map_piece(struct hbm *hbm, struct hbm_loan *loan, uint32_t piece, uint64_t address)
{
	int rc = loan_check(hbm, loan);
	if (rc)
		return rc;
	if (piece >= loan->count || loan->bytes / loan->count != loan->pieces[piece].slab->bytes)
		return hbm_fail(hbm, HBM_INVALID, "piece %u of a loan of %u slabs of its own",
				piece,
				loan->bytes % loan->pieces[0].slab->bytes == 0 ? loan->count : 0);
	if (loan->pieces[piece].address != 0)
		return hbm_fail(hbm, HBM_EXISTS, "piece %u is mapped already", piece);

	if (!hbm_gpu_enter(&hbm->gpu, loan->device))
		return loan_fail(hbm);

	bool mapped = loan_map_slab(&hbm->gpu, loan->pieces[piece].slab, address);
	hbm_gpu_leave(&hbm->gpu);
	if (!mapped)
		return loan_fail(hbm);

	loan->pieces[piece].address = address;

	return 0;
}

static void loan_unmap_own(struct gpu *gpu, struct hbm_loan *loan)
{
	struct borrowed_slab *slab = loan->pieces[0].slab;

	if (loan->address == 0)
		return;

	if (!loan_is_packed(loan))
		loan_unmap_all(gpu, loan->address, loan->bytes);
	else if (--slab->mappings == 0)
		loan_unmap_all(gpu, slab->address, slab->bytes);
	loan->address = 0;
}

void hbm_loan_unmap(struct hbm_loan *loan)
{
	struct gpu *gpu = &loan->hbm->gpu;
	bool mapped = loan->address != 0;

	for (uint32_t i = 0; i < loan->count; i++)
		mapped |= loan->pieces[i].address != 0;
	if (!mapped || !hbm_gpu_enter(gpu, loan->device))
		return;

	loan_unmap_own(gpu, loan);
	for (uint32_t i = 0; i < loan->count; i++) {
		struct borrowed_piece *piece = &loan->pieces[i];

		if (piece->address != 0)
			GPU_CALL(gpu, cuMemUnmap, piece->address, piece->slab->bytes);
		piece->address = 0;
	}

	hbm_gpu_leave(gpu);
}

void hbm_loan_drop(struct hbm_loan *loan)
{
	hbm_loan_unmap(loan);
	for (uint32_t i = 0; i < loan->count; i++)
		loan->pieces[i].slab->loans--;
	list_remove(&loan->link);
	free(loan);
}

/* ---- What a loan is ---- */

const void *hbm_loan_host(const struct hbm_loan *loan)
{
	return loan->address ? driver_host_address(loan->hbm->gpu.driver, loan->address) : NULL;
}

uint64_t hbm_loan_bytes(const struct hbm_loan *loan)
{
	return loan->bytes;
}

uint32_t hbm_loan_pieces(const struct hbm_loan *loan)
{
	return loan->count;
}
