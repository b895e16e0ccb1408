/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu: data-sheet figures of GPUs. Vendors give the size of a memory in GB but build it in
 * powers of two, which is what drivers report: the table reads their GB as GiB. All rates
 * are decimal, dense (without sparsity), and peaks.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct plan_gpu {
	const char *name;
	const char *host_link; /* what it is called */
	uint64_t hbm_bytes;
	double flop_s;           /* bf16 */
	double hbm_bytes_s;      /* of its memory */
	double link_bytes_s;     /* to the host, each direction */
	double gpu_link_bytes_s; /* between GPUs, both directions together; 0: none */
	const char *source;
	const char *checked; /* how well */
};

extern const struct plan_gpu plan_gpus[];
extern const size_t plan_gpu_count;

/* The names of a row, for names.h: its own, and a short one if it is the usual
 * variant. */
const char *plan_gpu_name(size_t row, unsigned which);
/* The row that a name means (names.h); NULL: none or several. */
const struct plan_gpu *plan_gpu_find(const char *name);
