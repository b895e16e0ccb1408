/* SPDX-License-Identifier: Apache-2.0 */
/* replay_worker: see replay_worker.h. Internally 0 is success and -1 a failure that
 * worker->error describes. */
#include "client/ctl/replay_worker.h"
#include "client/ctl/block_key.h"
#include "client/ctl/content.h"
#include "client/ctl/copier.h"
#include "client/ctl/ctl.h"
#include "client/ctl/no_daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS_MAX                                                                                   \
	((HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_keys)) / sizeof(struct hbm_wire_key))
#define STAGING_BYTES (1u << 20) /* copied back at once; at least one block */
#define SLAB_MIN (2ull << 20)
#define SLAB_MAX (SLAB_MIN << 9)
#define SLABS_WANTED 64    /* a larger region gets larger slabs */
#define MISMATCHES_SHOWN 4 /* by each worker */
#define NAP_NS 50000000    /* longest sleep between two looks at plan->stop */

struct replay_worker {
	struct replay_plan *plan;
	uint32_t index, ns;
	struct hbm *hbm;
	struct hbm_region *region;
	struct copier *copier;
	unsigned char *staging;
	size_t staging_blocks;
	/* for the current request */
	hbm_key *keys;
	hbm_result *found; /* of the lookup */
	size_t count, resident;
	/* for the current window, by slot of the region */
	struct hbm_segment *segments;
	struct hbm_block *blocks;
	hbm_result *results;
	bool *made_anew; /* loaded, but with wrong bytes */
	struct tally tally;
	char error[256];
};

__attribute__((format(printf, 2, 3))) static int
replay_worker_worker_fail(struct replay_worker *worker, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(worker->error, sizeof(worker->error), format, arguments);
	va_end(arguments);
	return -1;
}

static int replay_worker_refused(struct replay_worker *worker, const char *what, int status)
{
	const char *detail = hbm_error(worker->hbm);
	return replay_worker_worker_fail(worker, "%s: %s", what,
					 *detail ? detail : hbm_strerror(status));
}

static int replay_worker_out_of_memory(struct replay_worker *worker)
{
	return replay_worker_worker_fail(worker, "out of memory");
}

/* ---- Set up ---- */

static int replay_worker_connect_daemon(struct replay_worker *worker)
{
	char name[HBM_WIRE_NAME_BYTES];

	snprintf(name, sizeof(name), "replay %" PRIu32, worker->index);
	struct hbm_options options = worker->plan->connect;
	options.name = name;
	int status = hbm_connect(&worker->hbm, &options);
	if (status != 0) {
		no_daemon_text(worker->error, sizeof(worker->error), options.socket, status);
		return -1;
	}

	if (worker->plan->device >= hbm_info(worker->hbm)->devices)
		return replay_worker_worker_fail(
			worker, "there is no device %" PRIu32 ": the daemon has %" PRIu32,
			worker->plan->device, hbm_info(worker->hbm)->devices);

	return 0;
}

/* The smallest slab with which the region has no more than SLABS_WANTED: slabs are sent
 * as file descriptors. */
static uint64_t replay_worker_slab_for(uint64_t bytes)
{
	uint64_t slab = SLAB_MIN;
	while (slab < SLAB_MAX && bytes / slab > SLABS_WANTED)
		slab *= 2;
	return slab;
}

/* From one slot to the next: contents are made and compared in words. */
static uint64_t replay_worker_slot_bytes(const struct replay_worker *worker)
{
	return (worker->plan->block_bytes + 7) & ~UINT64_C(7);
}

static int replay_worker_get_region(struct replay_worker *worker)
{
	uint64_t bytes = worker->plan->window * replay_worker_slot_bytes(worker);
	struct hbm_region_options options = {.device = worker->plan->device,
					     .address_space = bytes,
					     .slab = replay_worker_slab_for(bytes)};
	int status = hbm_region_create(worker->hbm, &options, &worker->region);
	if (status != 0)
		return replay_worker_refused(worker, "a region for the requests", status);

	struct hbm_range all = {worker->region, 0, hbm_region_bytes(worker->region)};
	status = hbm_commit(worker->hbm, &all, 1);

	return status == 0 ? 0
			   : replay_worker_refused(
				     worker, "memory for the longest request (--window takes less)",
				     status);
}

