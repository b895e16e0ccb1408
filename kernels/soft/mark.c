/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The range of a mark is one byte, far behind the end of any file: the card's number, four
 * bits of the device's and the memory in MiB. /proc/locks lists the locks of all files. It is
 * read in pieces of a page, between which locks come and go, and a line can be missed; so it
 * is read until two readings agree.
 */
#include "kernels/soft/mark.h"

#include "kernels/soft/options.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK_MIB_BITS 27 /* the largest device has 2^26 MiB */
#define MARK_DEVICE_BITS 4
#define MARK_READINGS 16u /* more do not agree only while locks change all the time */

static_assert(SOFT_DEVICES_MAX <= 1u << MARK_DEVICE_BITS, "a mark has room for the device");

/* A file that is marked. */
struct mark {
	uint64_t file; /* its inode */
	uint64_t mib;
};

/* Where marks of a device begin. */
static uint64_t mark_base(uint32_t card, unsigned device)
{
	return ((uint64_t)card << MARK_DEVICE_BITS | device) << MARK_MIB_BITS;
}

int mark_set(int fd, uint32_t card, unsigned device, uint64_t bytes)
{
	struct flock lock = {.l_type = F_RDLCK,
			     .l_whence = SEEK_SET,
			     .l_start = (off_t)(mark_base(card, device) + (bytes >> 20)),
			     .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static bool mark_add(struct marks *marks, uint64_t file, uint64_t mib)
{
	if (marks->number == marks->room) {
		size_t room = marks->room == 0 ? 64 : 2 * marks->room;
		struct mark *more = reallocarray(marks->at, room, sizeof(*more));

		if (more == NULL)
			return false;
		marks->at = more;
		marks->room = room;
	}

	marks->at[marks->number++] = (struct mark){file, mib};

	return true;
}

static bool mark_add_all(struct marks *marks, FILE *locks, uint64_t base)
{
	uint64_t file, start, end;
	char line[256];
	bool all = true;

	while (all && fgets(line, sizeof(line), locks) != NULL)
		if (sscanf(line,
			   "%*d: OFDLCK ADVISORY READ %*d %*x:%*x:%" SCNu64 " %" SCNu64 " %" SCNu64,
			   &file, &start, &end) == 3 &&
		    start == end && start >> MARK_MIB_BITS == base >> MARK_MIB_BITS)
			all = mark_add(marks, file, start - base);

	return all;
}

static int mark_compare(const void *left, const void *right)
{
	uint64_t a = ((const struct mark *)left)->file, b = ((const struct mark *)right)->file;

	return (a > b) - (a < b);
}

/* By their files, each once. */
static void mark_sort(struct marks *marks)
{
	size_t kept = 0;

	if (marks->number != 0)
		qsort(marks->at, marks->number, sizeof(*marks->at), mark_compare);
	for (size_t i = 0; i < marks->number; i++)
		if (kept == 0 || marks->at[kept - 1].file != marks->at[i].file)
			marks->at[kept++] = marks->at[i];
	marks->number = kept;
}

static bool mark_read_once(struct marks *marks, uint64_t base)
{
	FILE *locks = fopen("/proc/locks", "re");
	bool all;

	marks->number = 0;
	if (locks == NULL)
		return false;

	all = mark_add_all(marks, locks, base);
	fclose(locks);
	mark_sort(marks);

	return all;
}

bool marks_read(struct marks *marks, uint32_t card, unsigned device)
{
	uint64_t base = mark_base(card, device), last = 0;
	bool all = mark_read_once(marks, base);

	for (unsigned i = 1; all && i < MARK_READINGS; i++) {
		last = marks_bytes(marks);
		all = mark_read_once(marks, base);
		if (marks_bytes(marks) == last)
			break;
	}

	return all;
}

uint64_t marks_bytes(const struct marks *marks)
{
	uint64_t mib = 0;

	for (size_t i = 0; i < marks->number; i++)
		mib += marks->at[i].mib;

	return mib << 20;
}

void marks_keep(struct marks *marks, const struct marks *others)
{
	size_t kept = 0;

	for (size_t i = 0; i < marks->number; i++)
		if (others->number != 0 && bsearch(&marks->at[i], others->at, others->number,
						   sizeof(*others->at), mark_compare) != NULL)
			marks->at[kept++] = marks->at[i];
	marks->number = kept;
}

void marks_free(struct marks *marks)
{
	free(marks->at);
	*marks = (struct marks){0};
}
