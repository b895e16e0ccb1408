/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_hostile: how long another client waits while one attacks. Each row has a daemon of
 * its own, an attack in a process of its own (tests/support/attack.h), and a victim that
 * does one thing at a time: PING, LOOKUP, LOAD of 64 KiB from HBM. "alone" is the victim
 * without an attack; "cpu" is beside a process that only computes, as much as the attacks'
 * process could: on two processors that is what no daemon can do anything about.
 *
 * 	bench_hostile [--attack NAME] [--sessions N] [--seconds S]
 *
 * Without options all attacks, each with one session and with many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_job.h"
#include "tests/support/measure.h"
#include "tests/support/victim.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETS 32
#define ROUNDS_MAX (1u << 20)
#define SECONDS 2.0

/* One kind of call: how long each took, in seconds. */
struct sample {
	double *times;
	size_t count;
};

struct bench {
	const struct attack *only; /* NULL: all */
	unsigned sessions;         /* 0: one, and many */
	double seconds;            /* of each row */
	struct sample ping, load;
	uint64_t from[HBM_TIERS]; /* where the blocks were */
	uint64_t long_turns;
};

static void sample_add(struct sample *sample, double seconds)
{
	if (sample->count < ROUNDS_MAX)
		sample->times[sample->count++] = seconds;
}

/* Median, 99th percentile and largest, in milliseconds. */
static void sample_print(const struct sample *sample)
{
	printf(" %8.3f | %8.3f | %8.3f |", measure_median(sample->times, sample->count) * 1e3,
	       measure_quantile(sample->times, sample->count, 0.99) * 1e3,
	       sample->times[sample->count - 1] * 1e3);
}

/* ---- One row ---- */

static void start_daemon(struct spawn *spawn, const struct attack *attack)
{
	const char *sets[SETS] = {"hbmd.log_level=warning", "soft.memory=1GiB",
				  "device.memory=768MiB",   "device.cache=64MiB",
				  "ddr.size=128MiB",        "ddr.staging=32MiB",
				  "nvme.size=256MiB"};
	size_t count = 7;

	for (const char *const *set = attack ? attack->sets : NULL; set && *set; set++)
		sets[count++] = *set;
	assert_in_range(count, 0, SETS - 1);
	spawn_start(spawn, sets, NULL);
}

static void measure(struct bench *bench, struct victim *victim)
{
	bench->ping.count = bench->load.count = 0;
	memset(bench->from, 0, sizeof(bench->from));

	for (double end = measure_now() + bench->seconds;
	     measure_now() < end || bench->ping.count == 0;) {
		struct victim_times times;
		victim_round(victim, &times);
		sample_add(&bench->ping, times.ping);
		sample_add(&bench->load, times.load);
		bench->from[times.tier]++;
	}
}

/* The tier that most blocks were loaded from. */
static const char *tier_name(const struct bench *bench)
{
	static const char *const names[HBM_TIERS] = {"none", "hbm", "ddr", "nvme"};
	size_t most = 0;

	for (size_t i = 0; i < HBM_TIERS; i++)
		if (bench->from[i] > bench->from[most])
			most = i;

	return names[most];
}

static pid_t spin(void)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid > 0)
		return pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (volatile uint64_t i = 0;; i++)
		;
}

static int keep_status(const void *record, size_t bytes, void *arg)
{
	memcpy(arg, record,
	       bytes < sizeof(struct hbm_wire_status) ? bytes : sizeof(struct hbm_wire_status));
	return 0;
}

/* Turns of the daemon's loop that took more than 1 ms. */
static uint64_t long_turns(const struct victim *victim)
{
	struct hbm_wire_status status = {0};

	assert_int_equal(hbm_query(victim->kv.hbm, HBM_QUERY_STATUS, keep_status, &status), 0);
	return status.turns[HBM_TURNS_ALL] - status.turns[HBM_TURNS_1MS];
}

static void row_print(const struct bench *bench, const char *name, unsigned sessions, double served)
{
	printf("| %-8s | %8u |", name, sessions);
	sample_print(&bench->ping);
	printf(" %4s |", tier_name(bench));
	sample_print(&bench->load);
	printf(" %9.0f | %10llu |\n", served, (unsigned long long)bench->long_turns);
	fflush(stdout);
}

