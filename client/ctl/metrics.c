/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics: see metrics.h. Each kind of record has a table of metrics; a metric is one
 * member of the record, read once for every record. Names end in the unit (_bytes,
 * _seconds) and, for counters, in _total, as Prometheus requires. Labels come from
 * the record (which tier, device or link) or from the table (a member that is one of a
 * family).
 */
#include "client/ctl/metrics.h"
#include "client/ctl/ctl.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABELS_MAX 4

struct label {
	const char *name;
	char value[HBM_WIRE_NAME_BYTES + 1];
};

struct labels {
	size_t count;
	struct label label[LABELS_MAX];
};

struct metric {
	const char *name; /* NULL ends the table; metrics of one name stand together */
	const char *type; /* "gauge", "counter" */
	const char *help;
	size_t offset;    /* of a uint64_t */
	uint64_t divisor; /* converts the member to the unit; 1: none */
	const char *tier; /* a label for this member alone, or NULL */
};

struct metric_set {
	enum hbm_wire_query_kind kind;
	const struct metric *metrics;
	void (*label)(const void *record, struct labels *labels); /* or NULL */
};

#define GAUGE(record, member, name, help)                                                          \
	{                                                                                          \
		"hbmd_" name, "gauge", help, offsetof(record, member), 1, NULL                     \
	}
#define COUNTER(record, member, name, help)                                                        \
	{                                                                                          \
		"hbmd_" name, "counter", help, offsetof(record, member), 1, NULL                   \
	}
#define SECONDS(record, member, type, per_second, name, help)                                      \
	{                                                                                          \
		"hbmd_" name, type, help, offsetof(record, member), per_second, NULL               \
	}
#define HITS(member, tier)                                                                         \
	{                                                                                          \
		"hbmd_hits_total", "counter", "Blocks loaded, by the tier they belonged to.",      \
			offsetof(struct hbm_wire_status, hits[member]), 1, tier                    \
	}
#define METRICS_END                                                                                \
	{                                                                                          \
		NULL, NULL, NULL, 0, 0, NULL                                                       \
	}
#define NS_PER_SECOND 1000000000
#define MS_PER_SECOND 1000

static const struct metric status_metrics[] = {
	SECONDS(struct hbm_wire_status, uptime_ms, "gauge", MS_PER_SECOND, "uptime_seconds",
		"Time since start."),
	GAUGE(struct hbm_wire_status, sessions, "sessions", "Connected clients."),
	COUNTER(struct hbm_wire_status, sessions_total, "sessions_accepted_total",
		"Clients ever accepted."),
	COUNTER(struct hbm_wire_status, sessions_dropped, "sessions_dropped_total",
		"Clients disconnected for violating the protocol."),
	GAUGE(struct hbm_wire_status, regions, "regions", "Regions of all clients."),
	GAUGE(struct hbm_wire_status, namespaces, "namespaces", "Namespaces known."),
	GAUGE(struct hbm_wire_status, blocks, "blocks", "Blocks in the cache."),
	GAUGE(struct hbm_wire_status, blocks_max, "blocks_limit",
	      "Most blocks the index can hold."),
	GAUGE(struct hbm_wire_status, index_bytes, "index_bytes", "Memory of the index."),
	COUNTER(struct hbm_wire_status, requests, "requests_total", "Requests answered."),
	COUNTER(struct hbm_wire_status, refused, "requests_refused_total", "Requests refused."),
	COUNTER(struct hbm_wire_status, lookups, "lookups_total", "LOOKUP requests."),
	COUNTER(struct hbm_wire_status, lookup_keys, "lookup_keys_total", "Keys looked up."),
	COUNTER(struct hbm_wire_status, lookup_hits, "lookup_hits_total",
		"Keys looked up that were in the cache."),
	COUNTER(struct hbm_wire_status, lookup_misses, "lookup_misses_total",
		"Keys looked up that were not in the cache."),
	HITS(HBM_TIER_HBM, "hbm"),
	HITS(HBM_TIER_DDR, "ddr"),
	HITS(HBM_TIER_NVME, "nvme"),
	COUNTER(struct hbm_wire_status, late_misses, "late_misses_total",
		"Blocks of LOAD that had left the cache since the lookup."),
	COUNTER(struct hbm_wire_status, stores, "stores_total", "STORE requests."),
	COUNTER(struct hbm_wire_status, stored_blocks, "stored_blocks_total", "Blocks stored."),
	COUNTER(struct hbm_wire_status, stored_bytes, "stored_bytes_total", "Bytes stored."),
	COUNTER(struct hbm_wire_status, loads, "loads_total", "LOAD requests."),
	COUNTER(struct hbm_wire_status, loaded_blocks, "loaded_blocks_total", "Blocks loaded."),
	COUNTER(struct hbm_wire_status, loaded_bytes, "loaded_bytes_total", "Bytes loaded."),
	COUNTER(struct hbm_wire_status, evicted_blocks, "evicted_blocks_total",
		"Blocks evicted from the last tier."),
	COUNTER(struct hbm_wire_status, removed_blocks, "removed_blocks_total",
		"Blocks removed by request."),
	COUNTER(struct hbm_wire_status, checksum_failures, "checksum_failures_total",
		"Blocks dropped for a checksum mismatch."),
	COUNTER(struct hbm_wire_status, io_errors, "io_errors_total",
		"NVMe reads and writes that failed."),
	COUNTER(struct hbm_wire_status, device_errors, "device_errors_total",
		"Device calls that failed."),
	METRICS_END,
};

