/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hbmctl reports at length: metrics as Prometheus wants them, trace, and replay with
 * a workload that it generated: the numbers of the JSON documents agree with each other,
 * with the text and with what was done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"
#include "tests/support/trace_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAMILIES 256u

/* ---- Metrics ---- */

struct family {
	char name[64];
	bool typed, counter;
	size_t samples;
};

/* The family that a line names after `skip` characters. */
static void family_name(const char *line, size_t skip, char name[64])
{
	size_t length = strcspn(line + skip, " {");
	assert_in_range(length, 1, 63);
	snprintf(name, 64, "%.*s", (int)length, line + skip);
}

static void take_sample(struct family *family, const char *line)
{
	char name[64], *end;

	family_name(line, 0, name);
	assert_string_equal(name, family->name); /* samples stand under their own family */
	assert_true(family->typed);
	const char *value = strrchr(line, ' ');
	assert_non_null(value);
	assert_int_equal(isdigit((unsigned char)value[1]) != 0, 1);
	assert_in_range(strtod(value, &end), 0, UINT64_MAX);
	assert_int_equal(*end, '\0');
	family->samples++;
}

/* One line of the text format; families are counted as their HELP comes. */
static void take_line(struct family *families, size_t *count, const char *line)
{
	char name[64];

	if (strncmp(line, "# HELP ", 7) == 0) {
		family_name(line, 7, name);
		for (size_t i = 0; i < *count; i++)
			assert_string_not_equal(families[i].name, name);
		assert_in_range(*count, 0, FAMILIES - 1);
		memcpy(families[(*count)++].name, name, sizeof(name));

		return;
	}

	assert_in_range(*count, 1, FAMILIES);
	struct family *family = &families[*count - 1];
	if (strncmp(line, "# TYPE ", 7) == 0) {
		family_name(line, 7, name);
		assert_string_equal(name, family->name);
		assert_false(family->typed);
		const char *type = line + 7 + strlen(name) + 1;
		family->typed = true;
		family->counter = strcmp(type, "counter") == 0;
		assert_string_equal(type, family->counter ? "counter" : "gauge");

		return;
	}

	take_sample(family, line);
}

static void test_metrics(void **state)
{
	(void)state;
	struct family families[FAMILIES] = {{.name = ""}};
	size_t count = 0, samples = 0;
	hbmctl_begin();
	hbmctl_expect("metrics", 0);
	hbmctl_expect_text("metrics", "\nhbmd_stored_blocks_total 4\n");
	hbmctl_expect_text("metrics", "\nhbmd_tier_blocks{tier=\"hbm\",device=\"0\"} 4\n");
	for (char *rest = hbmctl_output, *line; (line = strsep(&rest, "\n")) != NULL && rest;)
		take_line(families, &count, line);

	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(families[i].name);
		bool total = length > 6 && strcmp(families[i].name + length - 6, "_total") == 0;

		assert_int_equal(families[i].counter, total);
		assert_memory_equal(families[i].name, "hbmd_", 5);
		assert_in_range(families[i].samples, 1, HBM_LINKS);
		samples += families[i].samples;
	}

	json_t *document = hbmctl_json("metrics"), *sample;
	size_t index, found = 0;
	json_array_foreach(hbmctl_array(document, "metrics"), index, sample)
	{
		assert_int_equal(json_typeof(hbmctl_member(sample, "labels")), JSON_OBJECT);
		assert_int_equal(json_is_number(hbmctl_member(sample, "value")), 1);
		for (size_t i = 0; i < count; i++)
			found += strcmp(families[i].name, hbmctl_text(sample, "name")) == 0;
	}

	assert_int_equal(found, index);
	assert_int_equal(samples, index + 1); /* hbmd_info is only in the text */
	json_decref(document);
	hbmctl_finish();
}

/* ---- Trace ---- */

