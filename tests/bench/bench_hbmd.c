/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_hbmd: measures one thing of a running daemon, and beside it, in the same run and
 * in turns, the thing it is to be compared with. Prints "name value unit" lines;
 * tests/bench/run makes ratios of them. Medians of several rounds.
 *
 * 	blocks BYTES COUNT DEPTH ROUNDS SEGMENTS
 * 					store and load COUNT blocks of so many segments, DEPTH requests in flight;
 * 					and memcpy of as many, whole
 * 	small N				32 loads of 64 KiB, N times: one after the other, all at once, corked,
 * 					and as one request; time of a block
 * 	numbers BYTES COUNT DEPTH	store and load bf16 numbers in a raw and in a lossless namespace;
 * 					how much less of NVMe they take, and the rate of the threads
 * 					that encode and decode them
 * 	ping N				hbm_ping() against a raw SEQPACKET ping-pong with a process of its own
 * 	commit SLAB COUNT		commit and map, decommit
 * 	lookup LENGTH N			look up a resident chain
 */
#include <hbm/hbm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/device/jobs.h"
#include "tests/support/kv.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/measure.h"

#define ROUNDS 5
#define BATCH_MAX 64      /* blocks of one request */
#define SEGMENTS_MAX 1024 /* of them all */

static hbm_key key_of(uint64_t round, uint64_t n)
{
	hbm_key key;
	uint64_t words[2] = {(round + 1) * 0x9e3779b97f4a7c15u, n + 1};
	memcpy(key.bytes, words, sizeof(words));
	return key;
}

static struct hbm_region *make_region(struct hbm *hbm, uint64_t bytes, uint64_t slab)
{
	const struct hbm_region_options options = {.address_space = bytes, .slab = slab};
	struct hbm_region *region;
	measure_check(hbm, hbm_region_create(hbm, &options, &region), "region");
	return region;
}

static uint32_t open_namespace(struct hbm *hbm, const char *name, uint64_t block_bytes)
{
	const struct hbm_namespace_options options = {.model = name, .block_bytes = block_bytes};
	uint32_t ns;
	measure_check(hbm, hbm_namespace_open(hbm, &options, &ns), "namespace");
	return ns;
}

/* ---- store and load ---- */

struct stream {
	struct hbm *hbm;
	struct hbm_region *region;
	uint32_t ns;
	uint64_t bytes, count, depth, batch;
	/* A block has so many segments, one in each layer of the region, as an engine's have. */
	uint64_t segments, layer;
};

static void place_block(const struct stream *s, uint64_t nth, struct hbm_segment *segments)
{
	uint64_t piece = s->bytes / s->segments;

	for (uint64_t i = 0; i < s->segments; i++)
		segments[i] = (struct hbm_segment){s->region, i * s->layer + nth * piece, piece};
}

/* All blocks once, `depth` requests in flight, each with its own part of the region;
 * seconds. */
static double move_all(const struct stream *s, uint64_t round, bool store, const uint64_t *order)
{
	hbm_ticket tickets[64];
	static struct hbm_block blocks[64][BATCH_MAX];
	static struct hbm_segment segments[64][SEGMENTS_MAX];
	static hbm_result results[64][BATCH_MAX];
	uint64_t requests = s->count / s->batch;
	double start = measure_now();

	for (uint64_t i = 0; i < requests + s->depth; i++) {
		uint64_t slot = i % s->depth;
		if (i >= s->depth) {
			measure_check(s->hbm, hbm_wait(s->hbm, tickets[slot], -1),
				      store ? "store" : "load");
			for (uint64_t b = 0; b < s->batch; b++)
				if (results[slot][b].status != HBM_OK)
					measure_check(s->hbm, results[slot][b].status, "a block");
		}

		if (i >= requests)
			continue;

		for (uint64_t b = 0; b < s->batch; b++) {
			struct hbm_segment *own = &segments[slot][b * s->segments];
			place_block(s, slot * s->batch + b, own);
			blocks[slot][b] =
				(struct hbm_block){.key = key_of(round, order[i * s->batch + b]),
						   .segments = own,
						   .segment_count = (uint32_t)s->segments};
		}

		measure_check(s->hbm,
			      (store ? hbm_submit_store
				     : hbm_submit_load)(s->hbm, s->ns, blocks[slot], s->batch, NULL,
							results[slot], &tickets[slot]),
			      "submit");
	}

	return measure_now() - start;
}

