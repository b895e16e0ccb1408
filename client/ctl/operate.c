/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operate: see operate.h. Keys are sent in as many messages as they need. A lookup reports
 * the leading resident run, which may extend over messages: it continues only while every
 * key so far is resident.
 */
#include "client/ctl/operate.h"
#include "client/ctl/block_key.h"
#include "client/ctl/ctl.h"
#include "client/ctl/inspect.h"
#include "client/ctl/key_list.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Keys that fit in one message. */
#define KEYS_MAX                                                                                   \
	((HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_keys)) / sizeof(struct hbm_wire_key))

enum { EVICT_DEVICE };
const struct option_spec operate_evict_options[] = {
	[EVICT_DEVICE] = {"device", "D", "evict from the HBM tier of device D; default 0"},
	{NULL, NULL, NULL},
};

const struct option_spec operate_resize_options[] = {
	[EVICT_DEVICE] = {"device", "D", "resize the HBM tier of device D; default 0"},
	{NULL, NULL, NULL},
};

/* The blocks a command names, and the daemon's result for each. */
struct operation {
	uint32_t ns;
	hbm_key *keys;
	size_t count;
	hbm_result *results;
	uint64_t resident, load_ns; /* lookup */
};

static void operation_clear(struct operation *operation)
{
	free(operation->keys);
	free(operation->results);
}

/* Parses NAMESPACE KEY... and connects. */
static int operation_start(struct ctl *ctl, struct operation *operation)
{
	*operation = (struct operation){.count = ctl->word_count - 1};
	int r = key_list(ctl, ctl->words + 1, operation->count, &operation->keys);
	if (r != CTL_DONE)
		return r;

	operation->results = calloc(operation->count, sizeof(*operation->results));
	if (!operation->results)
		return ctl_fail("out of memory");

	r = ctl_connect(ctl);

	return r == CTL_DONE ? namespace_named(ctl, ctl->words[0], &operation->ns) : r;
}

static const char *operate_status_word(uint8_t status)
{
	const char *name = hbm_status_name(status);
	return name ? name : "unknown";
}

static json_t *operate_results_json(const struct operation *operation)
{
	json_t *array = json_array();
	for (size_t i = 0; i < operation->count; i++) {
		json_array_append_new(
			array,
			json_pack("{s:s,s:s,s:s}", "key", block_key_text(&operation->keys[i]).text,
				  "status", operate_status_word(operation->results[i].status),
				  "tier", view_name(&view_tiers, operation->results[i].tier)));
	}

	return array;
}

static int operate_results_table(char *const *words, const struct operation *operation)
{
	const struct table_column columns[] = {{"KEY", false}, {"STATUS", false}, {"TIER", false}};
	struct table *table = table_new(columns, 3);
	for (size_t i = 0; i < operation->count; i++) {
		table_cell(table, "%s", words[i]);
		table_cell(table, "%s", operate_status_word(operation->results[i].status));
		uint8_t tier = operation->results[i].tier;
		table_cell(table, "%s", tier == HBM_TIER_NONE ? "-" : view_name(&view_tiers, tier));
	}

	return ctl_printed(table_finish(table, stdout));
}

static int operate_look_up(struct ctl *ctl, struct operation *operation)
{
	bool unbroken = true;
	for (size_t from = 0; from < operation->count; from += KEYS_MAX) {
		size_t count =
			operation->count - from < KEYS_MAX ? operation->count - from : KEYS_MAX;
		struct hbm_lookup answer;
		int status = hbm_lookup(ctl->hbm, operation->ns, operation->keys + from, count,
					&answer, operation->results + from);
		if (status != 0)
			return ctl_refused(ctl->hbm, "lookup", status);

		if (unbroken) {
			operation->resident += answer.resident;
			operation->load_ns += answer.load_ns;
		}

		unbroken = unbroken && answer.resident == count;
	}

	return CTL_DONE;
}

static int operate_show_lookup(struct ctl *ctl, const struct operation *operation)
{
	if (ctl->json)
		return ctl_print_json(json_pack("{s:I,s:o,s:o,s:o}", "namespace",
						(json_int_t)operation->ns, "resident",
						view_json_count(operation->resident), "load_ns",
						view_json_count(operation->load_ns), "blocks",
						operate_results_json(operation)));

	int r = operate_results_table(ctl->words + 1, operation);
	printf("%" PRIu64 " of %zu from the front are resident; loading them would take about %s\n",
	       operation->resident, operation->count, units_duration_ns(operation->load_ns).text);
	return r;
}

int operate_lookup(struct ctl *ctl)
{
	struct operation operation;
	int r = operation_start(ctl, &operation);
	if (r == CTL_DONE)
		r = operate_look_up(ctl, &operation);
	if (r == CTL_DONE)
		r = operate_show_lookup(ctl, &operation);

	operation_clear(&operation);

	return r;
}