static const struct metric tier_metrics[] = {
	GAUGE(struct hbm_wire_tier, capacity, "tier_capacity_bytes",
	      "Configured size of the tier."),
	GAUGE(struct hbm_wire_tier, usable, "tier_online_bytes",
	      "Part of the capacity in service."),
	GAUGE(struct hbm_wire_tier, blocks, "tier_blocks", "Blocks whose target is the tier."),
	GAUGE(struct hbm_wire_tier, bytes, "tier_used_bytes", "Stored bytes of those blocks."),
	GAUGE(struct hbm_wire_tier, logical_bytes, "tier_logical_bytes",
	      "Logical bytes of those blocks."),
	GAUGE(struct hbm_wire_tier, placed, "tier_placed_bytes", "Bytes that hold a block."),
	GAUGE(struct hbm_wire_tier, moving, "tier_moving_bytes",
	      "Bytes that are the source or target of a transfer."),
	GAUGE(struct hbm_wire_tier, free, "tier_free_bytes", "Bytes that hold nothing."),
	GAUGE(struct hbm_wire_tier, pinned, "tier_pinned_bytes", "Bytes of pinned blocks."),
	GAUGE(struct hbm_wire_tier, headroom, "tier_headroom_bytes",
	      "Headroom beyond the capacity."),
	COUNTER(struct hbm_wire_tier, in_blocks, "tier_in_blocks_total", "Blocks moved in."),
	COUNTER(struct hbm_wire_tier, in_bytes, "tier_in_bytes_total", "Bytes moved in."),
	COUNTER(struct hbm_wire_tier, out_blocks, "tier_out_blocks_total", "Blocks moved out."),
	COUNTER(struct hbm_wire_tier, out_bytes, "tier_out_bytes_total", "Bytes moved out."),
	METRICS_END,
};

static const struct metric link_metrics[] = {
	COUNTER(struct hbm_wire_link, count, "link_movements_total", "Movements over the link."),
	COUNTER(struct hbm_wire_link, bytes, "link_bytes_total", "Bytes moved over the link."),
	SECONDS(struct hbm_wire_link, busy_ns, "counter", NS_PER_SECOND, "link_busy_seconds_total",
		"Time with at least one transfer in flight."),
	SECONDS(struct hbm_wire_link, overlapped_ns, "counter", NS_PER_SECOND,
		"link_overlapped_seconds_total",
		"Part of the busy time in which the other kind of link (device copies or NVMe) was "
		"busy too."),
	COUNTER(struct hbm_wire_link, errors, "link_errors_total", "Movements that failed."),
	METRICS_END,
};

