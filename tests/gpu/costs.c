/* SPDX-License-Identifier: Apache-2.0 */
/* costs: the clock, the samples, and what failed. See costs.h. */
#include "tests/gpu/costs.h"

#include "tests/gpu/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static char failure[160];

bool costs_did(const struct rig *rig, const char *call, CUresult result)
{
	if (result != CUDA_SUCCESS && failure[0] == '\0')
		snprintf(failure, sizeof(failure), "%s: %s", call,
			 driver_error_name(rig->driver, result));
	return result == CUDA_SUCCESS;
}

void costs_blame(const char *name)
{
	record(name, OUTCOME_FAIL, "%s", failure);
	failure[0] = '\0';
}

double clock_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void samples_add(struct samples *samples, double value)
{
	if (samples->count < SAMPLES_MAX)
		samples->values[samples->count++] = value;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double samples_percentile(struct samples *samples, double percent)
{
	size_t at;

	if (samples->count == 0)
		return 0;

	qsort(samples->values, samples->count, sizeof(samples->values[0]), ascending);
	at = (size_t)((double)samples->count * percent / 100);

	return samples->values[at < samples->count ? at : samples->count - 1];
}

const char *size_text(uint64_t bytes)
{
	static char text[32];

	if (bytes >= GIB)
		snprintf(text, sizeof(text), "%llu GiB", (unsigned long long)(bytes / GIB));
	else if (bytes >= MIB)
		snprintf(text, sizeof(text), "%llu MiB", (unsigned long long)(bytes / MIB));
	else
		snprintf(text, sizeof(text), "%llu KiB", (unsigned long long)(bytes >> 10));

	return text;
}
