/* SPDX-License-Identifier: Apache-2.0 */
/* fault: the test's side of it: see fault.h. */
#include "tests/support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VARIABLE "HBM_FAULTS="

struct fault_page *fault_open(struct spawn *spawn, char *variable)
{
	spawn->program = "tests/fault/hbmd";
	snprintf(variable, FAULT_VARIABLE, VARIABLE "%s/faults", spawn->dir);
	int fd = open(variable + strlen(VARIABLE), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct fault_page)), 0);
	void *page =
		mmap(NULL, sizeof(struct fault_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	close(fd);

	return page;
}

struct fault_page *fault_close(struct fault_page *page)
{
	if (page)
		munmap(page, sizeof(*page));
	return NULL;
}

void fault_arm(struct fault_page *page, unsigned kinds, int error, uint64_t first, uint64_t count)
{
	atomic_store(&page->kinds, 0);
	atomic_store(&page->error, error);
	atomic_store(&page->first, first);
	atomic_store(&page->last, first + count - 1);
	atomic_store(&page->calls, 0);
	atomic_store(&page->failed, 0);
	atomic_store(&page->kinds, kinds);
}

uint64_t fault_disarm(struct fault_page *page)
{
	atomic_store(&page->kinds, 0);
	return atomic_load(&page->failed);
}
