/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step: one part of a transfer. It copies bytes between host memory, or a flat range of a
 * device, and another place. A tier makes steps with its places (tier.h); the functions
 * below make them with device memory. A step is started, and later completed once, on the
 * loop thread; never from within the call that starts it.
 */
#pragma once

#include "daemon/device/copy_queue.h"
#include "daemon/tier/nvme_io.h"

struct step {
	/* the caller's */
	char *host;
	uint64_t bytes;
	struct fair_payer payer; /* whose turn it takes */
	bool urgent;             /* a request waits for it */
	void (*done)(struct step *step);

	/* the outcome */
	/* HBM_OK, HBM_IO, HBM_DEVICE; HBM_CANCELLED: not tried, because the tier is silent */
	int status;
	struct device *late; /* whose copy of it may go on: copy_stream.h; NULL: none does */

	/* the maker's */
	struct span span;
	void *queue; /* NULL: it is not begun */
	void (*hasten)(struct step *step, struct fair_payer payer);
	union {
		struct copy copy;
		struct nvme_op op;
	};
};

/* A request waits for it now, and takes its turns. Before done(). */
static inline void step_hasten(struct step *step, struct fair_payer payer)
{
	if (step->queue)
		step->hasten(step, payer);
}

/* Copies spans of a device, in order, into host memory. */
void step_gather(struct step *step, const struct device *device, const struct span *spans,
		 uint32_t span_count);
/* The reverse. Without spans nothing is copied. */
void step_scatter(struct step *step, const struct device *device, const struct span *spans,
		  uint32_t span_count);
/* Copies between spans and a flat range of the same device without host memory. */
void step_gather_flat(struct step *step, const struct device *device, uint64_t flat,
		      const struct span *spans, uint32_t span_count);
void step_scatter_flat(struct step *step, const struct device *device, uint64_t flat,
		       const struct span *spans, uint32_t span_count);
