/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main job: a trace through all three tiers. The tiers of the daemon must hit exactly
 * what one list of their summed size would, tier by tier, and every byte that comes back
 * must be what went in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/lru_model.h"
#include "tests/support/stage.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACE "mooncake_conversation_trace.jsonl"
#define SMALL                                                                                      \
	"tests/data/traces/generated.jsonl" /* hbmctl replay --generate users=64,turns=5,seed=11 */
#define GENERATED "users=64,turns=8,seed=11"
#define OUTPUT (1u << 20)

static char output[OUTPUT];

/* ---- The trace ---- */

static void generate(char *path, size_t size)
{
	snprintf(path, size, "%s/trace", daemon_.dir);
	const char *arguments[] = {"replay", "--generate", GENERATED, NULL};
	assert_int_equal(spawn_hbmctl(&daemon_, arguments, output, OUTPUT), 0);
	assert_true(strlen(output) < OUTPUT - 1);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fputs(output, out) >= 0, 1);
	assert_int_equal(fclose(out), 0);
}

/* False: nobody says where the real one is, and path is that of a small one. */
static bool find_trace(char *path, size_t size)
{
	const char *dir = getenv("HBM_TRACE_DIR");

	if (dir) {
		snprintf(path, size, "%s/" TRACE, dir);
		if (access(path, R_OK) != 0)
			fail_msg("HBM_TRACE_DIR: cannot read %s", path);
		return true;
	}

	print_message("NOTE HBM_TRACE_DIR is not set: " SMALL " takes the place of " TRACE "\n");
	snprintf(path, size, "%s", SMALL);

	return false;
}

/* ---- The run ---- */

struct outcome {
	uint64_t refs, hbm, ddr, nvme, misses, mismatches, late_misses, not_stored;
};

static uint64_t member(json_t *document, const char *name)
{
	json_t *value = json_object_get(document, name);
	assert_true(json_is_integer(value));
	return (uint64_t)json_integer_value(value);
}

static void replay(const char *const *arguments, struct outcome *outcome)
{
	int status = spawn_hbmctl(&daemon_, arguments, output, OUTPUT);
	if (status != 0)
		print_error("hbmctl: %s\n", output);

	assert_int_equal(status, 0);
	json_error_t error;
	json_t *document = json_loads(output, 0, &error);
	assert_non_null(document);
	json_t *hits = json_object_get(document, "hits");
	*outcome = (struct outcome){.refs = member(document, "block_refs"),
				    .hbm = member(hits, "hbm"),
				    .ddr = member(hits, "ddr"),
				    .nvme = member(hits, "nvme"),
				    .misses = member(document, "misses"),
				    .mismatches = member(document, "mismatches"),
				    .late_misses = member(document, "late_misses"),
				    .not_stored = member(document, "not_stored")};
	json_decref(document);
	assert_int_equal(outcome->mismatches, 0);
	assert_int_equal(outcome->hbm + outcome->ddr + outcome->nvme + outcome->misses,
			 outcome->refs);
}

/* Replays the first `limit` requests by one worker and compares with the model at the
 * three summed capacities. */
static void replay_exactly(const char *path, size_t limit, uint64_t hbm, uint64_t ddr,
			   uint64_t nvme, struct outcome *outcome)
{
	char count[32];

	snprintf(count, sizeof(count), "%zu", limit);
	const char *arguments[] = {"--json", "replay", path, "--limit", count, NULL};
	struct trace_file trace;
	trace_file_read(&trace, path, limit);
	replay(arguments, outcome);
	assert_int_equal(outcome->refs, trace.starts[trace.request_count]);
	assert_int_equal(outcome->hbm, lru_model_hits(&trace, limit, hbm));
	assert_int_equal(outcome->hbm + outcome->ddr, lru_model_hits(&trace, limit, hbm + ddr));
	assert_int_equal(outcome->hbm + outcome->ddr + outcome->nvme,
			 lru_model_hits(&trace, limit, hbm + ddr + nvme));
	assert_int_equal(outcome->late_misses, 0);
	assert_int_equal(outcome->not_stored, 0);
	assert_true(outcome->nvme > 0);
	trace_file_free(&trace);
}

static void test_tiers_together_hit_what_one_list_hits(void **state)
{
	(void)state;
	static const char *const large[] = {"device.cache=16MiB", "ddr.size=240MiB",
					    "nvme.size=3840MiB", NULL};
	static const char *const small[] = {"device.cache=4MiB", "ddr.size=16MiB",
					    "nvme.size=64MiB", NULL};
	char path[512];
	struct outcome outcome;
	bool real = find_trace(path, sizeof(path));
	spawn_start(&daemon_, real ? large : small, NULL);
	unsigned fds = spawn_fds(&daemon_);

	if (real) {
		replay_exactly(path, 2000, 256, 3840, 61440, &outcome);
		assert_int_equal(outcome.refs, 54559);
		assert_int_equal(outcome.hbm, 2055);
		assert_int_equal(outcome.hbm + outcome.ddr, 5070);
		assert_int_equal(outcome.hbm + outcome.ddr + outcome.nvme, 15771);
	} else {
		replay_exactly(path, 320, 64, 256, 1024, &outcome);
	}

	stage_finish(fds);
}

