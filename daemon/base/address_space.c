/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/address_space.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#define NOTHING (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* Reserves more, and unmaps the excess on both sides. */
void *address_space_reserve(size_t bytes)
{
	const size_t alignment = ADDRESS_SPACE_ALIGNMENT;

	if (bytes > SIZE_MAX - alignment) {
		errno = ENOMEM;
		return NULL;
	}

	char *start = mmap(NULL, bytes + alignment, PROT_NONE, NOTHING, -1, 0);
	if (start == MAP_FAILED)
		return NULL;

	size_t before = (alignment - (uintptr_t)start % alignment) % alignment;
	if (before > 0)
		munmap(start, before);
	munmap(start + before + bytes, alignment - before);

	return start + before;
}

bool address_space_empty(void *at, size_t bytes)
{
	return mmap(at, bytes, PROT_NONE, NOTHING | MAP_FIXED, -1, 0) != MAP_FAILED;
}