static double copy_all(char *to, const char *from, uint64_t bytes, uint64_t count)
{
	double start = measure_now();
	for (uint64_t i = 0; i < count; i++)
		memcpy(to + i * bytes, from + i * bytes, bytes);
	return measure_now() - start;
}

static void forget(const struct stream *s, uint64_t round)
{
	hbm_key keys[1024];
	for (uint64_t i = 0, n = 0; i < s->count; i++) {
		keys[n++] = key_of(round, i);
		if (n < 1024 && i + 1 < s->count)
			continue;
		measure_check(s->hbm, hbm_keys(s->hbm, HBM_WIRE_REMOVE, s->ns, 0, keys, n, NULL),
			      "remove");
		n = 0;
	}
}

static void shuffle(uint64_t *order, uint64_t count)
{
	uint64_t x = 88172645463325252u;
	for (uint64_t i = count; i > 1; i--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint64_t j = x % i, swap = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swap;
	}
}

static void bench_blocks(struct hbm *hbm, char **argv)
{
	struct stream s = {.hbm = hbm,
			   .bytes = strtoull(argv[0], NULL, 10),
			   .count = strtoull(argv[1], NULL, 10),
			   .depth = strtoull(argv[2], NULL, 10)};
	uint64_t rounds = strtoull(argv[3], NULL, 10);

	s.segments = strtoull(argv[4], NULL, 10);
	s.segments = s.segments < 1 ? 1 : s.segments > SEGMENTS_MAX ? SEGMENTS_MAX : s.segments;
	rounds = rounds < 1 ? 1 : rounds > ROUNDS ? ROUNDS : rounds;

	/* one request moves up to 2 MiB, as an engine's do */
	s.batch = s.bytes >= 2097152 ? 1 : 2097152 / s.bytes;
	s.batch = s.batch > BATCH_MAX ? BATCH_MAX : s.batch;
	s.batch = s.batch * s.segments > SEGMENTS_MAX ? SEGMENTS_MAX / s.segments : s.batch;
	s.count = s.count / s.batch * s.batch;
	s.ns = open_namespace(hbm, "bench", s.bytes);
	s.layer = (s.depth * s.batch * (s.bytes / s.segments) + 2097151) / 2097152 * 2097152;
	uint64_t region = s.segments * s.layer;
	s.region = make_region(hbm, region, 2097152);
	struct hbm_range all = {s.region, 0, region};
	measure_check(hbm, hbm_commit(hbm, &all, 1), "commit");
	uint64_t total = s.bytes * s.count;
	char *from = mmap(NULL, total * 2, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t *order = calloc(s.count, sizeof(*order));
	if (from == MAP_FAILED || !order)
		exit(1);

	double stores[ROUNDS], loads[ROUNDS], copies[ROUNDS];
	for (uint64_t round = 0; round < rounds; round++) {
		for (uint64_t i = 0; i < s.count; i++)
			order[i] = i;
		copies[round] = (double)total / MEASURE_GIB /
				copy_all(from + total, from, s.bytes, s.count);
		stores[round] = (double)total / MEASURE_GIB / move_all(&s, round, true, order);
		shuffle(order, s.count);
		loads[round] = (double)total / MEASURE_GIB / move_all(&s, round, false, order);
		forget(&s, round);
	}

	printf("store %.3f GiB/s\nload %.3f GiB/s\nmemcpy %.3f GiB/s\n",
	       measure_median(stores, rounds), measure_median(loads, rounds),
	       measure_median(copies, rounds));
}

/* ---- numbers, raw and encoded ---- */

enum { CHANNELS = 1024 };

static int see_nvme(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	double *ratio = arg;

	(void)bytes;
	if (tier->tier == HBM_TIER_NVME && tier->bytes > 0)
		*ratio = (double)tier->logical_bytes / (double)tier->bytes;

	return 0;
}

static int see_rate(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_link *link = record;
	double *rates = arg;

	(void)bytes;
	if (link->busy_ns > 0)
		rates[link->link] =
			(double)link->bytes / MEASURE_GIB / ((double)link->busy_ns / 1e9);

	return 0;
}

/* Each slot has numbers of its own. */
static void fill_slots(const struct stream *s, uint64_t slots)
{
	struct kv kv;
	struct seed seed = {.state = 1};
	uint16_t *numbers = malloc(s->bytes);

	if (!numbers)
		exit(1);
	kv_enter(&kv, s->hbm, 0);
	for (uint64_t i = 0; i < slots; i++) {
		struct hbm_segment segment;
		place_block(s, i, &segment);
		kv_numbers_fill(&seed, numbers, s->bytes / sizeof(*numbers) / CHANNELS, CHANNELS,
				NUMBER_BF16, false);
		kv_write(&kv, hbm_region_address(s->region) + segment.offset, numbers, s->bytes);
	}

	kv_leave(&kv);
	free(numbers);
}

static void run_numbers(struct stream *s, const char *name, enum hbm_encoding encoding)
{
	const struct hbm_namespace_options options = {
		.model = "numbers", .block_bytes = s->bytes, .encoding = encoding};
	double stores[ROUNDS], loads[ROUNDS], ratio = 1, rates[HBM_LINKS] = {0};
	uint64_t *order = calloc(s->count, sizeof(*order));

	if (!order)
		exit(1);
	measure_check(s->hbm, hbm_namespace_open(s->hbm, &options, &s->ns), "namespace");
	for (uint64_t round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < s->count; i++)
			order[i] = i;
		stores[round] = (double)s->count / move_all(s, round, true, order);
		shuffle(order, s->count);
		loads[round] = (double)s->count / move_all(s, round, false, order);
		measure_check(s->hbm, hbm_query(s->hbm, HBM_QUERY_TIERS, see_nvme, &ratio),
			      "tiers");
		forget(s, round);
	}

	measure_check(s->hbm, hbm_query(s->hbm, HBM_QUERY_LINKS, see_rate, rates), "links");
	printf("%s_store %.1f blocks/s\n%s_load %.1f blocks/s\n%s_ratio %.3f\n", name,
	       measure_median(stores, 3), name, measure_median(loads, 3), name, ratio);
	printf("%s_encode %.3f GiB/s\n%s_decode %.3f GiB/s\n", name, rates[HBM_LINK_ENCODE], name,
	       rates[HBM_LINK_DECODE]);
	free(order);
}

