/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_tenants: whether the time of a miss tells that another tenant has the block. One user
 * stores blocks; another one, with a namespace of the same specification that is its own, asks
 * for their keys, for keys that no client has, and for others of these: the last two differ by
 * chance alone, of what is in the same buckets, and so by as much from one daemon to the next. In
 * turns, so that what else the machine does hits all alike. Prints "name value
 * unit" lines: medians, and their ratios. As root, with hbmd.socket_mode = 0666 and
 * hbmd.share_namespaces = no.
 *
 * 	bench_tenants KEYS ROUNDS
 */
#include "tests/support/measure.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS_MAX 100000u
#define KEYS_MAX 4096u
#define BLOCK 4096u
#define SLAB (2u << 20)

#define THEY 60001
#define WE 60002

enum { THEIRS, NONES, OTHER_NONES, SETS };

static hbm_key keys[SETS][KEYS_MAX];
static double times[SETS][ROUNDS_MAX];

/* By a path from its folder: those above it may be closed to the user. */
static struct hbm *connect_as(uid_t uid, char *socket)
{
	struct hbm *hbm = NULL;

	if (seteuid(uid) < 0) {
		perror("bench: seteuid");
		exit(1);
	}
	measure_check(NULL, hbm_connect(&hbm, &(struct hbm_options){.socket = socket}), "connect");
	if (seteuid(0) < 0)
		exit(1);

	return hbm;
}

static uint32_t open_namespace(struct hbm *hbm)
{
	const struct hbm_namespace_options options = {
		.model = "bench-tenants", .layout = "bench", .block_bytes = BLOCK};
	uint32_t ns = 0;

	measure_check(hbm, hbm_namespace_open(hbm, &options, &ns), "namespace");

	return ns;
}

static void store(struct hbm *hbm, size_t count)
{
	const uint32_t ns = open_namespace(hbm);
	struct hbm_region *region = NULL;

	measure_check(
		hbm,
		hbm_region_create(hbm,
				  &(struct hbm_region_options){.address_space = SLAB, .slab = SLAB},
				  &region),
		"region");
	const struct hbm_range all = {region, 0, SLAB};
	const struct hbm_segment segment = {region, 0, BLOCK};

	measure_check(hbm, hbm_commit(hbm, &all, 1), "commit");
	for (size_t i = 0; i < count; i++) {
		const struct hbm_block block = {
			.key = keys[THEIRS][i], .segments = &segment, .segment_count = 1};
		hbm_result result;

		measure_check(hbm, hbm_store(hbm, ns, &block, 1, &result), "store");
		if (result.status != HBM_EXISTS) /* by a run before */
			measure_check(hbm, result.status, "store");
	}
}

/* A request for all keys of a set, which are misses. */
static double ask(struct hbm *hbm, uint32_t ns, unsigned set, size_t count)
{
	static hbm_result results[KEYS_MAX];
	const double start = measure_now();

	measure_check(hbm, hbm_prefetch(hbm, ns, 0, keys[set], count, 0, results), "prefetch");
	const double spent = measure_now() - start;

	for (size_t i = 0; i < count; i++)
		if (results[i].status != HBM_MISS)
			measure_check(hbm, results[i].status, "a miss");

	return spent;
}

int main(int argc, char **argv)
{
	const char *path = getenv("HBM_SOCKET");

	if (argc != 3 || !path) {
		fprintf(stderr, "usage: HBM_SOCKET=PATH bench_tenants KEYS ROUNDS\n");
		return 2;
	}

	size_t count = strtoul(argv[1], NULL, 10), rounds = strtoul(argv[2], NULL, 10);
	char folder[256], name[256];

	count = count < 1 ? 1 : count > KEYS_MAX ? KEYS_MAX : count;
	rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	snprintf(folder, sizeof(folder), "%s", path);
	snprintf(name, sizeof(name), "%s", path);
	if (chdir(dirname(folder)) < 0) {
		perror("bench: chdir");
		return 1;
	}

	for (uint64_t set = 0; set < SETS; set++)
		for (uint64_t i = 0; i < count; i++)
			memcpy(&keys[set][i], (uint64_t[2]){i + 1, set + 1}, sizeof(hbm_key));

	struct hbm *they = connect_as(THEY, basename(name)), *we = connect_as(WE, basename(name));
	store(they, count);
	const uint32_t ns = open_namespace(we);

	for (size_t round = 0; round < rounds; round++)
		for (unsigned i = 0; i < SETS; i++) {
			unsigned set = (unsigned)((round + i) % SETS);

			times[set][round] = ask(we, ns, set, count);
		}

	double theirs = measure_median(times[THEIRS], rounds),
	       nones = measure_median(times[NONES], rounds),
	       others = measure_median(times[OTHER_NONES], rounds);
	printf("theirs %.3f us\nnones %.3f us\nratio %.4f x\nnoise %.4f x\n", theirs * 1e6,
	       nones * 1e6, theirs / nones, others / nones);
	hbm_close(they);
	hbm_close(we);

	return 0;
}
