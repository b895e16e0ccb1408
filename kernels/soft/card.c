/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether others have a file is asked of the kernel, see share.c, which nothing else may
 * open meanwhile. Looking and allocating exclude each other by a lock on the folder, so
 * that a file is not opened while another process asks, and one that was just made is not
 * removed.
 */
#include "kernels/soft/card.h"

#include "kernels/soft/options.h"
#include "kernels/soft/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CARD_MODE 0666 /* clients have users of their own */

static char card_folder[SOFT_PATH_MAX];

void card_configure(const char *folder)
{
	snprintf(card_folder, sizeof(card_folder), "%s", folder);
	share_also_in(card_folder);
}

bool card_is_shared(void)
{
	return card_folder[0] != '\0';
}

/* A locked descriptor of the folder; closing it unlocks. -errno. */
static int card_lock(void)
{
	int folder = open(card_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (folder < 0)
		return -errno;

	while (flock(folder, LOCK_EX) < 0) {
		if (errno == EINTR)
			continue;
		close(folder);
		return -errno;
	}

	return folder;
}

/* Bytes of a file, or 0 if no process has it: it is removed then. */
static uint64_t card_count(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDWR | O_CLOEXEC);
	struct stat status;
	uint64_t bytes = 0;

	if (fd < 0)
		return fstatat(folder, name, &status, 0) == 0 ? (uint64_t)status.st_size : 0;

	if (!share_is_held(fd))
		unlinkat(folder, name, 0);
	else if (fstat(fd, &status) == 0)
		bytes = (uint64_t)status.st_size;
	close(fd);

	return bytes;
}

/* The folder is locked. */
static uint64_t card_count_all(int folder, unsigned device)
{
	DIR *entries = fdopendir(dup(folder));
	uint64_t bytes = 0;
	unsigned of;

	if (entries == NULL)
		return UINT64_MAX;

	rewinddir(entries);
	for (const struct dirent *entry; (entry = readdir(entries)) != NULL;)
		if (share_device_of(entry->d_name, &of) && of == device)
			bytes += card_count(folder, entry->d_name);
	closedir(entries);

	return bytes;
}

/* A new file of the locked folder. -errno. */
static int card_make(int folder, unsigned device, uint64_t bytes)
{
	static unsigned last;
	char name[96];
	int fd, error;

	snprintf(name, sizeof(name), SHARE_NAME "%u-%d-%u", device, getpid(), ++last);
	fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, CARD_MODE);
	if (fd < 0)
		return -errno;

	if (fchmod(fd, CARD_MODE) == 0 && ftruncate(fd, (off_t)bytes) == 0)
		return fd;

	error = errno;
	unlinkat(folder, name, 0);
	close(fd);

	return -error;
}

int card_allocate(unsigned device, uint64_t bytes, uint64_t total)
{
	int folder = card_lock(), fd;
	uint64_t used;

	if (folder < 0)
		return folder;

	used = card_count_all(folder, device);
	fd = used > total || bytes > total - used ? -ENOMEM : card_make(folder, device, bytes);
	close(folder);

	return fd;
}

uint64_t card_used(unsigned device)
{
	int folder = card_lock();
	uint64_t used;

	if (folder < 0)
		return UINT64_MAX;

	used = card_count_all(folder, device);
	close(folder);

	return used;
}
