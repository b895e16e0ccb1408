/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_queue: operations of the NVMe tier that wait for their I/O, and which of them is next.
 * They take turns between those who pay for them (fair_queue.h), `merge` bytes a turn, and
 * large ones in pieces of that size. Urgent operations, those a request waits for, go first,
 * except that every eighth time the others do; reads and writes alternate.
 */
#pragma once

#include "daemon/base/fair_queue.h"

#include <stdbool.h>
#include <stdint.h>

struct nvme_op {
	struct fair_payer payer;
	bool write;
	uint64_t offset, bytes; /* multiples of 4 KiB */
	char *memory;           /* aligned to 4 KiB */
	int error;              /* 0 or negative errno; -ECANCELED: not tried */
	void (*done)(struct nvme_op *op);
	/* the rest is nvme_io's */
	struct fair_item item;
	struct nvme_op *next;
	uint64_t begun; /* bytes that I/Os have been started for */
	unsigned runs;  /* I/Os in flight */
	bool alone;     /* never joined again */
	bool urgent;
};

struct nvme_queue {
	struct fair_queue waiting[2][2]; /* [urgent][write] */
	uint64_t merge;
	unsigned served;
	bool turn; /* the direction to serve next */
};

void nvme_queue_open(struct nvme_queue *queue, uint64_t merge);
void nvme_queue_push(struct nvme_queue *queue, struct nvme_op *op, bool urgent);
/* What is still queued of it becomes urgent, in that payer's turns. */
void nvme_queue_hasten(struct nvme_queue *queue, struct nvme_op *op, struct fair_payer payer);
/* Takes an operation out, unserved; NULL: there is none. */
struct nvme_op *nvme_queue_cancel(struct nvme_queue *queue);

/* Whose turn it is, urgent or not, read or write; NULL: nothing is queued. */
struct fair_queue *nvme_queue_next(struct nvme_queue *queue);
/* Among those the operation whose turn it is; NULL: none. */
struct nvme_op *nvme_queue_first(struct fair_queue *waiting);
/* Takes its next piece, from op->begun on: how many bytes that is. */
uint64_t nvme_queue_take(const struct nvme_queue *queue, struct fair_queue *waiting,
			 struct nvme_op *op);
