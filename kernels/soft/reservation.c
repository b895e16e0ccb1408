/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations: an array sorted by address. A reserved range is inaccessible, unbacked
 * address space of this process. */
#include "kernels/soft/reservation.h"

#include "kernels/soft/lock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct reservation **reservations;
static size_t reservation_count;

static bool reservation_aligned(uint64_t value)
{
	return value % SOFT_GRANULARITY == 0;
}

/* Where the first reservation that ends after the address is, or would be. */
static size_t reservation_index(CUdeviceptr address)
{
	size_t low = 0, high = reservation_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (reservations[middle]->address + reservations[middle]->bytes <= address)
			low = middle + 1;
		else
			high = middle;
	}

	return low;
}

struct reservation *reservation_find(CUdeviceptr address, uint64_t bytes)
{
	size_t index = reservation_index(address);
	struct reservation *found = index < reservation_count ? reservations[index] : NULL;

	if (found == NULL || address < found->address ||
	    bytes > found->bytes - (address - found->address))
		return NULL;

	return found;
}

struct mapping **reservation_granule(const struct reservation *in, CUdeviceptr address)
{
	return &in->granules[(address - in->address) / SOFT_GRANULARITY];
}

uint64_t reservations_live(enum reservation_kind kind)
{
	uint64_t live = 0;

	for (size_t i = 0; i < reservation_count; i++)
		live += reservations[i]->kind == kind;
	return live;
}

struct reservation *reservation_nth(size_t n)
{
	return n < reservation_count ? reservations[n] : NULL;
}

/* Inaccessible address space of the given alignment, at the hint if that is free; NULL if
 * there is none. */
static void *reservation_reserve_place(uint64_t bytes, uint64_t alignment, CUdeviceptr hint)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uintptr_t start, end, at;
	void *range;

	if (hint > SOFT_ADDRESSES && hint % alignment == 0) {
		range = mmap(reservation_place(hint), bytes, PROT_NONE, flags | MAP_FIXED_NOREPLACE,
			     -1, 0);
		if (range == reservation_place(hint))
			return range;
		if (range != MAP_FAILED)
			munmap(range, bytes);
	}

	range = mmap(NULL, bytes + alignment, PROT_NONE, flags, -1, 0);
	if (range == MAP_FAILED)
		return NULL;

	start = (uintptr_t)range;
	end = start + bytes + alignment;
	at = (start + alignment - 1) / alignment * alignment;
	if (at > start)
		munmap(range, at - start);
	if (end > at + bytes)
		munmap((void *)(at + bytes), end - (at + bytes));

	return (void *)at;
}

static struct reservation *reservation_free(struct reservation *reservation)
{
	if (reservation != NULL)
		free(reservation->granules);
	free(reservation);
	return NULL;
}

static struct reservation *reservation_new(uint64_t bytes)
{
	struct reservation *reservation = calloc(1, sizeof(*reservation));

	if (reservation == NULL)
		return NULL;

	reservation->bytes = bytes;
	reservation->granules = calloc(bytes / SOFT_GRANULARITY, sizeof(struct mapping *));

	return reservation->granules == NULL ? reservation_free(reservation) : reservation;
}

static bool reservation_grow_table(void)
{
	struct reservation **grown;

	LOCKED(table_lock);

	grown = reallocarray(reservations, reservation_count + 1, sizeof(*grown));
	if (grown == NULL)
		return false;

	reservations = grown;

	return true;
}

static void reservation_insert(struct reservation *reservation)
{
	size_t index;

	LOCKED(table_lock);

	index = reservation_index(reservation->address);
	memmove(&reservations[index + 1], &reservations[index],
		(reservation_count - index) * sizeof(struct reservation *));
	reservations[index] = reservation;
	reservation_count++;
}

CUresult reservation_make(uint64_t bytes, uint64_t alignment, CUdeviceptr hint,
			  enum reservation_kind kind, struct reservation **out)
{
	struct reservation *reservation = reservation_new(bytes);
	void *range;

	if (reservation == NULL || !reservation_grow_table()) {
		reservation_free(reservation);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}

	range = reservation_reserve_place(bytes, alignment, hint);
	if (range == NULL) {
		reservation_free(reservation);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}

	reservation->address = SOFT_ADDRESSES + (CUdeviceptr)(uintptr_t)range;
	reservation->kind = kind;
	reservation_insert(reservation);
	*out = reservation;

	return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint,
			     unsigned long long flags)
{
	struct reservation *reservation;
	CUresult result;

	CALL_ENTER(cuMemAddressReserve);

	if (address == NULL || bytes == 0 || !reservation_aligned(bytes) || bytes > 1ull << 47 ||
	    flags != 0 || !reservation_aligned(hint) || (alignment & (alignment - 1)) != 0 ||
	    alignment > 1ull << 40)
		return CUDA_ERROR_INVALID_VALUE;

	if (alignment < SOFT_GRANULARITY)
		alignment = SOFT_GRANULARITY;

	LOCKED(vmm_lock);
	result = reservation_make(bytes, alignment, hint, RESERVED, &reservation);
	if (result == CUDA_SUCCESS)
		*address = reservation->address;

	return result;
}

static void reservation_remove(size_t index)
{
	LOCKED(table_lock);
	reservation_count--;
	memmove(&reservations[index], &reservations[index + 1],
		(reservation_count - index) * sizeof(struct reservation *));
}

void reservation_unmake(struct reservation *reservation)
{
	reservation_remove(reservation_index(reservation->address));
	munmap(reservation_place(reservation->address), reservation->bytes);
	reservation_free(reservation);
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
	struct reservation *reservation;
	size_t index;

	CALL_ENTER(cuMemAddressFree);
	LOCKED(vmm_lock);
	index = reservation_index(address);
	if (index == reservation_count)
		return CUDA_ERROR_INVALID_VALUE;

	reservation = reservations[index];
	if (reservation->address != address || reservation->bytes != bytes ||
	    reservation->mappings != 0)
		return CUDA_ERROR_INVALID_VALUE;

	reservation_unmake(reservation);

	return CUDA_SUCCESS;
}

void reservations_reset(void)
{
	while (reservation_count != 0)
		reservation_unmake(reservations[reservation_count - 1]);

	free(reservations);
	reservations = NULL;
}
