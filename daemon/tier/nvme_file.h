/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_file: the file or block device behind the NVMe tier (nvme_claim.h) and how much of it
 * is in service. A new file is filled with zeros in the background, because a file system
 * makes the first write to unwritten extents cost twice. Bytes that have been filled are
 * usable. The label says when a file is formatted, and the next start skips the filling. A
 * block device needs no filling.
 *
 * Before the first block of a namespace with wipe_on_free may come, the label says so
 * (nvme_file_expect_wipes()), and it does until a clean stop without any. After a crash the
 * daemon knows of no bytes but those in the catalog: the rest of the tier is overwritten before
 * it is used (tier_wipe_gap(), catalog_recovery.h).
 *
 * What is in it is found again by the catalog, where there is one (daemon/catalog/catalog.h);
 * the id in the label says that it is the catalog of this file. Without one every start
 * begins with an empty tier.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/reason.h"
#include "daemon/loop/loop.h"
#include "daemon/tier/nvme_claim.h"
#include "daemon/tier/tier.h"

struct config;
struct nvme_file;

/* Told when the label says it, or cannot: negative errno. */
struct nvme_file_wait {
	struct list link;
	void (*done)(struct nvme_file_wait *wait, int result);
};

/* Opens config->nvme_path and sets up the tier, whose copies_max is how many bytes of
 * copies are wanted, and afterwards for how many there is room, and whose `claiming` stays as
 * it is. progress() is called on
 * the loop thread as the tier grows. Returns negative errno and one line in error;
 * -ETIMEDOUT: the disk does not answer. */
int nvme_file_open(struct nvme_file **out, const struct config *config, struct tier *tier,
		   struct loop *loop, void (*progress)(void *arg), void *arg, char *error,
		   size_t error_size);
/* Whether an nvme_file_open() of a path that exists would be refused, apart from being in
 * use: the same errors. Changes nothing there. */
int nvme_file_check(const struct config *config, char *error, size_t error_size);
/* Ends a formatting in progress. The loop may still have a completion of it, so it must
 * not run afterwards. */
struct nvme_file *nvme_file_close(struct nvme_file *nvme);
/* Whether blocks of namespaces with wipe_on_free may come. */
bool nvme_file_expects_wipes(const struct nvme_file *nvme);
/* Writes it into the label, without waiting for that. */
void nvme_file_expect_wipes(struct nvme_file *nvme, struct nvme_file_wait *wait);
/* Nothing of such a block is left, and the daemon stops: negative errno. The loop does not run. */
int nvme_file_end_wipes(struct nvme_file *nvme);
/*
 * Another size while it is open, bytes of all extents. A file that grows is allocated and filled as
 * at the start, and labelled when all is filled; one that shrinks is labelled before it is cut. So
 * at every moment a start finds what is within the size of the label.
 *
 * A disk that does not get on with it for nvme.timeout_ms is not waited for: a file that grows stays at
 * what is filled, and one that shrinks counts as cut, because it may be at any moment. It is late then,
 * and gets no other size, until the disk has answered and the file has the size that the tier has.
 */

/* Whether there may be so many bytes: HBM_OK, or HBM_NO_SPACE, or HBM_IO: it is late; and a reason. */
int nvme_file_may_have(const struct nvme_file *nvme, uint64_t bytes, const struct reason *why);
bool nvme_file_is_late(const struct nvme_file *nvme);
/* When settled. The tier has fewer afterwards if the disk is full, or late. */
void nvme_file_grow(struct nvme_file *nvme, uint64_t bytes);
/* Bytes that were asked for, or a growth has failed at. */
uint64_t nvme_file_bytes(const struct nvme_file *nvme);
/* Cuts off what is away at the end, down to so many bytes: cut() when it is. When settled. */
void nvme_file_shrink(struct nvme_file *nvme, uint64_t bytes, void (*cut)(void *arg), void *arg);
int nvme_file_fd(const struct nvme_file *nvme);
const uint8_t *nvme_file_id(const struct nvme_file *nvme); /* NVME_ID_BYTES */
bool nvme_file_is_device(const struct nvme_file *nvme);
/* Bytes per second that a read of the file reached at startup, before its first bytes
 * became usable; 0: unknown. */
double nvme_file_read_rate(const struct nvme_file *nvme);
unsigned nvme_file_percent(const struct nvme_file *nvme); /* how much is formatted */
bool nvme_file_settled(
	const struct nvme_file *nvme); /* all of it is usable, or the rest never will be */