static int replay_worker_open_namespace(struct replay_worker *worker)
{
	struct hbm_namespace_options options = {.model = worker->plan->model,
						.layout = "replay",
						.block_bytes = worker->plan->block_bytes};
	int status = hbm_namespace_open(worker->hbm, &options, &worker->ns);
	return status == 0 ? 0 : replay_worker_refused(worker, "namespace", status);
}

static int replay_worker_get_buffers(struct replay_worker *worker)
{
	const struct replay_plan *plan = worker->plan;
	size_t longest = plan->workload->longest;

	uint64_t slot = replay_worker_slot_bytes(worker);
	worker->staging_blocks = slot < STAGING_BYTES ? STAGING_BYTES / slot : 1;
	worker->staging = aligned_alloc(4096, (worker->staging_blocks * slot + 4095) / 4096 * 4096);
	worker->keys = calloc(longest + 1, sizeof(*worker->keys));
	worker->found = calloc(longest + 1, sizeof(*worker->found));
	worker->segments = calloc(plan->window, sizeof(*worker->segments));
	worker->blocks = calloc(plan->window, sizeof(*worker->blocks));
	worker->results = calloc(plan->window, sizeof(*worker->results));
	worker->made_anew = calloc(plan->window, sizeof(*worker->made_anew));
	if (!worker->staging || !worker->keys || !worker->found || !worker->segments ||
	    !worker->blocks || !worker->results || !worker->made_anew)
		return replay_worker_out_of_memory(worker);

	for (size_t i = 0; i < plan->window; i++)
		worker->segments[i] =
			(struct hbm_segment){worker->region, i * slot, plan->block_bytes};

	return 0;
}

static int replay_worker_get_copier(struct replay_worker *worker)
{
	return copier_open(&worker->copier, worker->hbm, worker->plan->device, worker->error,
			   sizeof(worker->error));
}

int replay_worker_open(struct replay_worker **out, struct replay_plan *plan, uint32_t index,
		       char *error, size_t error_size)
{
	struct replay_worker *worker = calloc(1, sizeof(*worker));
	if (!worker) {
		snprintf(error, error_size, "out of memory");
		return -1;
	}

	worker->plan = plan;
	worker->index = index;
	if (replay_worker_connect_daemon(worker) < 0 || replay_worker_open_namespace(worker) < 0 ||
	    replay_worker_get_region(worker) < 0 || replay_worker_get_copier(worker) < 0 ||
	    replay_worker_get_buffers(worker) < 0) {
		snprintf(error, error_size, "%s", worker->error);
		replay_worker_close(worker);
		return -1;
	}

	*out = worker;

	return 0;
}

struct replay_worker *replay_worker_close(struct replay_worker *worker)
{
	if (!worker)
		return NULL;

	copier_close(worker->copier);
	hbm_close(worker->hbm);
	free(worker->staging);
	free(worker->keys);
	free(worker->found);
	free(worker->segments);
	free(worker->blocks);
	free(worker->results);
	free(worker->made_anew);
	tally_clear(&worker->tally);
	free(worker);

	return NULL;
}

const struct tally *replay_worker_tally(const struct replay_worker *worker)
{
	return &worker->tally;
}

const char *replay_worker_error(const struct replay_worker *worker)
{
	return worker->error;
}

/* ---- One window of one request ---- */

/* Blocks [first, first + count) of the request are in slots [0, count) of the region. */

static uint64_t replay_worker_slot_address(const struct replay_worker *worker, size_t slot)
{
	return hbm_region_address(worker->region) + slot * replay_worker_slot_bytes(worker);
}

