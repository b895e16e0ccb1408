/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_queue.h"

#include <stddef.h>

#include "daemon/base/list.h"

#define FAIR 8       /* one time in so many those that are not urgent go first */
#define IO_COST 4096 /* of an operation, beside its bytes */

/* Bytes of the operation's next I/O. */
static uint64_t nvme_queue_piece(const struct nvme_queue *queue, const struct nvme_op *op)
{
	uint64_t left = op->bytes - op->begun;
	return left < queue->merge ? left : queue->merge;
}

void nvme_queue_open(struct nvme_queue *queue, uint64_t merge)
{
	*queue = (struct nvme_queue){.merge = merge};
	for (unsigned i = 0; i < 4; i++)
		fair_queue_open(&queue->waiting[i / 2][i % 2], merge);
}

void nvme_queue_push(struct nvme_queue *queue, struct nvme_op *op, bool urgent)
{
	op->urgent = urgent;
	fair_queue_push(&queue->waiting[urgent][op->write], &op->item, op->payer,
			nvme_queue_piece(queue, op) + IO_COST, op->bytes);
}

void nvme_queue_hasten(struct nvme_queue *queue, struct nvme_op *op, struct fair_payer payer)
{
	fair_queue_remove(&queue->waiting[false][op->write], &op->item);
	fair_queue_push(&queue->waiting[true][op->write], &op->item, payer, op->item.cost,
			op->bytes);
	op->urgent = true;
}

struct nvme_op *nvme_queue_cancel(struct nvme_queue *queue)
{
	for (unsigned i = 0; i < 4; i++) {
		struct fair_queue *waiting = &queue->waiting[i / 2][i % 2];
		struct nvme_op *op = nvme_queue_first(waiting);
		if (op) {
			fair_queue_remove(waiting, &op->item);
			return op;
		}
	}

	return NULL;
}

struct fair_queue *nvme_queue_next(struct nvme_queue *queue)
{
	bool background_first = ++queue->served % FAIR == 0;
	queue->turn = !queue->turn;
	for (unsigned i = 0; i < 4; i++) {
		bool urgent = (i < 2) != background_first;
		struct fair_queue *waiting = &queue->waiting[urgent][queue->turn ^ (i & 1)];
		if (!fair_queue_empty(waiting))
			return waiting;
	}

	return NULL;
}

struct nvme_op *nvme_queue_first(struct fair_queue *waiting)
{
	struct fair_item *item = fair_queue_next(waiting);
	return item ? container_of(item, struct nvme_op, item) : NULL;
}

uint64_t nvme_queue_take(const struct nvme_queue *queue, struct fair_queue *waiting,
			 struct nvme_op *op)
{
	uint64_t bytes = nvme_queue_piece(queue, op);

	op->begun += bytes;
	op->runs++;
	if (op->begun == op->bytes)
		fair_queue_take(waiting, &op->item);
	else
		fair_queue_take_piece(waiting, &op->item, nvme_queue_piece(queue, op) + IO_COST);

	return bytes;
}