/* The victim by itself, or beside a process that computes. */
static void row_without(struct bench *bench, const char *name, bool spins)
{
	struct spawn spawn;
	struct victim victim;

	spawn_init(&spawn);
	start_daemon(&spawn, NULL);
	victim_open(&victim, &spawn, 0);
	pid_t spinner = spins ? spin() : 0;
	uint64_t before = long_turns(&victim);
	measure(bench, &victim);
	bench->long_turns = long_turns(&victim) - before;
	if (spinner > 0) {
		kill(spinner, SIGKILL);
		waitpid(spinner, NULL, 0);
	}

	victim_close(&victim);
	row_print(bench, name, 0, 0);
	spawn_stop(&spawn);
	spawn_free(&spawn);
}

static void row(struct bench *bench, const struct attack *attack, unsigned sessions)
{
	struct attack_job job;
	struct spawn spawn;
	struct victim victim;

	spawn_init(&spawn);
	start_daemon(&spawn, attack);
	victim_open(&victim, &spawn, attack->victims_blocks[ATTACK_FULL]);
	attack_start(&job, attack, &spawn, sessions, ATTACK_FULL);

	uint64_t before = attack_served(&job);
	uint64_t turns = long_turns(&victim);
	double start = measure_now();
	measure(bench, &victim);
	bench->long_turns = long_turns(&victim) - turns;
	double took = measure_now() - start;
	uint64_t after = attack_served(&job);

	attack_end(&job);
	victim_close(&victim);
	row_print(bench, attack->name, sessions, (double)(after - before) / took);
	spawn_stop(&spawn);
	spawn_free(&spawn);
}

/* ---- All rows ---- */

static int usage(void)
{
	const struct attack *attack;

	fprintf(stderr, "usage: bench_hostile [--attack NAME] [--sessions N] [--seconds S]\n");
	for (unsigned n = 0; (attack = attack_at(n)) != NULL; n++)
		fprintf(stderr, "  %-9s %s\n", attack->name, attack->what);

	return 2;
}

static void rows(struct bench *bench)
{
	const struct attack *attack;

	printf("| attack   | sessions | PING p50 |  p99, ms |  max, ms | from | LOAD p50 |  p99, "
	       "ms "
	       "|  max, ms |  served/s | turns>1 ms |\n"
	       "| ---      |      --- |      --- |      --- |      --- | ---  |      --- |      "
	       "--- "
	       "|      --- |       --- |        --- |\n");
	row_without(bench, "alone", false);
	row_without(bench, "cpu", true);

	for (unsigned n = 0; (attack = attack_at(n)) != NULL; n++) {
		if (bench->only && attack != bench->only)
			continue;
		if (bench->sessions == 0)
			row(bench, attack, 1);
		row(bench, attack, bench->sessions ? bench->sessions : attack->many);
	}
}

static bool parse(struct bench *bench, int argc, char **argv)
{
	static const struct option options[] = {{"attack", required_argument, NULL, 'a'},
						{"sessions", required_argument, NULL, 'n'},
						{"seconds", required_argument, NULL, 's'},
						{NULL, 0, NULL, 0}};

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'a')
			bench->only = attack_find(optarg);
		else if (option == 'n')
			bench->sessions = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			bench->seconds = strtod(optarg, NULL);
		if (option == '?' || (option == 'a' && !bench->only))
			return false;
	}

	return optind == argc;
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"attack", attack_play}, {NULL, NULL}};
	struct bench bench = {
		.seconds = SECONDS,
		.ping = {.times = calloc(ROUNDS_MAX, sizeof(double))},
		.load = {.times = calloc(ROUNDS_MAX, sizeof(double))},
	};

	child_main(argc, argv, parts);
	assert_true(bench.ping.times && bench.load.times);
	bool good = parse(&bench, argc, argv);
	if (good)
		rows(&bench);
	free(bench.ping.times);
	free(bench.load.times);

	return good ? 0 : usage();
}
