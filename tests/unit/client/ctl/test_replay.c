/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replay worker against a played daemon: what it counts, that it stores chains with the
 * right parents and bytes, that it notices wrong ones and makes lost ones anew. The
 * library's calls and the device copies are played by this file; a device address is a
 * host address here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/block_key.h"
#include "client/ctl/content.h"
#include "client/ctl/copier.h"
#include "client/ctl/no_daemon.h"
#include "client/ctl/replay_worker.h"
#include "client/ctl/samples.h"
#include "client/ctl/tally.h"

#define BLOCK 4096
#define IDS 64 /* ids of the traces here are below */

struct hbm {
	struct hbm_info info;
};

struct hbm_region {
	unsigned char *memory;
	uint64_t bytes, slab;
};

struct copier {
	int error; /* of the next write */
};

static struct hbm the_connection = {.info = {.devices = 1, .driver = HBM_DRIVER_SOFT}};
static struct hbm_region the_region;
static struct copier the_copier;

/* The cache: by id. */
static struct {
	bool there[IDS];
	uint64_t parent[IDS]; /* id + 1; 0: none */
	unsigned char bytes[IDS][BLOCK];
	uint64_t flip;   /* id + 1 of a block whose next load comes back wrong */
	uint64_t lose;   /* id + 1 of a block that is gone when it is loaded next */
	uint64_t refuse; /* id + 1 of a block that no store takes */
	int store_status, connect_status, commit_status;
	size_t stores, loads, most_blocks;
} cache;

static uint64_t id_of(const hbm_key *key)
{
	for (uint64_t id = 0; id < IDS; id++) {
		hbm_key candidate = content_key(id);
		if (memcmp(key, &candidate, sizeof(*key)) == 0)
			return id;
	}

	fail_msg("a key of no block");
	return IDS;
}

int hbm_connect(struct hbm **out, const struct hbm_options *options)
{
	assert_false(options->inspect_only);
	if (cache.connect_status == 0)
		*out = &the_connection;
	return cache.connect_status;
}

struct hbm *hbm_close(struct hbm *hbm)
{
	if (hbm)
		free(the_region.memory);
	the_region.memory = NULL;
	return NULL;
}

const struct hbm_info *hbm_info(const struct hbm *hbm)
{
	return &hbm->info;
}

const char *hbm_strerror(int status)
{
	(void)status;
	return "a status";
}

const char *hbm_error(const struct hbm *hbm)
{
	assert_ptr_equal(hbm, &the_connection);
	return "detail";
}

int hbm_region_create(struct hbm *hbm, const struct hbm_region_options *options,
		      struct hbm_region **out)
{
	(void)hbm;
	uint64_t rounded =
		(options->address_space + options->slab - 1) / options->slab * options->slab;
	the_region = (struct hbm_region){calloc(1, rounded), rounded, options->slab};
	*out = &the_region;

	return 0;
}

uint64_t hbm_region_address(const struct hbm_region *region)
{
	return (uint64_t)(uintptr_t)region->memory;
}

uint64_t hbm_region_bytes(const struct hbm_region *region)
{
	return region->bytes;
}

int hbm_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	(void)hbm;
	assert_int_equal(count, 1);
	assert_int_equal(ranges->bytes, the_region.bytes);
	return cache.commit_status;
}

int hbm_namespace_open(struct hbm *hbm, const struct hbm_namespace_options *options, uint32_t *ns)
{
	(void)hbm;
	assert_int_equal(options->block_bytes, BLOCK);
	*ns = 5;
	return 0;
}

int hbm_lookup(struct hbm *hbm, uint32_t ns, const hbm_key *keys, size_t count,
	       struct hbm_lookup *answer, hbm_result *results)
{
	(void)hbm;
	assert_int_equal(ns, 5);
	*answer = (struct hbm_lookup){0};
	for (size_t i = 0; i < count; i++) {
		uint64_t id = id_of(&keys[i]);
		results[i] = (hbm_result){.status = cache.there[id] ? HBM_OK : HBM_MISS,
					  .tier = cache.there[id] ? (uint8_t)(1 + id % 3) : 0};
		answer->resident += answer->resident == i && cache.there[id];
	}

	return 0;
}