static const struct metric device_metrics[] = {
	GAUGE(struct hbm_wire_device, total, "device_memory_bytes", "Memory of the device."),
	GAUGE(struct hbm_wire_device, memory, "device_owned_bytes", "Memory that hbmd owns."),
	GAUGE(struct hbm_wire_device, cache, "device_cache_bytes", "Of it, the HBM tier."),
	GAUGE(struct hbm_wire_device, headroom, "device_headroom_bytes",
	      "Of it, headroom of the block cache."),
	GAUGE(struct hbm_wire_device, regions, "device_regions_bytes",
	      "Of it, the pool of clients' regions."),
	GAUGE(struct hbm_wire_device, leased, "device_leased_bytes",
	      "Of the pool, in regions of live clients."),
	GAUGE(struct hbm_wire_device, quarantined, "device_quarantined_bytes",
	      "Of the pool, in regions of clients whose process may still run."),
	GAUGE(struct hbm_wire_device, retiring, "device_retiring_bytes",
	      "Of the pool, being released."),
	GAUGE(struct hbm_wire_device, ready, "device_ready_bytes", "Of the pool, created ahead."),
	GAUGE(struct hbm_wire_device, uncreated, "device_uncreated_bytes",
	      "Of the pool, not created."),
	GAUGE(struct hbm_wire_device, lost, "device_lost",
	      "1: lost to a sticky error until hbmd restarts."),
	METRICS_END,
};

static void metrics_add_label(struct labels *labels, const char *name, const char *value,
			      size_t length)
{
	struct label *label = &labels->label[labels->count++];
	label->name = name;
	snprintf(label->value, sizeof(label->value), "%.*s", (int)length, value);
}

static void label_device_number(struct labels *labels, uint32_t device)
{
	char number[16];
	int length = snprintf(number, sizeof(number), "%" PRIu32, device);
	metrics_add_label(labels, "device", number, (size_t)length);
}

static void label_tier(const void *record, struct labels *labels)
{
	const struct hbm_wire_tier *tier = record;
	metrics_add_label(labels, "tier", view_name(&view_tiers, tier->tier), HBM_WIRE_NAME_BYTES);
	if (tier->tier == HBM_TIER_HBM)
		label_device_number(labels, tier->device);
}

static void label_link(const void *record, struct labels *labels)
{
	const struct hbm_wire_link *link = record;
	metrics_add_label(labels, "link", view_name(&view_links, link->link), HBM_WIRE_NAME_BYTES);
}

static void label_device(const void *record, struct labels *labels)
{
	const struct hbm_wire_device *device = record;
	label_device_number(labels, device->index);
	metrics_add_label(labels, "name", device->name, sizeof(device->name));
}

static const struct metric_set sets[] = {
	{HBM_QUERY_STATUS, status_metrics, NULL},
	{HBM_QUERY_TIERS, tier_metrics, label_tier},
	{HBM_QUERY_LINKS, link_metrics, label_link},
	{HBM_QUERY_DEVICES, device_metrics, label_device},
};
#define SET_COUNT (sizeof(sets) / sizeof(sets[0]))

static void labels_of(const struct metric_set *set, const struct metric *metric, const void *record,
		      struct labels *labels)
{
	labels->count = 0;
	if (set->label)
		set->label(record, labels);
	if (metric->tier)
		metrics_add_label(labels, "tier", metric->tier, HBM_WIRE_NAME_BYTES);
}

static uint64_t metrics_value_of(const struct metric *metric, const void *record)
{
	uint64_t value;
	memcpy(&value, (const char *)record + metric->offset, sizeof(value));
	return value;
}

/* A label's value between quotes, escaped as the text format asks. */
static void metrics_print_label_value(const char *value)
{
	for (; *value; value++) {
		if (*value == '\n') {
			fputs("\\n", stdout);
			continue;
		}

		if (*value == '"' || *value == '\\')
			putchar('\\');
		putchar(*value);
	}
}

