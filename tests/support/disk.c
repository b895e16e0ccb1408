/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void disk_open(struct disk *disk, const struct spawn *spawn)
{
	const char *asan = getenv("ASAN_OPTIONS");
	char path[128];

	snprintf(path, sizeof(path), "%s/disk", spawn->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, sizeof(*disk->page)), 0);
	disk->page = mmap(NULL, sizeof(*disk->page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(disk->page != MAP_FAILED);
	close(fd);

	snprintf(disk->variables[0], sizeof(disk->variables[0]), "HBM_DISK=%s", path);
	snprintf(disk->variables[1], sizeof(disk->variables[1]), "LD_PRELOAD=%s",
		 spawn_path("tests/stub/disk.so"));
	snprintf(disk->variables[2], sizeof(disk->variables[2]),
		 "ASAN_OPTIONS=%s%sverify_asan_link_order=0", asan ? asan : "", asan ? ":" : "");
	for (int i = 0; i < 3; i++)
		disk->env[i] = disk->variables[i];
	disk->env[3] = NULL;
}

void disk_close(struct disk *disk)
{
	munmap(disk->page, sizeof(*disk->page));
	*disk = (struct disk){0};
}

void disk_fail(struct disk *disk, enum disk_file file, enum disk_call call, uint64_t n,
	       uint64_t count, int error)
{
	struct disk_rule *rule = &disk->page->rules[file][call];

	atomic_store(&rule->from, 0);
	atomic_store(&rule->calls, 0);
	atomic_store(&rule->count, count);
	atomic_store(&rule->error, error);
	atomic_store(&rule->from, n);
}

uint64_t disk_calls(const struct disk *disk, enum disk_file file, enum disk_call call)
{
	return atomic_load(&disk->page->rules[file][call].calls);
}

void disk_mend(struct disk *disk)
{
	for (int file = 0; file < DISK_FILES; file++)
		for (int call = 0; call < DISK_CALLS; call++)
			atomic_store(&disk->page->rules[file][call].from, 0);
}