static void test_trace(void **state)
{
	(void)state;
	static const char *const links[] = {"d2d",  "d2h",    "h2d",    "nvme_write", "nvme_read",
					    "hash", "encode", "decode", "host"};
	spawn_start(&daemon_, NULL, NULL);
	hbmctl_expect("trace", 0);
	hbmctl_expect_text("trace", "nothing has moved yet\n");
	assert_int_equal(spawn_stop(&daemon_), 0);
	hbmctl_begin();
	hbmctl_expect("evict hbm all", 0);
	kv_await_moves(&hbmctl_kv);
	hbmctl_expect("trace --width 20", 0);
	/* rows of what has moved or might, an axis, an empty line, headers, links; the pieces */
	assert_int_equal(hbmctl_line_count(), 6 + 1 + 1 + 1 + HBM_LINKS + 1 + 1 + 2);
	hbmctl_expect_text("trace", "\nLINK  PIECES SINGLY ");
	hbmctl_expect_text("trace", "  BY THE LOOP\n");
	hbmctl_expect_text("trace", "\nLINK ");
	json_t *document = hbmctl_json("trace --width 20"), *link;
	size_t index;
	assert_int_equal(hbmctl_count(document, "slices"), 20);
	assert_in_range(hbmctl_count(document, "start_ns"), 1,
			hbmctl_count(document, "end_ns") - 1);
	assert_int_equal(json_array_size(hbmctl_array(document, "links")), HBM_LINKS);

	json_array_foreach(hbmctl_array(document, "links"), index, link)
	{
		/* stored, and read back for the checksum; then evicted, and compared */
		static const uint64_t moved[HBM_LINKS] = {1, 2, 0, 0, 0, 2};
		uint64_t times = moved[index];

		assert_string_equal(hbmctl_text(link, "link"), links[index]);
		assert_int_equal(json_array_size(hbmctl_array(link, "busy_share")), 20);
		assert_int_equal(hbmctl_count(link, "bytes"), times * HBMCTL_STORED * HBMCTL_BLOCK);
		assert_int_equal(hbmctl_count(link, "busy_ns") > 0, times > 0);
		assert_int_equal(hbmctl_count(link, "errors"), 0);
	}

	assert_in_range(json_array_size(hbmctl_array(document, "intervals")), 2, 5 * HBMCTL_STORED);
	json_decref(document);
	hbmctl_finish();
}

/* The figures of a link in `hbmctl trace`. */
static uint64_t traced(const char *command, enum hbm_link link, const char *figure)
{
	json_t *document = hbmctl_json(command);
	uint64_t value =
		hbmctl_count(json_array_get(hbmctl_array(document, "links"), link), figure);
	json_decref(document);
	return value;
}

/* Blocks are stored; more than a millisecond later they are evicted. */
static void test_trace_of_the_last(void **state)
{
	(void)state;
	const uint64_t bytes = HBMCTL_STORED * HBMCTL_BLOCK;
	hbmctl_begin();
	usleep(5000);
	hbmctl_expect("evict hbm all", 0);
	while (traced("trace", HBM_LINK_HASH, "bytes") < 2 * bytes)
		usleep(1000);

	assert_int_equal(traced("trace --last 3600000", HBM_LINK_D2D, "bytes"), bytes);
	assert_int_equal(traced("trace --last 3600000", HBM_LINK_D2H, "bytes"), 2 * bytes);
	assert_int_equal(traced("trace --last 3600000", HBM_LINK_D2D, "count"),
			 traced("trace", HBM_LINK_D2D, "count"));
	/* within a device all goes by batch; what is contiguous goes with a call of its own */
	assert_int_equal(traced("trace", HBM_LINK_D2D, "batch_bytes"), bytes);
	assert_int_equal(traced("trace", HBM_LINK_D2D, "single_pieces"), 0);
	assert_int_equal(traced("trace", HBM_LINK_D2H, "single_bytes") +
				 traced("trace", HBM_LINK_D2H, "batch_bytes"),
			 2 * bytes);
	assert_int_equal(traced("trace", HBM_LINK_D2H, "row_pieces"), 0);
	assert_int_equal(traced("trace", HBM_LINK_HASH, "single_pieces"), 0);
	assert_int_equal(traced("trace --last 1", HBM_LINK_D2D, "bytes"), 0);
	assert_int_equal(traced("trace --last 1", HBM_LINK_D2D, "count"), 0);
	assert_int_equal(traced("trace --last 1", HBM_LINK_D2D, "busy_ns"), 0);
	/* the last to be done: what came from the device is compared */
	assert_in_range(traced("trace --last 1", HBM_LINK_HASH, "bytes"), 1, 2 * bytes);
	assert_in_range(traced("trace --last 1", HBM_LINK_HASH, "busy_ns"), 1, 1000000);
	hbmctl_finish();
}