static unsigned char *memory_of(const struct hbm_block *block)
{
	assert_int_equal(block->segment_count, 1);
	assert_int_equal(block->segments->bytes, BLOCK);
	assert_in_range(block->segments->offset, 0, the_region.bytes - BLOCK);
	return block->segments->region->memory + block->segments->offset;
}

int hbm_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
	     hbm_result *results)
{
	(void)hbm;
	(void)ns;
	cache.loads++;

	for (size_t i = 0; i < count; i++) {
		uint64_t id = id_of(&blocks[i].key);
		if (cache.lose == id + 1)
			cache.there[id] = false;

		results[i].status = cache.there[id] ? HBM_OK : HBM_MISS;
		if (!cache.there[id])
			continue;

		memcpy(memory_of(&blocks[i]), cache.bytes[id], BLOCK);
		if (cache.flip == id + 1)
			memory_of(&blocks[i])[1234] ^= 1;
	}

	cache.lose = cache.flip = 0;

	return 0;
}

static uint8_t store_one(const struct hbm_block *block)
{
	static const hbm_key none;
	uint64_t id = id_of(&block->key);
	if (cache.there[id])
		return HBM_EXISTS;
	if (cache.refuse == id + 1)
		return HBM_NO_SPACE;

	bool root = memcmp(&block->parent, &none, sizeof(none)) == 0;
	cache.parent[id] = root ? 0 : id_of(&block->parent) + 1;
	memcpy(cache.bytes[id], memory_of(block), BLOCK);
	cache.there[id] = true;

	return HBM_OK;
}

int hbm_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
	      hbm_result *results)
{
	(void)hbm;
	(void)ns;
	cache.stores++;
	cache.most_blocks = count > cache.most_blocks ? count : cache.most_blocks;
	for (size_t i = 0; cache.store_status == 0 && i < count; i++)
		results[i].status = store_one(&blocks[i]);

	return cache.store_status;
}

int copier_open(struct copier **out, struct hbm *hbm, uint32_t device, char *error,
		size_t error_size)
{
	(void)error;
	(void)error_size;
	assert_ptr_equal(hbm, &the_connection);
	assert_int_equal(device, 0);
	*out = &the_copier;

	return 0;
}

struct copier *copier_close(struct copier *copier)
{
	(void)copier;
	return NULL;
}

int copier_enter(struct copier *copier)
{
	(void)copier;
	return 0;
}

int copier_write(struct copier *copier, uint64_t to, const void *from, size_t bytes)
{
	if (copier->error == 0)
		memcpy((void *)(uintptr_t)to, from, bytes);
	return copier->error;
}

int copier_read(struct copier *copier, void *to, uint64_t from, size_t bytes)
{
	(void)copier;
	memcpy(to, (const void *)(uintptr_t)from, bytes);
	return 0;
}

const char *copier_error(const struct copier *copier, int error)
{
	(void)copier;
	(void)error;
	return "CUDA_ERROR_PLAYED";
}

/* ---- Running a trace ---- */

static atomic_bool stop_flag;

struct trial {
	struct workload *workload;
	struct replay_plan plan;
	struct replay_worker *worker;
};

static int begin(void **state)
{
	(void)state;
	memset(&cache, 0, sizeof(cache));
	the_copier.error = 0;
	atomic_store(&stop_flag, false);
	return 0;
}

static void add(struct trial *trial, size_t count, const uint64_t *ids)
{
	struct workload *w = trial->workload;
	struct workload_request *request = &w->requests[w->request_count++];

	*request = (struct workload_request){.first = w->id_count, .count = count};
	if (count)
		memcpy(w->ids + w->id_count, ids, count * sizeof(*ids));

	w->id_count += count;
	w->longest = count > w->longest ? count : w->longest;
}
#define ADD(trial, ...)                                                                            \
	add(trial, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t),                     \
	    (const uint64_t[]){__VA_ARGS__})

static void prepare(struct trial *trial)
{
	static struct workload_request requests[16];
	static uint64_t ids[256];
	static struct workload workload;

	workload = (struct workload){.requests = requests, .ids = ids};
	*trial = (struct trial){.workload = &workload};
	trial->plan = (struct replay_plan){.workload = &workload,
					   .connect = {.socket = "/nowhere"},
					   .model = "replay",
					   .workers = 1,
					   .block_bytes = BLOCK,
					   .stop = &stop_flag};
}

