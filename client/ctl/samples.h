/* SPDX-License-Identifier: Apache-2.0 */
/* samples: how long calls took. All of them are kept, so percentiles are exact. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct samples {
	uint64_t *ns;
	size_t count, room;
	uint64_t sum_ns;
};

/* CLOCK_MONOTONIC. */
uint64_t samples_clock_ns(void);

/* 0 or -ENOMEM. */
int samples_add(struct samples *samples, uint64_t ns);
/* Adds all of `from`. 0 or -ENOMEM. */
int samples_merge(struct samples *samples, const struct samples *from);
/* Sorts; to be called before samples_percentile(). */
void samples_sort(struct samples *samples);
/* The smallest sample that `percent` of them do not exceed (nearest rank); 0 when there
 * are none. */
uint64_t samples_percentile(const struct samples *samples, double percent);
void samples_clear(struct samples *samples);