static int replay_worker_make_block(struct replay_worker *worker, const hbm_key *key, size_t slot)
{
	uint64_t bytes = worker->plan->block_bytes;
	content_fill(key, bytes, worker->staging);
	int r = copier_write(worker->copier, replay_worker_slot_address(worker, slot),
			     worker->staging, bytes);
	return r == 0 ? 0
		      : replay_worker_worker_fail(worker, "copy to the device: %s",
						  copier_error(worker->copier, r));
}

static void replay_worker_name_blocks(struct replay_worker *worker, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct hbm_block *block = &worker->blocks[i];
		*block = (struct hbm_block){.key = worker->keys[first + i],
					    .segments = &worker->segments[i],
					    .segment_count = 1};
		if (first + i > 0)
			block->parent = worker->keys[first + i - 1];
	}
}

static int replay_worker_load(struct replay_worker *worker, size_t count)
{
	uint64_t start = samples_clock_ns();
	int status = hbm_load(worker->hbm, worker->ns, worker->blocks, count, worker->results);
	uint64_t took = samples_clock_ns() - start;

	if (status != 0)
		return replay_worker_refused(worker, "load", status);

	for (size_t i = 0; i < count; i++) {
		bool loaded = worker->results[i].status == HBM_OK;
		worker->made_anew[i] = !loaded;
		worker->tally.late_misses += !loaded;
		worker->tally.bytes_loaded += loaded ? worker->plan->block_bytes : 0;
	}

	return samples_add(&worker->tally.load, took) < 0 ? replay_worker_out_of_memory(worker) : 0;
}

/* A block with wrong bytes is generated again, so that it is not stored under its key. It is
 * reported at once: this process may be killed before it ends. */
static void replay_worker_compare(struct replay_worker *worker, size_t slot, const void *bytes)
{
	const hbm_key *key = &worker->blocks[slot].key;

	if (worker->made_anew[slot])
		return;

	uint64_t offset = content_compare(key, worker->plan->block_bytes, bytes);
	if (offset == CONTENT_SAME)
		return;

	worker->made_anew[slot] = true;
	if (worker->tally.mismatches++ < MISMATCHES_SHOWN)
		ctl_fail("block %s: wrong bytes from offset %" PRIu64 " on",
			 block_key_text(key).text, offset);
}

static int replay_worker_compare_all(struct replay_worker *worker, size_t count)
{
	uint64_t bytes = replay_worker_slot_bytes(worker);
	for (size_t from = 0; from < count; from += worker->staging_blocks) {
		size_t n = count - from < worker->staging_blocks ? count - from
								 : worker->staging_blocks;
		int r = copier_read(worker->copier, worker->staging,
				    replay_worker_slot_address(worker, from), n * bytes);
		if (r != 0)
			return replay_worker_worker_fail(worker, "copy from the device: %s",
							 copier_error(worker->copier, r));

		for (size_t i = 0; i < n; i++)
			replay_worker_compare(worker, from + i, worker->staging + i * bytes);
	}

	return 0;
}

static int replay_worker_store(struct replay_worker *worker, size_t count)
{
	uint64_t start = samples_clock_ns();
	int status = hbm_store(worker->hbm, worker->ns, worker->blocks, count, worker->results);
	uint64_t took = samples_clock_ns() - start;

	if (status != 0)
		return replay_worker_refused(worker, "store", status);

	for (size_t i = 0; i < count; i++) {
		uint8_t ended = worker->results[i].status;
		worker->tally.bytes_stored += ended == HBM_OK ? worker->plan->block_bytes : 0;
		worker->tally.not_stored += ended != HBM_OK && ended != HBM_EXISTS;
	}

	return samples_add(&worker->tally.store, took) < 0 ? replay_worker_out_of_memory(worker)
							   : 0;
}

static int replay_worker_run_window(struct replay_worker *worker, size_t first, size_t count)
{
	size_t loaded = worker->resident > first ? worker->resident - first : 0;

	loaded = loaded < count ? loaded : count;
	replay_worker_name_blocks(worker, first, count);

	if (loaded && (replay_worker_load(worker, loaded) < 0 ||
		       replay_worker_compare_all(worker, loaded) < 0))
		return -1;

	for (size_t i = 0; i < count; i++) {
		bool needed = i >= loaded || worker->made_anew[i];
		if (needed && replay_worker_make_block(worker, &worker->blocks[i].key, i) < 0)
			return -1;
	}

	return replay_worker_store(worker, count);
}

