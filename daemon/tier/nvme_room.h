/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_room: how much room there is behind nvme.path, and how much of it copies get. Copies
 * are no reason to refuse a start: without room for all that are wanted there are none, or
 * they take of the tier (nvme.copies_inside).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The largest size the file can have: the free bytes of the file system and its own. Some
 * file systems do not report them: UINT64_MAX. */
uint64_t nvme_room_of(int fd);

struct nvme_room {
	uint64_t most;   /* bytes that tier and copies may have together */
	uint64_t wanted; /* bytes of copies */
	bool inside;     /* nvme.copies_inside */
};

/* Bytes for copies, whole extents. *size, the tier's, becomes that of both together. */
uint64_t nvme_room_for_copies(const struct nvme_room *room, uint64_t *size);
