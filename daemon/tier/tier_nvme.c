/* SPDX-License-Identifier: Apache-2.0 */
/* tier_nvme: places in a file or block device. Steps are queued with tier->io, a struct
 * nvme_io. */
#include <errno.h>
#include <stddef.h>

#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

static void tier_nvme_done(struct nvme_op *op)
{
	struct step *step = container_of(op, struct step, op);

	step->status = op->error == 0 ? HBM_OK : op->error == -ECANCELED ? HBM_CANCELLED : HBM_IO;
	step->done(step);
}

static void tier_nvme_hasten(struct step *step, struct fair_payer payer)
{
	nvme_io_hasten(step->queue, &step->op, payer);
}

static void tier_nvme_submit(const struct tier *tier, uint32_t unit, struct step *step, bool write)
{
	step->op = (struct nvme_op){
		.payer = step->payer,
		.write = write,
		.offset = tier_offset(unit),
		.bytes = step->bytes,
		.memory = step->host,
		.done = tier_nvme_done,
	};
	step->queue = tier->io;
	step->hasten = tier_nvme_hasten;
	nvme_io_submit(tier->io, &step->op, step->urgent);
}

static void tier_nvme_read(const struct tier *tier, uint32_t unit, struct step *step)
{
	tier_nvme_submit(tier, unit, step, false);
}

static void tier_nvme_write(const struct tier *tier, uint32_t unit, struct step *step)
{
	tier_nvme_submit(tier, unit, step, true);
}

static void tier_nvme_flush(const struct tier *tier)
{
	if (tier->io)
		nvme_io_dispatch(tier->io);
}

static void tier_nvme_on_batch(const struct tier *tier, void (*batch_done)(void *arg), void *arg)
{
	if (tier->io)
		nvme_io_on_batch(tier->io, batch_done, arg);
}

const struct tier_ops tier_nvme_ops = {
	.read = tier_nvme_read,
	.write = tier_nvme_write,
	.flush = tier_nvme_flush,
	.on_batch = tier_nvme_on_batch,
};
