/* SPDX-License-Identifier: Apache-2.0 */
#include "client/host.h"

#include "daemon/base/address_space.h"

#include <stddef.h>
#include <sys/mman.h>

static void *host_pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

bool hbm_host_reserve(unsigned long long *address, uint64_t bytes)
{
	void *start = address_space_reserve(bytes);
	if (!start)
		return false;

	*address = (uintptr_t)start;

	return true;
}

bool hbm_host_free(uint64_t address, uint64_t bytes)
{
	return munmap(host_pointer(address), bytes) == 0;
}

bool hbm_host_map(uint64_t address, uint64_t bytes, int fd)
{
	return mmap(host_pointer(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0) !=
	       MAP_FAILED;
}

/* Of no bytes, a shared mapping is not moved but made anew. */
bool hbm_host_map_again(uint64_t address, uint64_t bytes, uint64_t source)
{
	return mremap(host_pointer(source), 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		      host_pointer(address)) != MAP_FAILED;
}

bool hbm_host_open(uint64_t address, uint64_t bytes, bool read_only)
{
	return mprotect(host_pointer(address), bytes,
			read_only ? PROT_READ : PROT_READ | PROT_WRITE) == 0;
}

bool hbm_host_unmap(uint64_t address, uint64_t bytes)
{
	return address_space_empty(host_pointer(address), bytes);
}
