/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_room.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "daemon/tier/extent.h"

uint64_t nvme_room_of(int fd)
{
	struct statvfs fs;
	struct stat st;
	if (fstatvfs(fd, &fs) < 0 || fstat(fd, &st) < 0 || fs.f_blocks == 0)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * fs.f_frsize + (uint64_t)st.st_blocks * 512;
}

uint64_t nvme_room_for_copies(const struct nvme_room *room, uint64_t *size)
{
	uint64_t wanted = room->wanted / EXTENT_UNIT * EXTENT_UNIT;
	uint64_t most = room->most < EXTENT_END ? room->most : EXTENT_END;

	if (*size <= most && wanted <= most - *size) {
		*size += wanted;
		return wanted;
	}

	/* The tier keeps at least half. */
	uint64_t half = *size / 2 / EXTENT_UNIT * EXTENT_UNIT;

	return !room->inside ? 0 : wanted < half ? wanted : half;
}
