/* SPDX-License-Identifier: Apache-2.0 */
#include "client/owner.h"

#include <sys/mman.h>
#include <unistd.h>

void hbm_owner_init(struct owner *owner)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *page =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*owner = (struct owner){.pid = getpid()};
	if (page == MAP_FAILED)
		return;

	if (madvise(page, bytes, MADV_WIPEONFORK) < 0) {
		munmap(page, bytes);
		return;
	}

	*page = 1;
	owner->page = page;
	owner->page_bytes = bytes;
}

bool hbm_owner_is_here(const struct owner *owner)
{
	return owner->page ? *owner->page == 1 : owner->pid == getpid();
}

void hbm_owner_clear(struct owner *owner)
{
	if (owner->page)
		munmap((void *)owner->page, owner->page_bytes);
	owner->page = NULL;
}
