/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_driver: host memory by the calls of a device's driver, as far as regions and copy queues
 * make them: so that slabs, regions, their quarantine and their restart are the same code for
 * both. It is no soft device: nothing is simulated, and no kernel runs there.
 *
 * 	cuMemCreate			a memfd, with all its pages
 * 	cuMemExportToShareableHandle	a file description of its own of that memfd
 * 	cuMemMap, cuMemSetAccess	mmap(2) into a range that cuMemAddressReserve has set apart
 * 	copies				memcpy(3), done when the call returns
 * 	cuMemRelease			its pages are free, unless a client still has them
 * 	cuMemGetInfo			what is free: less what clients still have
 *
 * Whether they have is asked of the kernel, by F_SETLEASE: it says whether ours is the only file
 * description of a file that could write, which a mapping counts as. So memory that a client keeps after it gave it back
 * counts as held (held.h) exactly as long as it is. What is not had any more is emptied, as a file
 * can be referred to without being open. What the kernel does not tell is whether pages are pinned
 * that no process has mapped. Who opens a file in that moment has the process get SIGIO, which it
 * is to ignore.
 *
 * The size of a memfd is sealed. Its pages are never huge ones of hugetlbfs: a client can punch a
 * hole into what it may write, and the daemon that reads there gets a new page, or, of
 * hugetlbfs, SIGBUS. They may be transparent huge ones.
 *
 * There is one in a process.
 */
#pragma once

#include "kernels/driver/driver.h"

/* With so many bytes in all. */
const struct driver *host_driver_open(uint64_t bytes);
/* Nothing is mapped any more. What clients have stays theirs. */
void host_driver_close(void);
