/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbm_kept: the memory behind an HBM tier (hbm_memory.h) outlives the daemon. Each piece of it has
 * a record in the state (state.h) and a descriptor that is parked (parking.h), from before it is
 * in service until it has been unmapped; the next daemon maps it where it was. It maps nothing
 * itself, and knows nothing of what the bytes are.
 *
 * Pieces are kept from the start of the tier on: behind one that cannot be kept none is, and
 * behind one that cannot be taken over none is taken. Nor are any beyond the size that the tier
 * has now. What is not taken is kept no longer, and is the device's again.
 *
 * The memory has a number, by which the records of blocks name it (block_record.h). It is another
 * one where nothing is taken over, so that no record is of other memory than it says. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct device;
struct parking;
struct state;

/* Of all devices: 1 TiB of pieces of the usual size, and half of what hbmd.service has room for to
 * park. The other half is for what clients map. */
enum { HBM_KEPT_PIECES = 1 << 14 };
/* Lower numbers are of other memory. */
enum { HBM_KEPT_FIRST = 2 };

/* The body of a record of STATE_TIER_PIECES. The device is known by its UUID. */
struct hbm_kept_record {
	uint64_t piece;         /* its number, by which it is parked */
	uint64_t offset, bytes; /* in the tier */
	uint8_t uuid[16];
	uint32_t number; /* of the memory */
	uint32_t zero;
};

struct hbm_kept_piece {
	uint32_t record; /* its index */
	int fd;          /* of the daemon before, and not taken yet; else -1 */
	uint64_t bytes;
};

/* Where it is kept; zeroed: nowhere. */
struct hbm_kept_place {
	struct state *state;
	struct parking *parking;
	bool without; /* what is there is not to be used */
};

struct hbm_kept {
	struct hbm_kept_place place;
	const struct device *device;
	uint32_t number;               /* 0: nothing is kept */
	struct hbm_kept_piece *pieces; /* [count] from the start; there is room for all */
	uint32_t count, room;
	uint32_t adopted; /* of them, those of the daemon before, which come first */
	uint32_t taken;   /* of all, those whose descriptors have been handed out */
	uint64_t before;  /* bytes of those of the daemon before */
	bool logged;      /* that some cannot be kept */
};

/* Of a tier of `bytes` now, in `room` pieces at most. -ENOMEM. */
int hbm_kept_open(struct hbm_kept *kept, const struct hbm_kept_place *place,
		  const struct device *device, uint64_t bytes, uint64_t room);
/* What is kept stays so. Accepts a zeroed one. */
void hbm_kept_close(struct hbm_kept *kept);

/* The next piece of the daemon before: its bytes, and its descriptor, the caller's. 0: there are no more. */
uint64_t hbm_kept_take(struct hbm_kept *kept, int *fd);
/* A piece has been made, behind `index` others of so many bytes, and is to be kept: by that
 * descriptor, which stays the caller's; -1: there is none. */
void hbm_kept_add(struct hbm_kept *kept, uint64_t index, uint64_t offset, uint64_t bytes, int fd);
/* No more than the first so many are kept any longer. */
void hbm_kept_cut(struct hbm_kept *kept, uint64_t count);
/* Pieces of devices that are not there, or have no tier any more, are kept no longer: when the
 * tiers of all devices are open. numbers: of their memories. */
void hbm_kept_let_go(const struct hbm_kept_place *place, const uint32_t *numbers, uint32_t count);