/* What has been written to NVMe, beside what was stored. */
static void test_written_for_each_byte(void **state)
{
	(void)state;
	hbmctl_begin();
	hbmctl_expect("tiers", 0);
	assert_null(strstr(hbmctl_output, "bytes a byte"));
	hbmctl_expect("evict hbm all", 0);
	hbmctl_expect("evict ddr all", 0);
	while (traced("trace", HBM_LINK_NVME_WRITE, "bytes") < HBMCTL_STORED * HBMCTL_BLOCK)
		usleep(1000);
	hbmctl_expect("tiers", 0);
	assert_non_null(strstr(hbmctl_output, " stored: 1.00 bytes a byte\n"));
	hbmctl_finish();
}

/* ---- Replay ---- */

static void write_file(char *path, size_t size, const char *text)
{
	snprintf(path, size, "%s/trace", daemon_.dir);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	assert_return_code(fputs(text, out), 0);
	assert_int_equal(fclose(out), 0);
}

static void expect_latencies(const json_t *document, const char *name)
{
	const json_t *latency = hbmctl_member(document, name);
	double p50 = hbmctl_real(latency, "p50"), p99 = hbmctl_real(latency, "p99"),
	       max = hbmctl_real(latency, "max");
	assert_int_equal(p50 > 0 && p50 <= p99 && p99 <= max, 1);
}

/* All required members; the blocks found. */
static uint64_t expect_replay(const json_t *document, const struct trace_file *trace)
{
	const json_t *hits = hbmctl_member(document, "hits");
	uint64_t found =
		hbmctl_count(hits, "hbm") + hbmctl_count(hits, "ddr") + hbmctl_count(hits, "nvme");

	assert_int_equal(hbmctl_count(document, "requests"), trace->request_count);
	assert_int_equal(hbmctl_count(document, "block_refs"), trace->starts[trace->request_count]);
	assert_int_equal(found + hbmctl_count(document, "misses"),
			 hbmctl_count(document, "block_refs"));
	assert_int_equal(hbmctl_count(document, "mismatches"), 0);
	assert_int_equal(hbmctl_count(document, "bytes_loaded"), found * HBMCTL_BLOCK);
	assert_int_equal(hbmctl_real(document, "elapsed_s") > 0, 1);
	double moved = hbmctl_real(document, "load_gib_s") * hbmctl_real(document, "elapsed_s");
	double loaded = (double)(found * HBMCTL_BLOCK) / (double)(1ull << 30);
	assert_int_equal(moved > loaded * 0.999 && moved < loaded * 1.001 + 1e-9, 1);
	assert_int_equal(hbmctl_real(document, "load_call_gib_s") > 0, found > 0);
	assert_int_equal(hbmctl_real(document, "store_gib_s") > 0,
			 hbmctl_count(document, "bytes_stored") > 0);
	expect_latencies(document, "lookup_us");
	expect_latencies(document, "load_us");
	expect_latencies(document, "store_us");

	return found;
}