static int operate_change_pins(struct ctl *ctl, enum hbm_wire_opcode opcode,
			       struct operation *operation)
{
	for (size_t from = 0; from < operation->count; from += KEYS_MAX) {
		size_t count =
			operation->count - from < KEYS_MAX ? operation->count - from : KEYS_MAX;
		int status = hbm_keys(ctl->hbm, opcode, operation->ns, HBM_WIRE_KEEP,
				      operation->keys + from, count, operation->results + from);
		if (status != 0)
			return ctl_refused(ctl->hbm, ctl->command->name, status);
	}
	return CTL_DONE;
}

static int operate_show_pins(struct ctl *ctl, const struct operation *operation)
{
	size_t wrong = 0, first = 0;

	for (size_t i = operation->count; i-- > 0;) {
		bool refused = operation->results[i].status != HBM_OK;
		wrong += refused;
		first = refused ? i : first;
	}

	int r = ctl->json ? ctl_print_json(json_pack("{s:I,s:o}", "namespace",
						     (json_int_t)operation->ns, "blocks",
						     operate_results_json(operation)))
			  : operate_results_table(ctl->words + 1, operation);
	if (r == CTL_DONE && wrong)
		return ctl_fail("%s: %zu of %zu blocks were refused, the first being %s: %s",
				ctl->command->name, wrong, operation->count, ctl->words[1 + first],
				hbm_strerror(operation->results[first].status));

	return r;
}

static int operate_run_pins(struct ctl *ctl, enum hbm_wire_opcode opcode)
{
	struct operation operation;
	int r = operation_start(ctl, &operation);
	if (r == CTL_DONE)
		r = operate_change_pins(ctl, opcode, &operation);
	if (r == CTL_DONE)
		r = operate_show_pins(ctl, &operation);

	operation_clear(&operation);

	return r;
}

int operate_pin(struct ctl *ctl)
{
	return operate_run_pins(ctl, HBM_WIRE_PIN);
}

int operate_unpin(struct ctl *ctl)
{
	return operate_run_pins(ctl, HBM_WIRE_UNPIN);
}

/* ---- namespaces ---- */

/* A namespace, and what was dropped with it. */
struct dropped {
	uint32_t ns;
	struct hbm_amount amount;
};

/* All are found before any is dropped. */
static int operate_find_namespaces(struct ctl *ctl, struct dropped *found)
{
	int r = ctl_connect(ctl);
	for (size_t i = 1; r == CTL_DONE && i < ctl->word_count; i++)
		r = namespace_named(ctl, ctl->words[i], &found[i - 1].ns);
	return r;
}

static int operate_show_dropped(const struct ctl *ctl, const struct dropped *dropped, size_t count)
{
	struct hbm_amount all = {0, 0};
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		const struct hbm_amount *amount = &dropped[i].amount;
		all.blocks += amount->blocks;
		all.bytes += amount->bytes;
		json_array_append_new(array, json_integer(dropped[i].ns));
		if (!ctl->json)
			printf("dropped %" PRIu64 " blocks, %s, of namespace %" PRIu32 "\n",
			       amount->blocks, units_bytes(amount->bytes).text, dropped[i].ns);
	}

	json_t *document =
		json_pack("{s:o,s:o,s:o}", "dropped", array, "blocks", view_json_count(all.blocks),
			  "bytes", view_json_count(all.bytes));
	if (ctl->json)
		return ctl_print_json(document);

	json_decref(document);

	return CTL_DONE;
}

static int operate_drop(struct ctl *ctl)
{
	size_t count = ctl->word_count - 1;
	struct dropped *found = calloc(count, sizeof(*found));
	if (!found)
		return ctl_fail("out of memory");

	int r = operate_find_namespaces(ctl, found);
	for (size_t i = 0; r == CTL_DONE && i < count; i++) {
		int status = hbm_namespace_drop(ctl->hbm, found[i].ns, HBM_WIRE_PINNED,
						&found[i].amount);
		if (status != 0)
			r = ctl_refused(ctl->hbm, "namespaces drop", status);
	}

	if (r == CTL_DONE)
		r = operate_show_dropped(ctl, found, count);
	free(found);

	return r;
}

int operate_namespaces(struct ctl *ctl)
{
	if (ctl->word_count == 0)
		return inspect_namespaces(ctl);
	if (strcmp(ctl->words[0], "drop") != 0)
		return ctl_usage(ctl, "\"%s\" is unknown: expected drop", ctl->words[0]);
	if (ctl->word_count == 1)
		return ctl_usage(ctl, "drop takes at least one NAMESPACE");

	return operate_drop(ctl);
}

