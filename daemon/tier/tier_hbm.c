/* SPDX-License-Identifier: Apache-2.0 */
/* tier_hbm: places in the memory of a device, tier->base. Every step is a copy by that
 * device. */
#include <stddef.h>

#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

static struct span tier_hbm_span(const struct tier *tier, uint32_t unit, uint64_t bytes)
{
	return (struct span){tier->base + tier_offset(unit), bytes};
}

static void tier_hbm_read(const struct tier *tier, uint32_t unit, struct step *step)
{
	step->span = tier_hbm_span(tier, unit, step->bytes);
	step_gather(step, tier->device, &step->span, 1);
}

static void tier_hbm_write(const struct tier *tier, uint32_t unit, struct step *step)
{
	step->span = tier_hbm_span(tier, unit, step->bytes);
	step_scatter(step, tier->device, &step->span, 1);
}

static bool tier_hbm_reaches(const struct tier *tier, const struct device *device)
{
	return tier->device == device;
}

static void tier_hbm_gather(const struct tier *tier, uint32_t unit, struct step *step,
			    const struct span *spans, uint32_t span_count)
{
	step_gather_flat(step, tier->device, tier->base + tier_offset(unit), spans, span_count);
}

static void tier_hbm_scatter(const struct tier *tier, uint32_t unit, struct step *step,
			     const struct span *spans, uint32_t span_count)
{
	step_scatter_flat(step, tier->device, tier->base + tier_offset(unit), spans, span_count);
}

const struct tier_ops tier_hbm_ops = {
	.read = tier_hbm_read,
	.write = tier_hbm_write,
	.reaches = tier_hbm_reaches,
	.gather = tier_hbm_gather,
	.scatter = tier_hbm_scatter,
};
