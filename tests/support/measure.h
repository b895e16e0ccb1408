/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure: what the benches share: the clock, what is in the middle or near the end of a row
 * of figures, and a pool of a running daemon. What is refused ends the process with a line.
 */
#pragma once

#include <hbm/sequence.h>
#include <stddef.h>

#define MEASURE_GIB 1073741824.0

double measure_now(void); /* seconds */
void measure_sleep_until(double when);
double measure_median(double *values, size_t count); /* sorts them */
/* The smallest value that a share `p` of them does not exceed; sorts them. */
double measure_quantile(double *values, size_t count, double p);
/* `status` is that of a call on a connection, NULL: of none. */
void measure_check(struct hbm *hbm, int status, const char *what);

struct measure_pool {
	struct hbm *hbm;
	struct hbm_layout *layout;
	struct hbm_pool *pool;
};

/* A connection of its own, and a pool of the layout on it, of device 0. options: all but
 * the layout. The process may have as many descriptors as it is allowed. */
void measure_pool_open(struct measure_pool *measure, const char *layout,
		       const struct hbm_pool_options *options);
void measure_pool_close(struct measure_pool *measure);
struct hbm_sequence *measure_sequence(const struct measure_pool *measure);
void measure_step(const struct measure_pool *measure, struct hbm_sequence *sequence,
		  uint64_t tokens);
/* Waits until so many bytes of device 0 are slabs that are created and unused. */
void measure_await_ready(const struct measure_pool *measure, uint64_t bytes);
