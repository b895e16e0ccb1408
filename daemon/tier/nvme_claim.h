/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_claim: the file or block device of the NVMe tier, made ours: opened, locked,
 * measured, labelled and allocated. It starts with a head, whose first 4 KiB are a label
 * with the owner, and then come the tier's `size` bytes, of which some are for copies; a
 * file is exactly that long. The label has an id, which stays as long as what has been
 * written to the tier does. The daemon never writes to a file or device that is neither
 * empty nor labelled as ours. The label occupies the sectors that mkfs and fdisk
 * overwrite, so reformatting a device releases our claim.
 *
 * A new file is allocated at once, so that a full disk is found at the start. Where the
 * file system cannot allocate, its reported free space decides.
 *
 * One daemon at a time: an exclusive flock for as long as it is open, and for a device
 * the kernel's claim that keeps it from being mounted.
 *
 * Each of these steps may block for as long as a disk hangs, so they are an attempt
 * (attempt.h) that ends without them after nvme.timeout_ms and the time that a lock is
 * waited for. If the disk answers later, what it gave is given back. A process that ends
 * before has to wait for it: the kernel keeps the thread.
 */
#pragma once

#include "daemon/base/attempt.h"
#include "daemon/base/reason.h"
#include "daemon/tier/nvme_room.h"

struct config;

/* bytes before the tier's first: keeps large I/O aligned to the device's internal
 * blocks */
#define NVME_HEAD (1ull << 20)
#define NVME_ZEROS (4ull << 20)
#define NVME_SIZE_MIN (1ull << 20)
#define NVME_ID_BYTES 16

struct nvme_claim {
	char *path;
	int fd;
	bool direct, created, is_device;
	bool formatted; /* else the size is to be filled with zeros, then labelled */
	/* Blocks of namespaces with wipe_on_free have been here since it was empty of them: what
	 * no catalog says is a block's is to be overwritten before it is used. */
	bool wipes;
	int state; /* of the label */
	uint64_t size;
	uint64_t filled;           /* of it: bytes from the front that have been */
	uint64_t labelled;         /* what the label says is formatted, or is to be */
	uint64_t copies;           /* of it: room for copies */
	uint8_t id[NVME_ID_BYTES]; /* of the label: another one where the contents are others */
	double read_rate;          /* bytes per second, where it is formatted; 0: unknown */
	char *zeros;               /* NVME_ZEROS, aligned */
	/* the rest is nvme_claim.c's */
	struct attempt attempt;
	int (*step)(struct nvme_claim *claim, const struct reason *reason);
	uint64_t configured;
	struct nvme_room room;
	int result;
	char text[512];
};

/* config->nvme_path, with room for so many bytes of copies if it has it. Negative errno
 * and a line; -ETIMEDOUT: it did not answer. */
int nvme_claim_new(struct nvme_claim **out, const struct config *config, uint64_t copies,
		   const struct reason *reason);
/* Whether an nvme_claim_new() of a path that exists would be refused, apart from being in
 * use: the same errors. Changes nothing there. */
int nvme_claim_check(const struct config *config, const struct reason *reason);
/* As formatted to that size: negative errno. */
int nvme_claim_label(struct nvme_claim *claim, uint64_t size);
/* Changes what it says of that; negative errno. */
int nvme_claim_label_wipes(struct nvme_claim *claim, bool wipes);
/* The size that it may have at most, as far as can be known. */
uint64_t nvme_claim_room(const struct nvme_claim *claim);
/* Allocates a file for a larger size; the label stays. Negative errno. */
int nvme_claim_lengthen(const struct nvme_claim *claim, uint64_t size);
/* Gives back all behind a smaller size, which is the claim's from then on. Negative errno: the
 * label, or the length of the file, is still the old one. */
int nvme_claim_shorten(struct nvme_claim *claim, uint64_t size);
/* Gives it back; accepts NULL, returns NULL. */
struct nvme_claim *nvme_claim_free(struct nvme_claim *claim);
/* The same, and removes a file that the claim created. */
void nvme_claim_withdraw(struct nvme_claim *claim);
