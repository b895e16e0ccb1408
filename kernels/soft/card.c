/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card's number is made of its folder's file system and inode. Allocations exclude each
 * other by a lock on the folder, so that two do not take the same bytes.
 */
#include "kernels/soft/card.h"

#include "kernels/soft/mark.h"
#include "kernels/soft/options.h"
#include "kernels/soft/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char card_folder[SOFT_PATH_MAX];

void card_configure(const char *folder)
{
	snprintf(card_folder, sizeof(card_folder), "%s", folder);
}

bool card_is_shared(void)
{
	return card_folder[0] != '\0';
}

/* 1 to MARK_CARD_MAX, or 0: the folder cannot be looked at. */
static uint32_t card_number(void)
{
	struct stat status;
	uint64_t mixed;

	if (stat(card_folder, &status) < 0)
		return 0;

	mixed = ((uint64_t)status.st_dev << 32 ^ (uint64_t)status.st_ino) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(mixed >> 33) | 1;
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

int card_allocate(unsigned device, uint64_t bytes, uint64_t total)
{
	const struct share share = {device, card_number(), bytes};
	int folder = card_lock(), fd;
	uint64_t used;

	if (folder < 0)
		return folder;

	used = card_used(device);
	fd = used > total || bytes > total - used ? -ENOMEM : share_create(&share);
	close(folder);

	return fd;
}

uint64_t card_used(unsigned device)
{
	uint32_t number = card_number();

	return number == 0 ? UINT64_MAX : marks_count(number, device);
}