/* ---- sessions ---- */

static int operate_show_ended(const struct ctl *ctl, const uint64_t *sessions, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_array_append_new(array, view_json_count(sessions[i]));
		if (!ctl->json)
			printf("ended session %" PRIu64 "\n", sessions[i]);
	}

	json_t *document = json_pack("{s:o}", "ended", array);
	if (ctl->json)
		return ctl_print_json(document);

	json_decref(document);

	return CTL_DONE;
}

static int operate_end(struct ctl *ctl)
{
	size_t count = ctl->word_count - 1;
	uint64_t *sessions = calloc(count, sizeof(*sessions));
	if (!sessions)
		return ctl_fail("out of memory");

	int r = CTL_DONE;
	for (size_t i = 0; r == CTL_DONE && i < count; i++)
		r = ctl_count(ctl, "SESSION", ctl->words[i + 1], &sessions[i]);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);

	for (size_t i = 0; r == CTL_DONE && i < count; i++) {
		int status = hbm_session_end(ctl->hbm, sessions[i]);
		if (status != 0)
			r = ctl_refused(ctl->hbm, "sessions end", status);
	}

	if (r == CTL_DONE)
		r = operate_show_ended(ctl, sessions, count);
	free(sessions);

	return r;
}

int operate_sessions(struct ctl *ctl)
{
	if (ctl->word_count == 0)
		return inspect_sessions(ctl);
	if (strcmp(ctl->words[0], "end") != 0)
		return ctl_usage(ctl, "\"%s\" is unknown: expected end", ctl->words[0]);
	if (ctl->word_count == 1)
		return ctl_usage(ctl, "end takes at least one SESSION");

	return operate_end(ctl);
}

/* ---- evict ---- */

/* TIER and --device, which is the first option of both commands that have it. */
static int operate_tier(struct ctl *ctl, int *tier, uint64_t *device)
{
	*tier = view_index(&view_tiers, ctl->words[0]);
	if (*tier <= HBM_TIER_NONE)
		return ctl_usage(ctl, "\"%s\" is no tier: expected hbm, ddr or nvme",
				 ctl->words[0]);

	int r = ctl_count(ctl, "--device", ctl->options.values[EVICT_DEVICE], device);
	if (r == CTL_DONE && *device >= HBM_WIRE_DEVICES_MAX)
		return ctl_usage(ctl, "--device is %" PRIu64 ": expected less than %d", *device,
				 HBM_WIRE_DEVICES_MAX);

	return r;
}

/* UINT64_MAX stands for "all" on the wire too. */
static int operate_evict_words(struct ctl *ctl, int *tier, uint64_t *device, uint64_t *bytes)
{
	int r = operate_tier(ctl, tier, device);
	if (r != CTL_DONE || strcmp(ctl->words[1], "all") == 0)
		return r;

	return ctl_bytes(ctl, "SIZE", ctl->words[1], bytes);
}

int operate_resize(struct ctl *ctl)
{
	int tier;
	uint64_t device = 0, bytes;
	int r = operate_tier(ctl, &tier, &device);
	if (r == CTL_DONE)
		r = ctl_bytes(ctl, "SIZE", ctl->words[1], &bytes);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	int status = hbm_resize(ctl->hbm, (enum hbm_tier)tier, (uint32_t)device, bytes);
	if (status != 0)
		return ctl_refused(ctl->hbm, "resize", status);

	if (ctl->json)
		return ctl_print_json(json_pack("{s:s,s:I,s:o}", "tier", ctl->words[0], "device",
						(json_int_t)device, "bytes",
						view_json_count(bytes)));

	printf("%s has %s\n", ctl->words[0], units_bytes(bytes).text);

	return CTL_DONE;
}

int operate_evict(struct ctl *ctl)
{
	int tier;
	uint64_t device = 0, bytes = UINT64_MAX;
	int r = operate_evict_words(ctl, &tier, &device, &bytes);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	struct hbm_amount evicted;
	int status = hbm_evict(ctl->hbm, (enum hbm_tier)tier, (uint32_t)device, bytes, &evicted);
	if (status != 0)
		return ctl_refused(ctl->hbm, "evict", status);

	if (ctl->json)
		return ctl_print_json(json_pack("{s:s,s:I,s:o,s:o}", "tier", ctl->words[0],
						"device", (json_int_t)device, "blocks",
						view_json_count(evicted.blocks), "bytes",
						view_json_count(evicted.bytes)));

	printf("evicted %" PRIu64 " blocks, %s, from %s\n", evicted.blocks,
	       units_bytes(evicted.bytes).text, ctl->words[0]);

	return CTL_DONE;
}