static const struct tally *run(struct trial *trial, size_t window)
{
	char error[256] = "";

	trial->plan.window = window ? window : trial->workload->longest;
	assert_int_equal(replay_worker_open(&trial->worker, &trial->plan, 0, error, sizeof(error)),
			 0);
	replay_worker_run(trial->worker);

	return replay_worker_tally(trial->worker);
}

static void assert_cached_right(uint64_t id)
{
	hbm_key key = content_key(id);
	assert_true(cache.there[id]);
	assert_int_equal(content_compare(&key, BLOCK, cache.bytes[id]), CONTENT_SAME);
}

static void test_counts(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0, 1, 2, 3);
	ADD(&trial, 0, 1, 4);
	add(&trial, 0, NULL);
	ADD(&trial, 0, 1, 4, 5, 6);
	const struct tally *tally = run(&trial, 0);
	assert_string_equal(replay_worker_error(trial.worker), "");
	assert_int_equal(tally->requests, 4);
	assert_int_equal(tally->block_refs, 12);
	assert_int_equal(tally_hits(tally), 5);
	assert_int_equal(tally->hits[HBM_TIER_HBM], 2); /* id 0, twice */
	assert_int_equal(tally->hits[HBM_TIER_DDR], 3); /* ids 1, 1, 4 */
	assert_int_equal(tally->misses, 7);
	assert_int_equal(tally->bytes_loaded, 5 * BLOCK);
	assert_int_equal(tally->bytes_stored, 7 * BLOCK);
	assert_int_equal(tally->mismatches, 0);
	assert_int_equal(tally->late_misses, 0);
	assert_int_equal(tally->lookup.count, 3);
	assert_int_equal(cache.loads, 2);
	assert_int_equal(cache.stores, 3);
	assert_int_equal(trial.plan.requests_done, 4);
	for (uint64_t id = 0; id < 7; id++)
		assert_cached_right(id);
	assert_int_equal(cache.parent[0], 0);
	assert_int_equal(cache.parent[3], 2 + 1);
	assert_int_equal(cache.parent[4], 1 + 1);
	assert_int_equal(cache.parent[6], 5 + 1);
	replay_worker_close(trial.worker);
}

static void test_windows(void **state)
{
	(void)state;
	for (size_t window = 1; window <= 8; window++) {
		struct trial trial;

		begin(state);
		prepare(&trial);
		ADD(&trial, 0, 1, 2, 3, 4);
		ADD(&trial, 0, 1, 2, 3, 4, 5, 6);
		const struct tally *tally = run(&trial, window);
		assert_int_equal(tally_hits(tally), 5);
		assert_int_equal(tally->misses, 7);
		assert_int_equal(tally->mismatches, 0);
		assert_int_equal(tally->bytes_loaded, 5 * BLOCK);
		assert_int_equal(cache.most_blocks, window < 7 ? window : 7);

		for (uint64_t id = 0; id < 7; id++) {
			assert_cached_right(id);
			assert_int_equal(cache.parent[id], id);
		}

		replay_worker_close(trial.worker);
	}
}

static void test_wrong_bytes_are_noticed_once(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0, 1, 2);
	ADD(&trial, 0, 1, 2);
	ADD(&trial, 0, 1, 2);
	cache.flip = 1 + 1;
	FILE *terminal = stderr;
	char *said = NULL, line[256];
	size_t size = 0;
	stderr = open_memstream(&said, &size);
	const struct tally *tally = run(&trial, 0);
	fclose(stderr);
	stderr = terminal;
	hbm_key key = content_key(1);
	snprintf(line, sizeof(line), "hbmctl: block %s: wrong bytes from offset 1234 on\n",
		 block_key_text(&key).text);
	assert_int_equal(tally->mismatches, 1);
	assert_string_equal(said, line);
	free(said);
	replay_worker_close(trial.worker);
}

static void test_lost_blocks_are_stored_again(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0, 1, 2);
	ADD(&trial, 0, 1, 2, 3);
	cache.lose = 1 + 1;
	const struct tally *tally = run(&trial, 0);
	assert_int_equal(tally->late_misses, 1);
	assert_int_equal(tally_hits(tally), 3);
	assert_int_equal(tally->mismatches, 0);
	assert_int_equal(tally->bytes_stored, 5 * BLOCK);
	for (uint64_t id = 0; id < 4; id++)
		assert_cached_right(id);
	replay_worker_close(trial.worker);
}

