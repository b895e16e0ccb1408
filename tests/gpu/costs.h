/* SPDX-License-Identifier: Apache-2.0 */
/*
 * costs: what gpu_costs measures, one function for each kind; and the samples they are
 * made of. Each keeps within the memory it is given, however much there is.
 */
#pragma once

#include "tests/gpu/rig.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLES_MAX 4096

struct samples {
	double values[SAMPLES_MAX];
	size_t count;
};

struct limits {
	uint64_t hbm, ddr, disk; /* bytes */
	bool quick;              /* a few rounds of everything, to see that it works */
	const char *folder;      /* for the file */
};

/* Calls an entry point; true if it succeeded. The first that did not is what
 * costs_blame() records. */
#define COST(rig, name, ...) costs_did((rig), #name, (rig)->driver->name(__VA_ARGS__))
bool costs_did(const struct rig *rig, const char *call, CUresult result);
/* A record of a failure: which call it was, and what it said. Forgets it. */
void costs_blame(const char *name);

double clock_s(void);
/* Those beyond SAMPLES_MAX are not kept. */
void samples_add(struct samples *samples, double value);
/* 50: the median. Sorts. */
double samples_percentile(struct samples *samples, double percent);
/* "4 KiB", "2 MiB", "1 GiB", in a static buffer that the next call overwrites. */
const char *size_text(uint64_t bytes);

void costs_vmm(const struct rig *rig, const struct limits *limits);
/* Backing 1 GiB as a client does when the daemon is asked nothing: by calls in this
 * process. */
void costs_commit(const struct rig *rig, const struct limits *limits);
void costs_register(const struct rig *rig, const struct limits *limits);
void costs_copy(const struct rig *rig, const struct limits *limits);
/* What work of one process waits for while a kernel of another, or of the same, has all
 * multiprocessors. */
void costs_beside(const struct rig *rig, const struct limits *limits);
/* Copies as the two copy queues of a device issue them: a thread for each direction; with
 * hashing on the thread, and beside commits. */
void costs_queues(const struct rig *rig, const struct limits *limits);
/* A block in rows, as an engine has it, by each way there is to copy it. */
void costs_rows(const struct rig *rig, const struct limits *limits);
/* What threads hash of memory that a device has just written. */
void costs_hash(const struct rig *rig, const struct limits *limits);
/* What device memory registered host memory takes. */
void costs_pages(const struct rig *rig, const struct limits *limits);
void costs_disk(const struct limits *limits);
