/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy: what a copy queue copies: one block's bytes between scattered device memory (spans,
 * in order) and one flat range of device memory (D2D) or of host memory. Without spans
 * nothing is copied.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/device/copy_piece.h"
#include "daemon/loop/event.h"

#include <stdbool.h>
#include <stdint.h>

enum copy_direction { COPY_D2D, COPY_D2H, COPY_H2D };

struct copy {
	struct fair_payer payer;
	const struct span *spans;
	uint32_t span_count;
	bool gather;   /* D2D: spans -> flat; D2H always gathers, H2D always scatters */
	uint64_t flat; /* D2D: device address */
	char *host;    /* else: host address */
	uint64_t bytes;
	int status;                      /* HBM_OK, HBM_DEVICE */
	bool late;                       /* it failed, and may go on for all that is known */
	void (*done)(struct copy *copy); /* on the loop thread */
	/* the rest is the queue's */
	struct fair_item item;
	struct copy_piece piece; /* the next one */
	uint32_t parts;          /* pieces that have left the queue and are not done */
	bool queued, urgent;
	struct post post;
};
