/* SPDX-License-Identifier: Apache-2.0 */
/* samples: see samples.h. */
#include "client/ctl/samples.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

uint64_t samples_clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int samples_add(struct samples *samples, uint64_t ns)
{
	if (samples->count == samples->room) {
		size_t room = samples->room ? 2 * samples->room : 1024;
		uint64_t *larger = reallocarray(samples->ns, room, sizeof(*larger));
		if (!larger)
			return -ENOMEM;

		samples->ns = larger;
		samples->room = room;
	}

	samples->ns[samples->count++] = ns;
	samples->sum_ns += ns;
	return 0;
}

int samples_merge(struct samples *samples, const struct samples *from)
{
	for (size_t i = 0; i < from->count; i++) {
		if (samples_add(samples, from->ns[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int samples_ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

void samples_sort(struct samples *samples)
{
	if (samples->count)
		qsort(samples->ns, samples->count, sizeof(*samples->ns), samples_ascending);
}

uint64_t samples_percentile(const struct samples *samples, double percent)
{
	if (samples->count == 0)
		return 0;
	double rank = ceil(percent / 100.0 * (double)samples->count);
	size_t index = rank < 1 ? 0 : (size_t)rank - 1;
	return samples->ns[index < samples->count ? index : samples->count - 1];
}

void samples_clear(struct samples *samples)
{
	free(samples->ns);
	*samples = (struct samples){0};
}
