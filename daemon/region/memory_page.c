/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/memory_page.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static int memory_page_map(struct memory_page *page)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

	if (ftruncate(page->fd, HBM_WIRE_MEMORY_BYTES) < 0)
		return -errno;

	void *bytes =
		mmap(NULL, HBM_WIRE_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page->fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;

	page->devices = bytes;

	return fcntl(page->fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int memory_page_open(struct memory_page *page)
{
	*page = (struct memory_page){
		.fd = memfd_create("hbm-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
	if (page->fd < 0) {
		*page = (struct memory_page){0};
		return -errno;
	}

	int r = memory_page_map(page);
	if (r < 0) {
		if (page->devices)
			munmap(page->devices, HBM_WIRE_MEMORY_BYTES);
		close(page->fd);
		*page = (struct memory_page){0};
	}

	return r;
}

void memory_page_close(struct memory_page *page)
{
	if (!page->devices)
		return;

	munmap(page->devices, HBM_WIRE_MEMORY_BYTES);
	close(page->fd);
	*page = (struct memory_page){0};
}

static_assert(offsetof(struct hbm_wire_memory, sequence) == 0, "the sequence comes first");

void memory_page_write(struct memory_page *page, uint32_t device,
		       const struct hbm_wire_memory *record)
{
	uint64_t *to = (uint64_t *)&page->devices[device];
	const uint64_t *from = (const uint64_t *)record;
	uint64_t sequence = to[0];

	__atomic_store_n(&to[0], sequence + 1, __ATOMIC_RELAXED);
	/* Release: who sees one of the new words sees the odd number, too. */
	for (size_t i = 1; i < sizeof(*record) / sizeof(*to); i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);

	/* Release: who sees the even number sees all new words. */
	__atomic_store_n(&to[0], sequence + 2, __ATOMIC_RELEASE);
}
