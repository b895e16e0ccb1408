/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/step.h"

#include <stddef.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"

static void step_copied(struct copy *copy)
{
	struct step *step = container_of(copy, struct step, copy);

	step->status = copy->status;
	step->late = copy->late ? copy_queue_device(step->queue) : NULL;
	step->done(step);
}

static void step_hasten_copy(struct step *step, struct fair_payer payer)
{
	copy_queue_hasten(step->queue, &step->copy, payer);
}

static void step_post(struct step *step, const struct device *device, enum copy_direction kind,
		      struct copy copy)
{
	copy.payer = step->payer;
	copy.host = step->host;
	copy.bytes = step->bytes;
	copy.done = step_copied;
	step->copy = copy;
	step->queue = device->queues[kind];
	step->hasten = step_hasten_copy;
	copy_queue_post(device->queues[kind], &step->copy, step->urgent);
}

void step_gather(struct step *step, const struct device *device, const struct span *spans,
		 uint32_t span_count)
{
	step_post(step, device, COPY_D2H, (struct copy){.spans = spans, .span_count = span_count});
}

void step_scatter(struct step *step, const struct device *device, const struct span *spans,
		  uint32_t span_count)
{
	step_post(step, device, COPY_H2D, (struct copy){.spans = spans, .span_count = span_count});
}

void step_gather_flat(struct step *step, const struct device *device, uint64_t flat,
		      const struct span *spans, uint32_t span_count)
{
	step_post(step, device, COPY_D2D,
		  (struct copy){
			  .spans = spans, .span_count = span_count, .gather = true, .flat = flat});
}

void step_scatter_flat(struct step *step, const struct device *device, uint64_t flat,
		       const struct span *spans, uint32_t span_count)
{
	step_post(step, device, COPY_D2D,
		  (struct copy){.spans = spans, .span_count = span_count, .flat = flat});
}
