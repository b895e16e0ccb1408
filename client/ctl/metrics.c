/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics: see metrics.h. A metric is a member of a record that has a metric's name in
 * wire_records.h, read once for every record. Names end in the unit (_bytes, _seconds) and,
 * for counters, in _total, as Prometheus requires. Labels come from the record (which tier,
 * device or link) or from the member (one number for each tier).
 */
#include "client/ctl/metrics.h"
#include "client/ctl/ctl.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABELS_MAX 4
#define NS_PER_SECOND 1000000000
#define MS_PER_SECOND 1000

struct label {
	const char *name;
	char value[HBM_WIRE_NAME_BYTES + 1];
};

struct labels {
	size_t count;
	struct label label[LABELS_MAX];
};

/* One number of a member, as a metric. */
struct sample {
	struct labels labels;
	uint64_t value, divisor; /* value / divisor is in the unit */
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
	int length = device == HBM_DEVICE_HOST
			     ? snprintf(number, sizeof(number), "host")
			     : snprintf(number, sizeof(number), "%" PRIu32, device);
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

static void label_node(const void *record, struct labels *labels)
{
	const struct hbm_wire_node *node = record;
	char number[16];
	int length = snprintf(number, sizeof(number), "%" PRIu32, node->node);
	metrics_add_label(labels, "node", number, (size_t)length);
}

static void label_device(const void *record, struct labels *labels)
{
	const struct hbm_wire_device *device = record;
	label_device_number(labels, device->index);
	metrics_add_label(labels, "name", device->name, sizeof(device->name));
}

/* The records that have metrics, and what tells several of them apart. */
static const struct metric_set {
	enum hbm_wire_query_kind kind;
	void (*label)(const void *record, struct labels *labels); /* or NULL */
} sets[] = {
	{HBM_QUERY_STATUS, NULL},      {HBM_QUERY_TIERS, label_tier},
	{HBM_QUERY_LINKS, label_link}, {HBM_QUERY_DEVICES, label_device},
	{HBM_QUERY_NODES, label_node},
};
#define SET_COUNT (sizeof(sets) / sizeof(sets[0]))

static uint64_t metrics_divisor(enum form form)
{
	return form == FORM_MS ? MS_PER_SECOND : form == FORM_NS ? NS_PER_SECOND : 1;
}

static const char *metrics_type(const struct field *field)
{
	return field->figure == FIGURE_COUNTER ? "counter" : "gauge";
}

/* Whether the member is a figure for each tier instead of one. */
static bool metrics_is_by_tier(const struct field *field)
{
	return field->form == FORM_TIERS;
}

/* The index-th number of a member; false if it has fewer. */
static bool sample_get(const struct metric_set *set, const struct field *field, const void *record,
		       uint32_t index, struct sample *sample)
{
	uint32_t at = metrics_is_by_tier(field) ? HBM_TIER_HBM + index : index;
	if ((at + 1) * sizeof(sample->value) > field->bytes)
		return false;

	*sample = (struct sample){.divisor = metrics_divisor(field->form)};
	memcpy(&sample->value, (const char *)record + field->offset + at * sizeof(sample->value),
	       sizeof(sample->value));
	if (set->label)
		set->label(record, &sample->labels);
	if (field->form == FORM_TURNS)
		metrics_add_label(&sample->labels, "le", view_name(&view_turns, at),
				  HBM_WIRE_NAME_BYTES);
	if (metrics_is_by_tier(field))
		metrics_add_label(&sample->labels, "tier", view_name(&view_tiers, at),
				  HBM_WIRE_NAME_BYTES);

	return true;
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

static void metrics_print_sample(const struct field *field, const struct sample *sample)
{
	uint64_t value = sample->value, divisor = sample->divisor;

	fputs(field->metric, stdout);
	metrics_print_labels(&sample->labels);
	printf(" %" PRIu64, value / divisor);
	if (divisor > 1)
		printf(".%09" PRIu64, value % divisor * (NS_PER_SECOND / divisor));

	putchar('\n');
}

static json_t *metrics_sample_json(const struct field *field, const struct sample *sample)
{
	json_t *labels = json_object();
	for (size_t i = 0; i < sample->labels.count; i++) {
		const struct label *label = &sample->labels.label[i];
		json_object_set_new(labels, label->name,
				    view_json_text(label->value, sizeof(label->value)));
	}

	json_t *number = sample->divisor == 1
				 ? view_json_count(sample->value)
				 : json_real((double)sample->value / (double)sample->divisor);

	return json_pack("{s:s,s:s,s:o,s:o}", "name", field->metric, "type", metrics_type(field),
			 "labels", labels, "value", number);
}

/* All samples of a member: printed, or appended to an array. */
static void metrics_of_field(const struct metric_set *set, const struct field *field,
			     const struct query *records, json_t *array)
{
	struct sample sample;

	if (!array)
		printf("# HELP %s %s\n# TYPE %s %s\n", field->metric, field->help, field->metric,
		       metrics_type(field));

	for (size_t i = 0; i < records->count; i++) {
		const void *record = query_record(records, i);
		for (uint32_t k = 0; sample_get(set, field, record, k, &sample); k++) {
			if (array)
				json_array_append_new(array, metrics_sample_json(field, &sample));
			else
				metrics_print_sample(field, &sample);
		}
	}
}

static void metrics_of_all(const struct query *records, json_t *array)
{
	for (size_t s = 0; s < SET_COUNT; s++) {
		const struct record *type = record_of(sets[s].kind);
		for (size_t f = 0; f < type->count && records[s].count > 0; f++)
			if (*type->fields[f].metric)
				metrics_of_field(&sets[s], &type->fields[f], &records[s], array);
	}
}

/* Facts that are constant while a daemon runs, as labels of a constant 1. */
static void metrics_print_info(const void *status)
{
	const struct record *type = record_of(HBM_QUERY_STATUS);
	struct labels labels = {0};

	for (size_t f = 0; f < type->count; f++) {
		const struct field *field = &type->fields[f];
		if (field->figure == FIGURE_INFO && labels.count < LABELS_MAX)
			metrics_add_label(&labels, field->name,
					  (const char *)status + field->offset, field->bytes);
	}

	fputs("# HELP hbmd_info The daemon that answers.\n# TYPE hbmd_info gauge\nhbmd_info",
	      stdout);
	metrics_print_labels(&labels);
	puts(" 1");
}

static int metrics_show(const struct ctl *ctl, const struct query *records)
{
	if (ctl->json) {
		json_t *samples = json_array();
		metrics_of_all(records, samples);
		return ctl_print_json(json_pack("{s:o}", "metrics", samples));
	}

	if (records[0].count)
		metrics_print_info(records[0].records);
	metrics_of_all(records, NULL);

	return CTL_DONE;
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

	if (r == CTL_DONE)
		r = metrics_show(ctl, records);

	for (size_t s = 0; s < SET_COUNT; s++)
		query_clear(&records[s]);

	return r;
}
