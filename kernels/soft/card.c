/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared card's number is made of its folder's file system and inode. Allocations exclude each
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
static uint64_t card_inherited;
static struct marks card_others[SOFT_DEVICES_MAX]; /* of an inherited card: what is left */

void card_configure(const char *folder, uint64_t inherited)
{
	snprintf(card_folder, sizeof(card_folder), "%s", folder);
	card_inherited = card_is_shared() ? 0 : inherited;
	for (unsigned i = 0; card_inherited != 0 && i < SOFT_DEVICES_MAX; i++)
		marks_read(&card_others[i], card_number(), i);
}

void card_reset(void)
{
	for (unsigned i = 0; i < SOFT_DEVICES_MAX; i++)
		marks_free(&card_others[i]);
	card_folder[0] = '\0';
	card_inherited = 0;
}

bool card_is_shared(void)
{
	return card_folder[0] != '\0';
}

uint32_t card_number(void)
{
	uint64_t name = card_inherited;
	struct stat status;

	if (card_is_shared() && stat(card_folder, &status) == 0)
		name = (uint64_t)status.st_dev << 32 ^ (uint64_t)status.st_ino;

	return name == 0 ? 0 : (uint32_t)(name * 0x9e3779b97f4a7c15u >> 33) | 1;
}

uint64_t card_left(unsigned device)
{
	struct marks *others = &card_others[device], now = {0};

	if (others->number == 0)
		return 0;

	if (marks_read(&now, card_number(), device))
		marks_keep(others, &now);
	marks_free(&now);

	return marks_bytes(others);
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
	struct marks marks = {0};
	uint64_t bytes = number != 0 && marks_read(&marks, number, device) ? marks_bytes(&marks)
									   : UINT64_MAX;

	marks_free(&marks);

	return bytes;
}