/* ---- One request ---- */

/* The leading run, in as many messages as the keys need. */
static int replay_worker_look_up(struct replay_worker *worker)
{
	worker->resident = 0;
	for (size_t from = 0; from < worker->count && worker->resident == from; from += KEYS_MAX) {
		size_t count = worker->count - from < KEYS_MAX ? worker->count - from : KEYS_MAX;
		struct hbm_lookup answer;
		uint64_t start = samples_clock_ns();
		int status = hbm_lookup(worker->hbm, worker->ns, worker->keys + from, count,
					&answer, worker->found + from);
		uint64_t took = samples_clock_ns() - start;

		if (status != 0)
			return replay_worker_refused(worker, "lookup", status);

		worker->resident += answer.resident;
		if (samples_add(&worker->tally.lookup, took) < 0)
			return replay_worker_out_of_memory(worker);
	}

	return 0;
}

static void replay_worker_count_hits(struct replay_worker *worker)
{
	for (size_t i = 0; i < worker->resident; i++) {
		uint8_t tier = worker->found[i].tier;
		worker->tally.hits[tier < HBM_TIERS ? tier : HBM_TIER_NONE]++;
	}

	worker->tally.misses += worker->count - worker->resident;
	worker->tally.block_refs += worker->count;
	worker->tally.requests++;
}

static int replay_worker_run_request(struct replay_worker *worker,
				     const struct workload_request *request)
{
	const uint64_t *ids = worker->plan->workload->ids + request->first;

	worker->count = request->count;
	for (size_t i = 0; i < request->count; i++)
		worker->keys[i] = content_key(ids[i]);
	if (replay_worker_look_up(worker) < 0)
		return -1;

	for (size_t first = 0; first < request->count; first += worker->plan->window) {
		size_t left = request->count - first;
		if (replay_worker_run_window(
			    worker, first,
			    left < worker->plan->window ? left : worker->plan->window) < 0)
			return -1;
	}

	replay_worker_count_hits(worker);

	return 0;
}

/* ---- The run ---- */

static bool replay_worker_stopped(const struct replay_worker *worker)
{
	return atomic_load_explicit(worker->plan->stop, memory_order_relaxed);
}

/* Sleeps until the request is due, or the run is stopped. */
static void replay_worker_wait_for(const struct replay_worker *worker,
				   const struct workload_request *request)
{
	const struct replay_plan *plan = worker->plan;
	if (plan->speed <= 0)
		return;

	double after_ms = request->timestamp_ms - plan->workload->requests[0].timestamp_ms;
	double due = (double)plan->start_ns + after_ms * 1e6 / plan->speed;
	for (;;) {
		double left = due - (double)samples_clock_ns();
		if (left <= 0 || replay_worker_stopped(worker))
			return;
		struct timespec nap = {.tv_nsec = (long)(left < NAP_NS ? left : NAP_NS)};
		nanosleep(&nap, NULL);
	}
}

void replay_worker_run(struct replay_worker *worker)
{
	struct replay_plan *plan = worker->plan;
	int r = copier_enter(worker->copier);
	if (r != 0)
		replay_worker_worker_fail(worker, "device context: %s",
					  copier_error(worker->copier, r));

	for (size_t i = worker->index; r == 0 && i < plan->workload->request_count;
	     i += plan->workers) {
		const struct workload_request *request = &plan->workload->requests[i];

		replay_worker_wait_for(worker, request);
		if (replay_worker_stopped(worker))
			break;

		if (request->count > 0)
			r = replay_worker_run_request(worker, request);
		else
			worker->tally.requests++;

		if (r == 0)
			atomic_fetch_add_explicit(&plan->requests_done, 1, memory_order_relaxed);
	}

	if (r != 0)
		atomic_store(plan->stop, true);
}
