/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_depth.h"

#define PERIOD_NS UINT64_C(10000000)
#define PERIOD_IOS 8u /* times the depth */
#define PERIODS 4u    /* of a round */
#define STEP 4u       /* the other depth differs by one part in so many */
#define MARGIN 50     /* a rate differs if it does by one part in so many */

static void nvme_depth_begin_period(struct nvme_depth *depth, unsigned in_flight, uint64_t now_ns)
{
	depth->before = in_flight;
	depth->ios = 0;
	depth->bytes = 0;
	depth->begun_ns = now_ns;
}

static unsigned nvme_depth_other(const struct nvme_depth *depth)
{
	unsigned step = depth->present / STEP + (depth->present < STEP);

	if (!depth->more)
		return depth->present - step;
	return depth->most - depth->present < step ? depth->most : depth->present + step;
}

/* Whether a period of the round is one with the other depth. */
static bool nvme_depth_is_other(const struct nvme_depth *depth)
{
	return depth->period == 1 || depth->period == 2;
}

static void nvme_depth_begin_round(struct nvme_depth *depth)
{
	if (depth->present == 1)
		depth->more = true;
	else if (depth->present == depth->most)
		depth->more = false;

	depth->period = 0;
	depth->now = depth->present;
	depth->moved[0] = depth->moved[1] = 0;
	depth->took_ns[0] = depth->took_ns[1] = 0;
}

static bool nvme_depth_other_is_better(const struct nvme_depth *depth)
{
	double present = (double)depth->moved[0] / (double)depth->took_ns[0];
	double other = (double)depth->moved[1] / (double)depth->took_ns[1];

	return other > present * (1 + (depth->more ? 1.0 : -1.0) / MARGIN);
}

static void nvme_depth_end_round(struct nvme_depth *depth)
{
	if (nvme_depth_other_is_better(depth))
		depth->present = nvme_depth_other(depth);
	else
		depth->more = !depth->more;

	nvme_depth_begin_round(depth);
}

static void nvme_depth_end_period(struct nvme_depth *depth, uint64_t now_ns)
{
	bool other = nvme_depth_is_other(depth);

	depth->moved[other] += depth->bytes;
	depth->took_ns[other] += now_ns - depth->begun_ns;
	if (++depth->period == PERIODS)
		nvme_depth_end_round(depth);
	else
		depth->now = nvme_depth_is_other(depth) ? nvme_depth_other(depth) : depth->present;
}

void nvme_depth_open_fixed(struct nvme_depth *depth, unsigned first)
{
	*depth = (struct nvme_depth){.now = first};
}

void nvme_depth_open(struct nvme_depth *depth, unsigned first, unsigned most)
{
	nvme_depth_open_fixed(depth, first < most ? first : most);
	if (most == 1)
		return;

	depth->most = most;
	depth->present = depth->now;
	nvme_depth_begin_round(depth);
}

void nvme_depth_ended(struct nvme_depth *depth, uint64_t bytes, unsigned in_flight, uint64_t now_ns)
{
	if (depth->most == 0)
		return;

	/* What was begun before goes first, more or less, and time is counted from its end. */
	if (depth->before > 0) {
		if (--depth->before == 0)
			depth->begun_ns = now_ns;
		return;
	}

	depth->ios++;
	depth->bytes += bytes;
	if (depth->ios < PERIOD_IOS * depth->now || now_ns - depth->begun_ns < PERIOD_NS)
		return;

	nvme_depth_end_period(depth, now_ns);
	nvme_depth_begin_period(depth, in_flight, now_ns);
}

void nvme_depth_unused(struct nvme_depth *depth, unsigned in_flight, uint64_t now_ns)
{
	if (depth->most > 0)
		nvme_depth_begin_period(depth, in_flight, now_ns);
}
