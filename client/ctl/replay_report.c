/* SPDX-License-Identifier: Apache-2.0 */
/* replay_report: see replay_report.h. */
#include "client/ctl/replay_report.h"
#include "client/ctl/table.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <math.h>

/* Microseconds with one decimal. */
static double replay_report_microseconds(uint64_t ns)
{
	return round((double)ns / 100.0) / 10.0;
}

static json_t *replay_report_latency_json(const struct samples *samples)
{
	return json_pack("{s:f,s:f,s:f}", "p50",
			 replay_report_microseconds(samples_percentile(samples, 50)), "p99",
			 replay_report_microseconds(samples_percentile(samples, 99)), "max",
			 replay_report_microseconds(samples_percentile(samples, 100)));
}

static int replay_report_put(json_t *document, const char *name, json_t *value)
{
	return json_object_set_new(document, name, value);
}

static int replay_report_put_count(json_t *document, const char *name, uint64_t count)
{
	return replay_report_put(document, name, json_integer((json_int_t)count));
}

static int replay_report_put_run(json_t *document, const struct replay_outcome *outcome)
{
	const struct replay_plan *plan = outcome->plan;
	return replay_report_put(document, "trace", view_json_text(outcome->trace, SIZE_MAX)) |
	       replay_report_put_count(document, "workers", plan->workers) |
	       replay_report_put_count(document, "device", plan->device) |
	       replay_report_put_count(document, "block_bytes", plan->block_bytes) |
	       replay_report_put_count(document, "window_blocks", plan->window) |
	       replay_report_put_count(document, "trace_requests", plan->workload->request_count) |
	       replay_report_put(document, "interrupted", json_boolean(outcome->interrupted)) |
	       replay_report_put(document, "elapsed_s",
				 json_real((double)outcome->elapsed_ns / 1e9));
}

static int replay_report_put_counts(json_t *document, const struct tally *tally)
{
	return replay_report_put_count(document, "requests", tally->requests) |
	       replay_report_put_count(document, "block_refs", tally->block_refs) |
	       replay_report_put(document, "hits", view_json_tiers(tally->hits)) |
	       replay_report_put_count(document, "misses", tally->misses) |
	       replay_report_put_count(document, "late_misses", tally->late_misses) |
	       replay_report_put_count(document, "not_stored", tally->not_stored) |
	       replay_report_put_count(document, "mismatches", tally->mismatches) |
	       replay_report_put_count(document, "bytes_loaded", tally->bytes_loaded) |
	       replay_report_put_count(document, "bytes_stored", tally->bytes_stored);
}

/* Bytes moved over the elapsed time, and over the time spent in calls. Only the former
 * includes concurrency of workers and the time between calls. */
static int replay_report_put_speeds(json_t *document, const struct tally *tally,
				    uint64_t elapsed_ns)
{
	return replay_report_put(document, "lookup_us",
				 replay_report_latency_json(&tally->lookup)) |
	       replay_report_put(document, "load_us", replay_report_latency_json(&tally->load)) |
	       replay_report_put(document, "store_us", replay_report_latency_json(&tally->store)) |
	       replay_report_put(document, "load_gib_s",
				 json_real(units_gib_s(tally->bytes_loaded, elapsed_ns))) |
	       replay_report_put(document, "store_gib_s",
				 json_real(units_gib_s(tally->bytes_stored, elapsed_ns))) |
	       replay_report_put(document, "load_call_gib_s",
				 json_real(units_gib_s(tally->bytes_loaded, tally->load.sum_ns))) |
	       replay_report_put(document, "store_call_gib_s",
				 json_real(units_gib_s(tally->bytes_stored, tally->store.sum_ns)));
}

static json_t *replay_report_outcome_json(const struct replay_outcome *outcome)
{
	json_t *document = json_object();
	if (replay_report_put_run(document, outcome) |
	    replay_report_put_counts(document, &outcome->tally) |
	    replay_report_put_speeds(document, &outcome->tally, outcome->elapsed_ns)) {
		json_decref(document);
		return NULL;
	}

	return document;
}

static void replay_report_count_row(struct table *table, const char *name, uint64_t count,
				    uint64_t whole)
{
	table_cell(table, "%s", name);
	table_cell(table, "%" PRIu64, count);
	table_cell(table, "%s", whole ? units_percent(count, whole).text : "");
}

static int replay_report_print_counts(const struct tally *tally)
{
	struct table *table = table_new(
		(const struct table_column[]){{NULL, false}, {NULL, true}, {NULL, true}}, 3);

	replay_report_count_row(table, "requests", tally->requests, 0);
	replay_report_count_row(table, "blocks", tally->block_refs, 0);
	replay_report_count_row(table, "hits", tally_hits(tally), tally->block_refs);
	replay_report_count_row(table, "  in hbm", tally->hits[HBM_TIER_HBM], tally->block_refs);
	replay_report_count_row(table, "  in ddr", tally->hits[HBM_TIER_DDR], tally->block_refs);
	replay_report_count_row(table, "  in nvme", tally->hits[HBM_TIER_NVME], tally->block_refs);
	replay_report_count_row(table, "misses", tally->misses, tally->block_refs);
	replay_report_count_row(table, "late misses", tally->late_misses, 0);
	replay_report_count_row(table, "not stored", tally->not_stored, 0);
	replay_report_count_row(table, "mismatches", tally->mismatches, 0);

	return table_finish(table, stdout);
}

static void replay_report_call_row(struct table *table, const char *name,
				   const struct samples *samples, uint64_t bytes)
{
	table_cell(table, "%s", name);
	table_cell(table, "%zu", samples->count);
	table_cell(table, "%s", units_duration_ns(samples_percentile(samples, 50)).text);
	table_cell(table, "%s", units_duration_ns(samples_percentile(samples, 99)).text);
	table_cell(table, "%s", units_duration_ns(samples_percentile(samples, 100)).text);
	table_cell(table, "%s", bytes ? units_bytes(bytes).text : "-");
	table_cell(table, "%s", bytes ? units_rate(bytes, samples->sum_ns).text : "-");
}

static int replay_report_print_calls(const struct tally *tally)
{
	static const struct table_column columns[] = {
		{"CALL", false},
		{"CALLS", true},
		{"P50", true},
		{"P99", true},
		{"MAX", true},
		{"BYTES", true},
		{"GiB/s IN CALLS", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	replay_report_call_row(table, "lookup", &tally->lookup, 0);
	replay_report_call_row(table, "load", &tally->load, tally->bytes_loaded);
	replay_report_call_row(table, "store", &tally->store, tally->bytes_stored);

	return table_finish(table, stdout);
}

int replay_report(const struct ctl *ctl, const struct replay_outcome *outcome)
{
	if (ctl->json)
		return ctl_print_json(replay_report_outcome_json(outcome));

	printf("%s: blocks of %s, %" PRIu32 " worker%s, %s\n\n", outcome->trace,
	       units_bytes(outcome->plan->block_bytes).text, outcome->plan->workers,
	       outcome->plan->workers == 1 ? "" : "s", units_duration_ns(outcome->elapsed_ns).text);
	int r = replay_report_print_counts(&outcome->tally);
	putchar('\n');

	return ctl_printed(r < 0 ? r : replay_report_print_calls(&outcome->tally));
}