static void test_without_io_uring(void **state)
{
	(void)state;
	static const char *const sets[] = {"hbmd.io=threads", "device.cache=4MiB", "ddr.size=16MiB",
					   "nvme.size=64MiB", NULL};
	char path[512];
	struct outcome outcome;
	generate(path, sizeof(path));
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	replay_exactly(path, 400, 64, 256, 1024, &outcome);
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	assert_string_equal(status.io, "threads");
	stage_finish(fds);
}

static json_t *nvme_tier(void)
{
	static const char *const arguments[] = {"--json", "tiers", NULL};
	assert_int_equal(spawn_hbmctl(&daemon_, arguments, output, OUTPUT), 0);
	json_t *document = json_loads(output, 0, NULL), *record;
	json_t *found = NULL;
	size_t i;

	json_array_foreach(json_object_get(document, "tiers"), i,
			   record) if (strcmp(json_string_value(json_object_get(record, "tier")),
					      "nvme") == 0) found = json_incref(record);

	assert_non_null(found);
	json_decref(document);

	return found;
}

/* Bytes written for a thousand that were stored; the hits are the model's. */
static uint64_t written_per_mille(const char *copies, uint64_t nvme_blocks, uint64_t *reused)
{
	const char *const sets[] = {"device.cache=4MiB", "ddr.size=16MiB", "nvme.size=64MiB",
				    "nvme.behind_ms=0",  copies,           NULL};
	char path[512];
	struct outcome outcome;
	struct hbm_wire_status status;
	generate(path, sizeof(path));
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	replay_exactly(path, 2000, 64, 256, nvme_blocks, &outcome);
	spawn_settle(&daemon_);
	spawn_status(&daemon_, &status);

	json_t *tier = nvme_tier();
	uint64_t written = member(tier, "written_bytes");
	*reused = member(tier, "reused_blocks");
	assert_int_equal(member(tier, "capacity"), nvme_blocks * 65536);
	json_decref(tier);
	assert_true(status.stored_bytes > 0);
	stage_finish(fds);

	return written * 1000 / status.stored_bytes;
}

/* Blocks that come up are not written again when they go down, and nothing else changes. */
static void test_nothing_is_written_twice(void **state)
{
	(void)state;
	uint64_t reused;

	assert_in_range(written_per_mille("nvme.copies=100%", 1024, &reused), 500, 1020);
	assert_true(reused > 100);
	spawn_forget_log(&daemon_);
	assert_int_equal(unlink(daemon_.nvme), 0); /* what is on it would be hits */
	assert_true(written_per_mille("nvme.copies=0", 1024, &reused) > 1100);
	assert_int_equal(reused, 0);
}

/* Fewer moves at once, single I/Os, little room to pass through: the same hits. */
static void test_with_little_headroom(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=4MiB", "device.headroom=1MiB",
					   "ddr.size=16MiB",    "ddr.headroom=1MiB",
					   "ddr.staging=1MiB",  "nvme.size=64MiB",
					   "nvme.depth=1",      "nvme.merge=64KiB",
					   "limits.moves=2",    NULL};
	char path[512];
	struct outcome outcome;
	generate(path, sizeof(path));
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	replay_exactly(path, 2000, 64, 256, 1024, &outcome);
	stage_finish(fds);
}

static void test_from_two_devices(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", "device.cache=4MiB", "ddr.size=16MiB",
					   "nvme.size=64MiB", NULL};
	char path[512];
	struct outcome outcome;
	generate(path, sizeof(path));
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);

	for (int round = 0; round < 4; round++) {
		const char *arguments[] = {"--json",
					   "replay",
					   path,
					   "--limit",
					   "100",
					   "--device",
					   round % 2 ? "1" : "0",
					   NULL};
		replay(arguments, &outcome);
		assert_true(round == 0 || outcome.hbm + outcome.ddr + outcome.nvme > 0);
	}

	stage_finish(fds);
}

static void test_by_several_workers(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=4MiB", "ddr.size=16MiB", "nvme.size=64MiB",
					   NULL};
	char path[512];
	struct outcome outcome;
	generate(path, sizeof(path));
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	const char *workers[] = {"2", "4"};
	for (size_t i = 0; i < 2; i++) {
		const char *arguments[] = {"--json", "replay", path, "--workers", workers[i], NULL};
		replay(arguments, &outcome);
		assert_true(outcome.nvme > 0);
	}

	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tiers_together_hit_what_one_list_hits,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_without_io_uring, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_written_twice, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_with_little_headroom, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_from_two_devices, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_by_several_workers, stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