static void test_refused_blocks_are_counted(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0, 1, 2);
	cache.refuse = 2 + 1;
	const struct tally *tally = run(&trial, 0);
	assert_int_equal(tally->not_stored, 1);
	assert_int_equal(tally->bytes_stored, 2 * BLOCK);
	replay_worker_close(trial.worker);
}

static void test_a_refused_request_ends_the_run(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0);
	ADD(&trial, 1);
	cache.store_status = HBM_NO_SPACE;
	const struct tally *tally = run(&trial, 0);
	assert_string_equal(replay_worker_error(trial.worker), "store: detail");
	assert_int_equal(tally->requests, 0);
	assert_true(atomic_load(&stop_flag));
	replay_worker_close(trial.worker);
}

static void test_a_failed_copy_ends_the_run(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0);
	the_copier.error = 999;
	run(&trial, 0);
	assert_string_equal(replay_worker_error(trial.worker),
			    "copy to the device: CUDA_ERROR_PLAYED");
	assert_int_equal(cache.stores, 0);
	replay_worker_close(trial.worker);
}

static void test_stop(void **state)
{
	(void)state;
	struct trial trial;
	prepare(&trial);
	ADD(&trial, 0);
	atomic_store(&stop_flag, true);
	assert_int_equal(run(&trial, 0)->requests, 0);
	assert_string_equal(replay_worker_error(trial.worker), "");
	replay_worker_close(trial.worker);
}

static void test_failures_to_open(void **state)
{
	(void)state;
	struct trial trial;
	char error[256] = "";
	prepare(&trial);
	ADD(&trial, 0);
	trial.plan.window = 1;
	cache.connect_status = -ENOENT;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(
		error,
		"no daemon at /nowhere (a status): is hbmd running? Start it, or name its socket "
		"with --socket");
	cache.connect_status = -EACCES;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(error,
			    "no access to /nowhere (a status): join its group or run as root");
	cache.connect_status = HBM_LIMIT;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(
		error,
		"refused by the daemon at /nowhere (a status): see [limits] in hbmd.conf(5)");
	cache.connect_status = -EPROTO;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(
		error,
		"no hbmd of this version at /nowhere (a status): compare hbmd --version and hbmctl "
		"version");
	cache.connect_status = -ENOMEM;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(error, "no connection to /nowhere (a status)");
	cache.connect_status = 0;
	cache.commit_status = HBM_NO_SPACE;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(error, "memory for the longest request (--window takes less): detail");
	trial.plan.device = 1;
	assert_int_equal(replay_worker_open(&trial.worker, &trial.plan, 0, error, sizeof(error)),
			 -1);
	assert_string_equal(error, "there is no device 1: the daemon has 1");
	assert_null(trial.worker);
	assert_null(replay_worker_close(NULL));
}

static void test_tallies_add_up(void **state)
{
	(void)state;
	struct tally sum = {0}, part = {.requests = 1,
					.hits = {0, 1, 2, 3},
					.misses = 4,
					.bytes_loaded = 5,
					.mismatches = 6};
	assert_int_equal(samples_add(&part.load, 10), 0);
	assert_int_equal(tally_merge(&sum, &part), 0);
	assert_int_equal(tally_merge(&sum, &part), 0);
	assert_int_equal(sum.requests, 2);
	assert_int_equal(tally_hits(&sum), 12);
	assert_int_equal(sum.misses, 8);
	assert_int_equal(sum.bytes_loaded, 10);
	assert_int_equal(sum.mismatches, 12);
	assert_int_equal(sum.load.count, 2);
	tally_clear(&sum);
	tally_clear(&part);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_counts, begin),
		cmocka_unit_test_setup(test_windows, begin),
		cmocka_unit_test_setup(test_wrong_bytes_are_noticed_once, begin),
		cmocka_unit_test_setup(test_lost_blocks_are_stored_again, begin),
		cmocka_unit_test_setup(test_refused_blocks_are_counted, begin),
		cmocka_unit_test_setup(test_a_refused_request_ends_the_run, begin),
		cmocka_unit_test_setup(test_a_failed_copy_ends_the_run, begin),
		cmocka_unit_test_setup(test_stop, begin),
		cmocka_unit_test_setup(test_failures_to_open, begin),
		cmocka_unit_test(test_tallies_add_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