static void metrics_print_labels(const struct labels *labels)
{
	for (size_t i = 0; i < labels->count; i++) {
		printf("%s%s=\"", i == 0 ? "{" : ",", labels->label[i].name);
		metrics_print_label_value(labels->label[i].value);
		putchar('"');
	}
	if (labels->count > 0)
		putchar('}');
}

static void metrics_print_sample(const struct metric_set *set, const struct metric *metric,
				 const void *record)
{
	struct labels labels;

	labels_of(set, metric, record, &labels);
	fputs(metric->name, stdout);
	metrics_print_labels(&labels);
	uint64_t value = metrics_value_of(metric, record), divisor = metric->divisor;
	printf(" %" PRIu64, value / divisor);
	if (divisor > 1)
		printf(".%09" PRIu64, value % divisor * (NS_PER_SECOND / divisor));

	putchar('\n');
}

static void metrics_print_set(const struct metric_set *set, const struct query *records)
{
	const char *before = "";
	for (const struct metric *m = set->metrics; m->name; m++) {
		if (strcmp(before, m->name) != 0)
			printf("# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
		before = m->name;
		for (size_t i = 0; i < records->count; i++)
			metrics_print_sample(set, m, query_record(records, i));
	}
}

static json_t *metrics_sample_json(const struct metric_set *set, const struct metric *metric,
				   const void *record)
{
	struct labels labels;

	labels_of(set, metric, record, &labels);
	json_t *object = json_object();
	for (size_t i = 0; i < labels.count; i++)
		json_object_set_new(
			object, labels.label[i].name,
			view_json_text(labels.label[i].value, sizeof(labels.label[i].value)));

	uint64_t value = metrics_value_of(metric, record);
	json_t *number = metric->divisor == 1 ? view_json_count(value)
					      : json_real((double)value / (double)metric->divisor);

	return json_pack("{s:s,s:s,s:o,s:o}", "name", metric->name, "type", metric->type, "labels",
			 object, "value", number);
}

static json_t *metrics_all_json(const struct query *records)
{
	json_t *samples = json_array();
	for (size_t s = 0; s < SET_COUNT; s++) {
		for (const struct metric *m = sets[s].metrics; m->name; m++) {
			for (size_t i = 0; i < records[s].count; i++)
				json_array_append_new(
					samples, metrics_sample_json(&sets[s], m,
								     query_record(&records[s], i)));
		}
	}

	return json_pack("{s:o}", "metrics", samples);
}

/* Facts that are constant while a daemon runs, as labels of a constant 1. */
static void metrics_print_info(const struct hbm_wire_status *status)
{
	struct labels labels = {0};

	metrics_add_label(&labels, "version", status->version, sizeof(status->version));
	metrics_add_label(&labels, "driver", status->driver, sizeof(status->driver));
	metrics_add_label(&labels, "io", status->io, sizeof(status->io));
	metrics_add_label(&labels, "state", status->state, sizeof(status->state));
	fputs("# HELP hbmd_info The daemon that answers.\n# TYPE hbmd_info gauge\nhbmd_info",
	      stdout);
	metrics_print_labels(&labels);
	puts(" 1");
}

int metrics_run(struct ctl *ctl)
{
	struct query records[SET_COUNT] = {0};
	int r = ctl_connect(ctl);

	for (size_t s = 0; r == CTL_DONE && s < SET_COUNT; s++) {
		int status = query_all(ctl->hbm, sets[s].kind, &records[s]);
		if (status != 0)
			r = ctl_refused(ctl->hbm, "metrics", status);
	}

	if (r == CTL_DONE && ctl->json)
		r = ctl_print_json(metrics_all_json(records));
	else if (r == CTL_DONE) {
		if (records[0].count)
			metrics_print_info(records[0].records);
		for (size_t s = 0; s < SET_COUNT; s++)
			metrics_print_set(&sets[s], &records[s]);
	}

	for (size_t s = 0; s < SET_COUNT; s++)
		query_clear(&records[s]);

	return r;
}