static void test_replay(void **state)
{
	(void)state;
	char path[128], line[256];
	struct trace_file trace;
	hbmctl_expect("replay --generate users=3,turns=3,seed=5", 0);
	char *first = strdup(hbmctl_output);
	assert_non_null(first);
	hbmctl_expect("replay --generate=users=3,turns=3,seed=5", 0);
	assert_string_equal(hbmctl_output, first);
	write_file(path, sizeof(path), hbmctl_output);
	free(first);
	trace_file_read(&trace, path, 1000);
	assert_int_equal(trace.request_count, 9);
	spawn_start(&daemon_, NULL, NULL);
	unsigned fds = spawn_fds(&daemon_);
	snprintf(line, sizeof(line), "replay %s", path);
	json_t *document = hbmctl_json(line);
	uint64_t refs = hbmctl_count(document, "block_refs");
	assert_int_equal(refs - expect_replay(document, &trace),
			 trace.distinct); /* all fits: first uses miss */
	assert_int_equal(hbmctl_count(document, "bytes_stored"),
			 (uint64_t)trace.distinct * HBMCTL_BLOCK);
	json_decref(document);
	document = hbmctl_json(line);
	assert_int_equal(expect_replay(document, &trace), refs);
	assert_int_equal(hbmctl_count(document, "bytes_stored"), 0);
	json_decref(document);
	snprintf(line, sizeof(line), "replay %s --workers 2 --namespace other", path);
	document = hbmctl_json(line);
	expect_replay(document, &trace);
	assert_int_equal(hbmctl_count(document, "workers"), 2);
	json_decref(document);
	trace_file_free(&trace);
	snprintf(line, sizeof(line), "replay %s --limit 4", path);
	hbmctl_expect(line, 0);
	hbmctl_expect_text(line, ": blocks of 64 KiB, 1 worker, ");
	hbmctl_expect_text(line, "\nrequests ");
	hbmctl_expect_text(line, "\n  in nvme ");
	hbmctl_expect_text(line, "\nCALL ");
	stage_finish(fds);
}

static void test_replay_without_a_daemon(void **state)
{
	(void)state;
	char path[128], line[256];
	write_file(path, sizeof(path), "{\"timestamp\": 0, \"hash_ids\": [1]}\n");
	snprintf(line, sizeof(line), "replay %s", path);
	hbmctl_expect_refusal(line, 1, "no daemon at ");
}

static void test_replay_names_the_line_that_is_wrong(void **state)
{
	(void)state;
	static const char good[] = "{\"timestamp\": 0, \"hash_ids\": [1, 2]}\n";
	static const char *const wrong[] = {
		"{",
		"nonsense\n",
		"[1]\n",
		"{\"hash_ids\": [1]}\n",
		"{\"timestamp\": -1, \"hash_ids\": [1]}\n",
		"{\"timestamp\": 0}\n",
		"{\"timestamp\": 0, \"hash_ids\": 7}\n",
		"{\"timestamp\": 0, \"hash_ids\": [-1]}\n",
		"{\"timestamp\": 0, \"hash_ids\": [\"x\"]}\n",
		"{\"timestamp\": 0, \"input_length\": -1, \"hash_ids\": [1]}\n",
	};
	char path[128], line[256], text[256];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), "%s\n%s%s", good, good,
			 wrong[i]); /* the second line is blank */
		write_file(path, sizeof(path), text);
		snprintf(line, sizeof(line), "replay %s", path);
		hbmctl_expect_refusal(line, 1, "/trace, line 4: ");
	}

	write_file(path, sizeof(path), "\n");
	hbmctl_expect_refusal(line, 1, "holds no request");
	hbmctl_expect_refusal("replay /nonexistent/trace", 1, "/nonexistent/trace: No such file");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_metrics),
		TEST(test_trace),
		TEST(test_trace_of_the_last),
		TEST(test_written_for_each_byte),
		TEST(test_replay),
		TEST(test_replay_without_a_daemon),
		TEST(test_replay_names_the_line_that_is_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