static void bench_numbers(struct hbm *hbm, char **argv)
{
	struct stream s = {.hbm = hbm,
			   .bytes = strtoull(argv[0], NULL, 10),
			   .count = strtoull(argv[1], NULL, 10),
			   .depth = strtoull(argv[2], NULL, 10),
			   .batch = 1,
			   .segments = 1};

	s.layer = (s.depth * s.bytes + 2097151) / 2097152 * 2097152;
	s.region = make_region(hbm, s.layer, 2097152);
	struct hbm_range all = {s.region, 0, s.layer};
	measure_check(hbm, hbm_commit(hbm, &all, 1), "commit");
	fill_slots(&s, s.depth);
	run_numbers(&s, "raw", HBM_ENCODING_RAW);
	run_numbers(&s, "lossless", HBM_ENCODING_LOSSLESS);
}

/* ---- small requests ---- */

enum { SMALL = 32, SMALL_BYTES = 65536 };

enum small_way { SMALL_IN_TURN, SMALL_TOGETHER, SMALL_CORKED, SMALL_IN_ONE, SMALL_WAYS };

static void load_small(const struct stream *s, struct hbm_block *blocks, hbm_result *results,
		       enum small_way way)
{
	uint64_t each = way == SMALL_IN_ONE ? SMALL : 1;
	hbm_ticket tickets[SMALL];

	if (way == SMALL_CORKED)
		measure_check(s->hbm, hbm_cork(s->hbm), "cork");
	for (uint64_t i = 0; i < SMALL; i += each) {
		measure_check(s->hbm,
			      hbm_submit_load(s->hbm, s->ns, &blocks[i], each, NULL, &results[i],
					      &tickets[i]),
			      "submit");
		if (way == SMALL_IN_TURN)
			measure_check(s->hbm, hbm_wait(s->hbm, tickets[i], -1), "load");
	}

