/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: see replay.h. The main thread reads the trace, sets up the workers, starts one
 * thread for each, shows the progress until all have ended, and reports. The first SIGINT
 * or SIGTERM lets every worker finish its current request and reports the results so far;
 * the second one kills the process.
 */
#include "client/ctl/replay.h"
#include "client/ctl/ctl.h"
#include "client/ctl/generate.h"
#include "client/ctl/progress.h"
#include "client/ctl/replay_report.h"
#include "client/ctl/replay_worker.h"
#include "client/ctl/units.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS_MAX 1024
#define BLOCK_MAX (1ull << 40)
#define LIMIT_NONE 0

enum {
	REPLAY_FORMAT,
	REPLAY_WORKERS,
	REPLAY_BLOCK_BYTES,
	REPLAY_LIMIT,
	REPLAY_SPEED,
	REPLAY_DEVICE,
	REPLAY_NAMESPACE,
	REPLAY_WINDOW,
	REPLAY_GENERATE,
};
const struct option_spec replay_options[] = {
	[REPLAY_FORMAT] = {"format", "NAME",
			   "read a trace of this format; default and only one: mooncake"},
	[REPLAY_WORKERS] = {"workers", "N",
			    "open N connections, each with a thread and a region; default 1"},
	[REPLAY_BLOCK_BYTES] = {"block-bytes", "SIZE", "use blocks of this size; default 64KiB"},
	[REPLAY_LIMIT] = {"limit", "N", "replay only the first N requests"},
	[REPLAY_SPEED] =
		{"speed", "max|Nx",
		 "replay as fast as possible, or N times as fast as recorded; default max"},
	[REPLAY_DEVICE] = {"device", "D", "use the memory of device D; default 0"},
	[REPLAY_NAMESPACE] = {"namespace", "NAME",
			      "use the namespace of this model; default replay"},
	[REPLAY_WINDOW] = {"window", "N",
			   "load and store N blocks at a time; default: the longest request"},
	[REPLAY_GENERATE] = {"generate", "SPEC",
			     "print a generated trace instead; needs no daemon"},
	{NULL, NULL, NULL},
};

const char replay_details[] =
	"TRACE has one request per line, {\"timestamp\": ms, \"hash_ids\": [...]}; - is stdin.\n"
	"For each request: look up its chain, load the blocks that are cached, compare every\n"
	"byte, store the others.\n"
	"Worker w runs requests w, w + N, ...; a single worker keeps the order of the trace.\n"
	"The exit status is 1 if a loaded byte differed from the stored one.\n"
	"\n"
	"SPEC is a list such as users=16,turns=4; \"default\" stands for all defaults:\n";

static atomic_bool stop, interrupted;

static void replay_on_signal(int number)
{
	(void)number;
	atomic_store(&interrupted, true);
	atomic_store(&stop, true);
}

