/* SPDX-License-Identifier: Apache-2.0 */
/* measure: see measure.h. */
#include "tests/support/measure.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

double measure_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);

	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void measure_sleep_until(double when)
{
	const time_t s = (time_t)when;
	const struct timespec t = {s, (long)((when - (double)s) * 1e9)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static int measure_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double measure_quantile(double *values, size_t count, double p)
{
	const size_t above = (size_t)((1 - p) * (double)count);

	qsort(values, count, sizeof(*values), measure_compare);

	return values[count - 1 - (above < count ? above : count - 1)];
}

double measure_median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), measure_compare);

	return values[count / 2];
}

void measure_check(struct hbm *hbm, int status, const char *what)
{
	if (status == 0)
		return;

	fprintf(stderr, "bench: %s: %s (%s)\n", what, hbm_strerror(status),
		hbm ? hbm_error(hbm) : "");
	exit(1);
}

/* ---- Pools ---- */

static void measure_raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void measure_pool_open(struct measure_pool *measure, const char *layout,
		       const struct hbm_pool_options *options)
{
	struct hbm_pool_options asked = *options;
	char error[256] = "";

	measure_raise_descriptors();
	measure_check(NULL, hbm_connect(&measure->hbm, NULL), "connect");
	measure_check(NULL, hbm_layout_parse(&measure->layout, layout, error, sizeof(error)),
		      error);

	asked.layout = measure->layout;
	measure_check(measure->hbm, hbm_pool_open(measure->hbm, &asked, &measure->pool), "pool");
}

void measure_pool_close(struct measure_pool *measure)
{
	measure_check(measure->hbm, hbm_pool_close(measure->pool), "close the pool");
	hbm_layout_free(measure->layout);
	hbm_close(measure->hbm);
}

struct hbm_sequence *measure_sequence(const struct measure_pool *measure)
{
	struct hbm_sequence *sequence = NULL;

	measure_check(measure->hbm, hbm_sequence_open(measure->pool, NULL, &sequence), "sequence");

	return sequence;
}

void measure_step(const struct measure_pool *measure, struct hbm_sequence *sequence,
		  uint64_t tokens)
{
	measure_check(measure->hbm, hbm_step(measure->pool, &sequence, &tokens, 1), "step");
}

static int measure_ready(const void *record, size_t bytes, void *arg)
{
	(void)bytes;
	*(uint64_t *)arg = ((const struct hbm_wire_device *)record)->ready;

	return 1;
}

void measure_await_ready(const struct measure_pool *measure, uint64_t bytes)
{
	const double until = measure_now() + 60;
	uint64_t ready;

	do {
		ready = 0;
		if (hbm_query(measure->hbm, HBM_QUERY_DEVICES, measure_ready, &ready) != 1 ||
		    measure_now() > until)
			measure_check(measure->hbm, HBM_TIMEOUT, "slabs that are ready");
		measure_sleep_until(measure_now() + 0.01);
	} while (ready < bytes);
}