	if (way == SMALL_CORKED)
		measure_check(s->hbm, hbm_uncork(s->hbm), "uncork");
	for (uint64_t i = 0; i < SMALL && way != SMALL_IN_TURN; i += each)
		measure_check(s->hbm, hbm_wait(s->hbm, tickets[i], -1), "load");
	for (uint64_t i = 0; i < SMALL; i++)
		if (results[i].status != HBM_OK)
			measure_check(s->hbm, results[i].status, "a block");
}

/* SMALL loads of a block each: one after the other, all at once, corked, as one request. */
static void bench_small(struct hbm *hbm, char **argv)
{
	uint64_t count = strtoull(argv[0], NULL, 10);
	struct stream s = {.hbm = hbm, .ns = open_namespace(hbm, "small", SMALL_BYTES)};
	struct hbm_block blocks[SMALL];
	struct hbm_segment segments[SMALL];
	hbm_result results[SMALL];
	double times[SMALL_WAYS][ROUNDS];

	s.region = make_region(hbm, SMALL * SMALL_BYTES, 2097152);
	measure_check(hbm,
		      hbm_commit(hbm, &(struct hbm_range){s.region, 0, SMALL * SMALL_BYTES}, 1),
		      "commit");
	for (uint64_t i = 0; i < SMALL; i++) {
		segments[i] = (struct hbm_segment){s.region, i * SMALL_BYTES, SMALL_BYTES};
		blocks[i] = (struct hbm_block){
			.key = key_of(0, i), .segments = &segments[i], .segment_count = 1};
	}
	measure_check(hbm, hbm_store(hbm, s.ns, blocks, SMALL, results), "store");
	for (uint64_t i = 0; i < SMALL; i++)
		if (results[i].status != HBM_OK && results[i].status != HBM_EXISTS)
			measure_check(hbm, results[i].status, "a store");

	for (int round = 0; round < ROUNDS; round++)
		for (enum small_way way = 0; way < SMALL_WAYS; way++) {
			double start = measure_now();
			for (uint64_t i = 0; i < count; i++)
				load_small(&s, blocks, results, way);
			times[way][round] = (measure_now() - start) / (double)(count * SMALL) * 1e6;
		}

	printf("in_turn %.1f us\ntogether %.1f us\ncorked %.1f us\nin_one %.1f us\n",
	       measure_median(times[SMALL_IN_TURN], ROUNDS),
	       measure_median(times[SMALL_TOGETHER], ROUNDS),
	       measure_median(times[SMALL_CORKED], ROUNDS),
	       measure_median(times[SMALL_IN_ONE], ROUNDS));
}

/* ---- round trips ---- */

static double raw_ping(int fd, uint64_t count)
{
	struct hbm_wire_header header = {.size = sizeof(header)};
	double start = measure_now();

	for (uint64_t i = 0; i < count; i++)
		if (send(fd, &header, sizeof(header), 0) < 0 ||
		    recv(fd, &header, sizeof(header), 0) < 0)
			exit(1);

	return (measure_now() - start) / (double)count;
}

static void bench_ping(struct hbm *hbm, char **argv)
{
	uint64_t count = strtoull(argv[0], NULL, 10);
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		exit(1);

	pid_t peer = fork();
	if (peer == 0) {
		close(pair[0]);
		char message[256];
		for (ssize_t n; (n = recv(pair[1], message, sizeof(message), 0)) > 0;)
			if (send(pair[1], message, (size_t)n, 0) < 0)
				break;

		_exit(0);
	}

	close(pair[1]);
	double ours[ROUNDS], raw[ROUNDS], ratios[ROUNDS];
	for (int round = 0; round < ROUNDS; round++) {
		raw[round] = raw_ping(pair[0], count);
		double start = measure_now();
		for (uint64_t i = 0; i < count; i++)
			measure_check(hbm, hbm_ping(hbm), "ping");
		ours[round] = (measure_now() - start) / (double)count;
		ratios[round] = ours[round] / raw[round];
	}

	close(pair[0]);
	waitpid(peer, NULL, 0);
	printf("ping %.2f us\nraw %.2f us\nratio %.3f x\n", measure_median(ours, ROUNDS) * 1e6,
	       measure_median(raw, ROUNDS) * 1e6, measure_median(ratios, ROUNDS));
}