static void replay_watch_signals(void)
{
	struct sigaction action = {.sa_handler = replay_on_signal, .sa_flags = (int)SA_RESETHAND};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* ---- The command line ---- */

/* "max", or a positive number and an x. */
static int replay_parse_speed(const struct ctl *ctl, const char *text, double *speed)
{
	char *end;

	if (!text || strcmp(text, "max") == 0)
		return CTL_DONE;

	double value = strtod(text, &end);
	if (end == text || strcmp(end, "x") != 0 || !(value > 0) || value > 1e9)
		return ctl_usage(
			ctl,
			"--speed is \"%s\": expected max, or a number and an x such as 1x or 10x",
			text);

	*speed = value;

	return CTL_DONE;
}

/* A whole number from least to most. */
static int replay_parse_count(const struct ctl *ctl, size_t option, uint64_t least, uint64_t most,
			      uint64_t *out)
{
	char name[32];
	uint64_t value = *out;

	snprintf(name, sizeof(name), "--%s", replay_options[option].name);
	int r = ctl_count(ctl, name, ctl->options.values[option], &value);
	if (r != CTL_DONE)
		return r;

	if (value < least || value > most)
		return ctl_usage(ctl, "%s is %" PRIu64 ": expected %" PRIu64 " to %" PRIu64, name,
				 value, least, most);

	*out = value;

	return CTL_DONE;
}

static int replay_parse_block_bytes(const struct ctl *ctl, uint64_t *bytes)
{
	int r = ctl_bytes(ctl, "--block-bytes", ctl->options.values[REPLAY_BLOCK_BYTES], bytes);
	if (r == CTL_DONE && (*bytes == 0 || *bytes > BLOCK_MAX))
		return ctl_usage(ctl, "--block-bytes is %" PRIu64 ": expected 1 to 1 TiB", *bytes);

	return r;
}

static int replay_parse(const struct ctl *ctl, struct replay_plan *plan, uint64_t *limit)
{
	uint64_t workers = 1, device = 0, window = REPLAY_WINDOW_MAX;
	const char *format = ctl->options.values[REPLAY_FORMAT],
		   *model = ctl->options.values[REPLAY_NAMESPACE];
	if (format && strcmp(format, "mooncake") != 0)
		return ctl_usage(ctl, "--format is \"%s\": there is only mooncake", format);

	plan->model = model ? model : "replay";
	if (strlen(plan->model) >= HBM_WIRE_NAME_BYTES)
		return ctl_usage(ctl, "--namespace is longer than %d bytes",
				 HBM_WIRE_NAME_BYTES - 1);

	plan->block_bytes = 64 << 10;
	int r = replay_parse_count(ctl, REPLAY_WORKERS, 1, WORKERS_MAX, &workers);
	r = r ? r : replay_parse_count(ctl, REPLAY_DEVICE, 0, HBM_WIRE_DEVICES_MAX - 1, &device);
	r = r ? r : replay_parse_count(ctl, REPLAY_WINDOW, 1, REPLAY_WINDOW_MAX, &window);
	r = r ? r : replay_parse_count(ctl, REPLAY_LIMIT, 0, SIZE_MAX, limit);
	r = r ? r : replay_parse_block_bytes(ctl, &plan->block_bytes);
	r = r ? r : replay_parse_speed(ctl, ctl->options.values[REPLAY_SPEED], &plan->speed);
	plan->workers = (uint32_t)workers;
	plan->device = (uint32_t)device;
	plan->window = (size_t)window;

	return r;
}

/* ---- The workload ---- */

static int replay_print_generated(const struct ctl *ctl)
{
	struct generate_spec spec;
	struct workload *workload;
	char error[256];

	if (ctl->word_count)
		return ctl_usage(ctl, "--generate makes a trace and takes none: leave out \"%s\"",
				 ctl->words[0]);

	if (generate_parse(ctl->options.values[REPLAY_GENERATE], &spec, error, sizeof(error)) < 0)
		return ctl_usage(ctl, "--generate: %s", error);
	if (generate(&spec, &workload) < 0)
		return ctl_fail("out of memory");

	for (size_t i = 0; i < workload->request_count; i++)
		workload_print(workload, &workload->requests[i], stdout);
	workload_free(workload);

	return CTL_DONE;
}

static int replay_read_trace(const char *path, uint64_t limit, struct workload **out)
{
	char error[512];
	bool standard = strcmp(path, "-") == 0;
	FILE *in = standard ? stdin : fopen(path, "re");
	if (!in)
		return ctl_fail("%s: %s", path, strerror(errno));

	int r = workload_read(in, standard ? "stdin" : path, (size_t)limit, out, error,
			      sizeof(error));
	if (!standard)
		fclose(in);

	return r == 0 ? CTL_DONE : ctl_fail("%s", error);
}

/* ---- The run ---- */

struct crew {
	struct replay_plan *plan;
	struct replay_worker **workers;
	pthread_t *threads;
	uint32_t opened, started;
	sem_t ended; /* posted by each worker */
};

struct start {
	struct crew *crew;
	struct replay_worker *worker;
};

static void *replay_worker_thread(void *arg)
{
	struct start start = *(struct start *)arg;
	free(arg);
	replay_worker_run(start.worker);
	sem_post(&start.crew->ended);
	return NULL;
}

static int replay_open_workers(struct crew *crew)
{
	char error[512];
	for (; crew->opened < crew->plan->workers; crew->opened++) {
		if (replay_worker_open(&crew->workers[crew->opened], crew->plan, crew->opened,
				       error, sizeof(error)) < 0)
			return ctl_fail("worker %" PRIu32 ": %s", crew->opened, error);
	}

	return CTL_DONE;
}

static int start_workers(struct crew *crew)
{
	for (; crew->started < crew->plan->workers; crew->started++) {
		struct start *start = malloc(sizeof(*start));
		if (!start)
			return ctl_fail("out of memory");

		*start = (struct start){crew, crew->workers[crew->started]};
		int r = pthread_create(&crew->threads[crew->started], NULL, replay_worker_thread,
				       start);
		if (r != 0) {
			free(start);
			return ctl_fail("a thread: %s", strerror(r));
		}
	}
	return CTL_DONE;
}

/* Waits for all started workers and draws the progress bar meanwhile. */
static void replay_await_workers(struct crew *crew)
{
	const struct replay_plan *plan = crew->plan;
	for (uint32_t ended = 0; ended < crew->started;) {
		uint64_t now = samples_clock_ns(), wake = now + 100000000;
		struct timespec until = {(time_t)(wake / 1000000000), (long)(wake % 1000000000)};
		if (sem_clockwait(&crew->ended, CLOCK_MONOTONIC, &until) == 0)
			ended++;
		progress_show(atomic_load(&plan->requests_done), plan->workload->request_count,
			      now - plan->start_ns);
	}

	for (uint32_t i = 0; i < crew->started; i++)
		pthread_join(crew->threads[i], NULL);
	progress_end();
}

static int replay_collect(struct crew *crew, struct tally *tally)
{
	int r = CTL_DONE;

	for (uint32_t i = 0; i < crew->started; i++) {
		const char *error = replay_worker_error(crew->workers[i]);
		if (*error)
			r = ctl_fail("worker %" PRIu32 ": %s", i, error);
		if (tally_merge(tally, replay_worker_tally(crew->workers[i])) < 0)
			return ctl_fail("out of memory");
	}

	samples_sort(&tally->lookup);
	samples_sort(&tally->load);
	samples_sort(&tally->store);

	return r;
}

static int replay_run_workers(struct crew *crew, struct replay_outcome *outcome)
{
	struct replay_plan *plan = crew->plan;

	crew->workers = calloc(plan->workers, sizeof(struct replay_worker *));
	crew->threads = calloc(plan->workers, sizeof(*crew->threads));
	if (!crew->workers || !crew->threads)
		return ctl_fail("out of memory");

	int r = replay_open_workers(crew);
	if (r != CTL_DONE)
		return r;

	replay_watch_signals();
	plan->start_ns = samples_clock_ns();
	r = start_workers(crew);
	if (r != CTL_DONE)
		atomic_store(&stop, true);

	replay_await_workers(crew);
	outcome->elapsed_ns = samples_clock_ns() - plan->start_ns;
	outcome->interrupted = atomic_load(&interrupted);
	int collected = replay_collect(crew, &outcome->tally);

	return r ? r : collected;
}

static void replay_close_workers(struct crew *crew)
{
	for (uint32_t i = 0; i < crew->opened; i++)
		replay_worker_close(crew->workers[i]);
	free(crew->workers);
	free(crew->threads);
	sem_destroy(&crew->ended);
}

/* The exit status of a run that completed. */
static int replay_exit_status(const struct replay_outcome *outcome)
{
	const struct tally *tally = &outcome->tally;

	if (tally->mismatches)
		return ctl_fail(
			"%" PRIu64
			" of the loaded blocks had wrong bytes: do not use this cache, and report "
			"it with the output of hbmctl status and verify",
			tally->mismatches);

	if (outcome->interrupted)
		return ctl_fail("interrupted after %" PRIu64 " of %zu requests", tally->requests,
				outcome->plan->workload->request_count);

	return CTL_DONE;
}

static int replay_command(struct ctl *ctl, struct replay_plan *plan, const char *trace)
{
	struct crew crew = {.plan = plan};
	struct replay_outcome outcome = {.trace = trace, .plan = plan};

	sem_init(&crew.ended, 0, 0);
	int r = replay_run_workers(&crew, &outcome);
	if (crew.started) {
		int printed = replay_report(ctl, &outcome);
		int verdict = replay_exit_status(&outcome);
		r = r ? r : printed ? printed : verdict;
	}

	replay_close_workers(&crew);
	tally_clear(&outcome.tally);

	return r;
}

int replay_run(struct ctl *ctl)
{
	struct replay_plan plan = {.connect = ctl_options(ctl, NULL), .stop = &stop};
	struct workload *workload = NULL;
	uint64_t limit = LIMIT_NONE;

	if (ctl->options.values[REPLAY_GENERATE])
		return replay_print_generated(ctl);
	if (ctl->word_count == 0)
		return ctl_usage(ctl, "replay needs a TRACE, - for stdin, or --generate SPEC");

	int r = replay_parse(ctl, &plan, &limit);
	if (r == CTL_DONE)
		r = replay_read_trace(ctl->words[0], limit, &workload);
	if (r != CTL_DONE)
		return r;

	plan.workload = workload;
	plan.window = plan.window < workload->longest ? plan.window : workload->longest;
	plan.window = plan.window ? plan.window : 1;
	r = replay_command(ctl, &plan, strcmp(ctl->words[0], "-") == 0 ? "stdin" : ctl->words[0]);
	workload_free(workload);

	return r;
}
