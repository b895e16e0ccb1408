/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission: the peak demand of sequences that grow and end, and how many more fit. See hbm.h
 * for the derivation.
 *
 * In the order of falling ends, the sequences that count when the j-th ends are the first j.
 * Two running sums, of what they have and of what they gain in a step, give their need at
 * that moment. With slabs the need of one is rounded up:
 *
 * 	ceil(b (p + t) / s) s <= b p + b t + (s - 1)
 *
 * which is a line again, so the sums remain two. At its own end, where the exact value is
 * known, the sequence counts with that.
 *
 * The peak rises with each candidate that is added, so that how many are admitted is found by
 * bisection: O(n log n) for the order, which is made once, and O(n) for each of O(log n)
 * peaks.
 */
#include <hbm/hbm.h>

#include <errno.h>
#include <stdlib.h>

#include "daemon/base/checked.h"

/* After t steps it needs fixed + t * rate, until it ends after `ends` steps, when it needs
 * `last`. */
struct admission_line {
	uint64_t ends, fixed, rate, last;
	size_t number; /* of the candidate, counted from 1; 0: it runs already */
};

/* HBM_OK or HBM_INVALID. */
static int admission_line(const struct hbm_sequence_demand *demand, size_t number,
			  struct admission_line *line)
{
	uint64_t tokens, bytes, slab = demand->slab_bytes > 1 ? demand->slab_bytes : 1;

	*line = (struct admission_line){
		.ends = demand->to_come, .rate = demand->token_bytes, .number = number};

	if (!checked_add(demand->present, demand->to_come, &tokens) ||
	    !checked_mul(tokens, demand->token_bytes, &bytes) ||
	    !checked_add(bytes, slab - 1, &line->last))
		return HBM_INVALID;

	line->last -= line->last % slab;
	line->fixed = demand->present * demand->token_bytes + (slab - 1);

	return HBM_OK;
}

static int admission_compare(const void *a, const void *b)
{
	const struct admission_line *one = a, *two = b;

	return one->ends < two->ends ? 1 : one->ends > two->ends ? -1 : 0;
}

/* Saturating: what overflows fits nowhere. */
static uint64_t admission_add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t admission_product(uint64_t a, uint64_t b)
{
	uint64_t product;

	return checked_mul(a, b, &product) ? product : UINT64_MAX;
}

/* The peak of those that run and the first `admitted` candidates. */
static uint64_t admission_peak(const struct admission_line *lines, size_t count, size_t admitted)
{
	uint64_t fixed = 0, rate = 0, peak = 0;

	for (size_t i = 0; i < count; i++) {
		const struct admission_line *line = &lines[i];
		if (line->number > admitted)
			continue;

		/* those that end later, and this one at its end */
		uint64_t need = admission_add(
			admission_add(fixed, admission_product(rate, line->ends)), line->last);
		peak = need > peak ? need : peak;
		fixed = admission_add(fixed, line->fixed);
		rate = admission_add(rate, line->rate);
	}

	return peak;
}

/* All lines in the order of falling ends; the caller frees them. 0, HBM_INVALID, -ENOMEM. */
static int admission_lines(const struct hbm_sequence_demand *running, size_t running_count,
			   const struct hbm_sequence_demand *candidates, size_t candidate_count,
			   struct admission_line **out)
{
	size_t count = running_count + candidate_count;
	struct admission_line *lines = calloc(count > 0 ? count : 1, sizeof(*lines));
	int status = lines ? HBM_OK : -ENOMEM;

	for (size_t i = 0; status == HBM_OK && i < count; i++)
		status = i < running_count ? admission_line(&running[i], 0, &lines[i])
					   : admission_line(&candidates[i - running_count],
							    i - running_count + 1, &lines[i]);
	if (status != HBM_OK) {
		free(lines);
		return status;
	}

	qsort(lines, count, sizeof(*lines), admission_compare);
	*out = lines;

	return HBM_OK;
}

int hbm_admit(uint64_t free_bytes, const struct hbm_sequence_demand *running, size_t running_count,
	      const struct hbm_sequence_demand *candidates, size_t candidate_count,
	      size_t *admitted)
{
	size_t count = running_count + candidate_count, low = 0, high = candidate_count;
	struct admission_line *lines;
	int status = admission_lines(running, running_count, candidates, candidate_count, &lines);
	if (status != HBM_OK)
		return status;

	while (low < high) {
		size_t middle = low + (high - low + 1) / 2;
		uint64_t peak = admission_peak(lines, count, middle);

		if (peak <= free_bytes && peak < UINT64_MAX)
			low = middle;
		else
			high = middle - 1;
	}

	free(lines);
	*admitted = low;

	return HBM_OK;
}

int hbm_peak_demand(const struct hbm_sequence_demand *sequences, size_t count, uint64_t *bytes)
{
	struct admission_line *lines;
	int status = admission_lines(sequences, count, NULL, 0, &lines);
	if (status != HBM_OK)
		return status;

	*bytes = admission_peak(lines, count, 0);
	free(lines);

	return HBM_OK;
}