/* ---- memory ---- */

static void bench_commit(struct hbm *hbm, char **argv)
{
	uint64_t slab = strtoull(argv[0], NULL, 10), count = strtoull(argv[1], NULL, 10);
	struct hbm_region *region = make_region(hbm, slab * count, slab);
	struct hbm_range all = {region, 0, slab * count};
	double commits[ROUNDS], decommits[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		double start = measure_now();

		measure_check(hbm, hbm_commit(hbm, &all, 1), "commit");
		commits[round] = (measure_now() - start) / (double)count;
		start = measure_now();
		measure_check(hbm, hbm_decommit(hbm, &all, 1), "decommit");
		decommits[round] = (measure_now() - start) / (double)count;
		usleep(200000); /* the pool creates slabs ahead in the background */
	}

	double commit = measure_median(commits, ROUNDS);
	printf("commit %.2f us/slab\ncommit_rate %.2f GiB/s\ndecommit %.2f us/slab\n", commit * 1e6,
	       (double)slab / MEASURE_GIB / commit, measure_median(decommits, ROUNDS) * 1e6);
}

/* ---- lookups ---- */

static void store_chain(struct hbm *hbm, uint32_t ns, const hbm_key *keys, uint64_t length,
			uint64_t block_bytes)
{
	struct hbm_region *region = make_region(hbm, 2097152, 2097152);
	struct hbm_range all = {region, 0, 2097152};

	measure_check(hbm, hbm_commit(hbm, &all, 1), "commit");
	const struct hbm_segment segment = {region, 0, block_bytes};
	for (uint64_t i = 0; i < length; i++) {
		struct hbm_block block = {.key = keys[i], .segments = &segment, .segment_count = 1};
		if (i > 0)
			block.parent = keys[i - 1];
		measure_check(hbm, hbm_store(hbm, ns, &block, 1, NULL), "store");
	}
}

static void bench_lookup(struct hbm *hbm, char **argv)
{
	uint64_t length = strtoull(argv[0], NULL, 10), count = strtoull(argv[1], NULL, 10);
	hbm_key *keys = calloc(length, sizeof(*keys));
	if (!keys)
		exit(1);

	for (uint64_t i = 0; i < length; i++)
		keys[i] = key_of(length, i);
	uint32_t ns = open_namespace(hbm, "lookup", 4096);
	store_chain(hbm, ns, keys, length, 4096);
	double rates[ROUNDS];
	for (int round = 0; round < ROUNDS; round++) {
		double start = measure_now();
		struct hbm_lookup answer = {0, 0};

		for (uint64_t i = 0; i < count; i++)
			measure_check(hbm, hbm_lookup(hbm, ns, keys, length, &answer, NULL),
				      "lookup");
		if (answer.resident != length)
			exit(1);

		rates[round] = (double)(length * count) / (measure_now() - start);
	}

	printf("lookup %.3f Mkeys/s\n", measure_median(rates, ROUNDS) / 1e6);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		void (*run)(struct hbm *hbm, char **argv);
	} benches[] = {{"blocks", 5, bench_blocks}, {"numbers", 3, bench_numbers},
		       {"small", 1, bench_small},   {"ping", 1, bench_ping},
		       {"commit", 2, bench_commit}, {"lookup", 2, bench_lookup}};
	for (size_t i = 0; argc > 1 && i < sizeof(benches) / sizeof(benches[0]); i++) {
		if (strcmp(argv[1], benches[i].name) != 0 || argc != benches[i].arguments + 2)
			continue;

		struct hbm *hbm;
		int r = hbm_connect(&hbm, NULL);
		if (r != 0) {
			fprintf(stderr, "bench: no daemon: %s\n", hbm_strerror(r));
			return 1;
		}

		benches[i].run(hbm, argv + 2);
		hbm_close(hbm);

		return 0;
	}

	fprintf(stderr,
		"usage: bench_hbmd blocks BYTES COUNT DEPTH ROUNDS SEGMENTS | numbers BYTES "
		"COUNT DEPTH | small N | ping N | commit SLAB COUNT | lookup LENGTH N\n");
	return 2;
}
