/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: see inspect.h. Most commands differ only in the kind of record. */
#include "client/ctl/inspect.h"
#include "client/ctl/ctl.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_NAMESPACE, BLOCKS_LIMIT };
const struct option_spec inspect_blocks_options[] = {
	[BLOCKS_NAMESPACE] = {"namespace", "N",
			      "show only the blocks of the namespace with this number"},
	[BLOCKS_LIMIT] = {"limit", "N", "show at most N blocks; default 0: all"},
	{NULL, NULL, NULL},
};

/* The record of that kind, as far as the daemon has sent it. */
static struct record inspect_sent(enum hbm_wire_query_kind kind, const struct query *query)
{
	struct record type = *record_of(kind);
	if (query->count > 0)
		type.bytes = query->sent_bytes;

	return type;
}

/* The one record of HBM_QUERY_STATUS. */
static int inspect_status_query(struct ctl *ctl, struct query *query)
{
	int r = query_all(ctl->hbm, HBM_QUERY_STATUS, query);
	if (r != 0)
		return ctl_refused(ctl->hbm, "status", r);
	if (query->count == 1)
		return CTL_DONE;

	query_clear(query);

	return ctl_fail("the daemon sent no status: compare hbmctl version");
}

/* For people: says so where the daemon shows only a part to this user, as it does of the
 * status. Whether there is more, it does not tell. */
static int inspect_note_part(struct ctl *ctl)
{
	struct query status;
	int r = inspect_status_query(ctl, &status);
	if (r != CTL_DONE)
		return r;

	if (status.sent_bytes <= offsetof(struct hbm_wire_status, sessions))
		fputs("hbmctl: what belongs to others is shown to uid 0 and the daemon's uid "
		      "only\n",
		      stderr);
	query_clear(&status);

	return CTL_DONE;
}

/* Shows all records of a kind: {"<name>": [...]}, or a table. */
static int inspect_show(struct ctl *ctl, enum hbm_wire_query_kind kind, const struct query *query)
{
	const struct record type = inspect_sent(kind, query);
	if (ctl->json)
		return ctl_print_json(json_pack("{s:o}", type.name, view_json_all(&type, query)));

	int r = ctl_printed(view_table(&type, query, stdout));

	return r == CTL_DONE ? inspect_note_part(ctl) : r;
}

static int inspect_query(struct ctl *ctl, enum hbm_wire_query_kind kind, struct query *query)
{
	int r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	r = query_all(ctl->hbm, kind, query);

	return r == 0 ? CTL_DONE : ctl_refused(ctl->hbm, record_of(kind)->name, r);
}

static int inspect_show_all(struct ctl *ctl, enum hbm_wire_query_kind kind)
{
	struct query query;
	int r = inspect_query(ctl, kind, &query);
	if (r != CTL_DONE)
		return r;

	r = inspect_show(ctl, kind, &query);
	query_clear(&query);

	return r;
}

static int inspect_show_status(struct ctl *ctl, const struct query *query)
{
	const struct record type = inspect_sent(HBM_QUERY_STATUS, query);
	if (ctl->json)
		return ctl_print_json(view_json(&type, query->records));

	int r = ctl_printed(view_list(&type, query->records, stdout));

	return r == CTL_DONE ? inspect_note_part(ctl) : r;
}

int inspect_status(struct ctl *ctl)
{
	struct query query;
	int r = ctl_connect(ctl);
	if (r == CTL_DONE)
		r = inspect_status_query(ctl, &query);
	if (r != CTL_DONE)
		return r;

	r = inspect_show_status(ctl, &query);
	query_clear(&query);

	return r;
}

int inspect_devices(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_DEVICES);
}

/* For people: what of all that was stored has been written to a disk. */
static int inspect_note_written(struct ctl *ctl, const struct query *tiers)
{
	uint64_t written = 0;
	struct query query;
	for (size_t i = 0; i < tiers->count; i++)
		written += ((const struct hbm_wire_tier *)query_record(tiers, i))->written_bytes;

	int r = inspect_status_query(ctl, &query);
	if (r != CTL_DONE)
		return r;

	uint64_t stored = ((const struct hbm_wire_status *)query_record(&query, 0))->stored_bytes;
	query_clear(&query);
	if (written == 0 || stored == 0)
		return CTL_DONE;

	int printed = printf("\n%s written to NVMe, %s stored: %.2f bytes a byte\n",
			     units_bytes(written).text, units_bytes(stored).text,
			     (double)written / (double)stored);

	return ctl_printed(printed < 0 ? -errno : 0);
}

static int inspect_show_tiers(struct ctl *ctl, const struct query *tiers, const struct query *nodes)
{
	const struct record tier = inspect_sent(HBM_QUERY_TIERS, tiers);
	const struct record node = inspect_sent(HBM_QUERY_NODES, nodes);

	if (ctl->json)
		return ctl_print_json(json_pack("{s:o, s:o}", tier.name,
						view_json_all(&tier, tiers), node.name,
						view_json_all(&node, nodes)));

	int r = ctl_printed(view_table(&tier, tiers, stdout));
	if (r == CTL_DONE && nodes->count > 0) {
		putchar('\n');
		r = ctl_printed(view_table(&node, nodes, stdout));
	}

	return r == CTL_DONE ? inspect_note_part(ctl) : r;
}

/* The nodes are for operators: for others there are none. */
int inspect_tiers(struct ctl *ctl)
{
	struct query tiers, nodes;
	int r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	r = query_all(ctl->hbm, HBM_QUERY_TIERS, &tiers);
	if (r != 0)
		return ctl_refused(ctl->hbm, "tiers", r);
	if (query_all(ctl->hbm, HBM_QUERY_NODES, &nodes) != 0)
		nodes = (struct query){0};

	r = inspect_show_tiers(ctl, &tiers, &nodes);
	if (r == CTL_DONE && !ctl->json)
		r = inspect_note_written(ctl, &tiers);
	query_clear(&tiers);
	query_clear(&nodes);

	return r;
}

int inspect_sessions(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_SESSIONS);
}

int inspect_regions(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_REGIONS);
}

/* Clients may write any number: the sums end at the highest. */
static void inspect_sum(uint64_t *sum, uint64_t number)
{
	*sum = number > UINT64_MAX - *sum ? UINT64_MAX : *sum + number;
}

/* The sums over all sequences. */
struct sequence_sums {
	uint64_t count, suspended_count, tokens, expected, own, shared, suspended;
};

static struct sequence_sums inspect_sum_sequences(const struct query *query)
{
	struct sequence_sums sums = {.count = query->count};

	for (size_t i = 0; i < query->count; i++) {
		const struct hbm_wire_sequence *sequence = query_record(query, i);

		sums.suspended_count += sequence->state == HBM_SEQUENCE_SUSPENDED;
		inspect_sum(&sums.tokens, sequence->tokens);
		inspect_sum(&sums.expected, sequence->expected);
		inspect_sum(&sums.own, sequence->own);
		inspect_sum(&sums.shared, sequence->shared);
		inspect_sum(&sums.suspended, sequence->suspended);
	}

	return sums;
}

static int inspect_sequences_json(const struct record *type, const struct query *query,
				  const struct sequence_sums *sums)
{
	json_t *object = json_pack(
		"{s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "sequences", view_json_count(sums->count),
		"suspended_sequences", view_json_count(sums->suspended_count), "tokens",
		view_json_count(sums->tokens), "expected", view_json_count(sums->expected), "own",
		view_json_count(sums->own), "shared", view_json_count(sums->shared), "suspended",
		view_json_count(sums->suspended));

	return ctl_print_json(
		json_pack("{s:o,s:o}", type->name, view_json_all(type, query), "sums", object));
}

static int inspect_show_sequences(struct ctl *ctl, const struct query *query)
{
	const struct record type = inspect_sent(HBM_QUERY_SEQUENCES, query);
	const struct sequence_sums sums = inspect_sum_sequences(query);

	if (ctl->json)
		return inspect_sequences_json(&type, query, &sums);

	int r = ctl_printed(view_table(&type, query, stdout));
	if (r != CTL_DONE)
		return r;

	if (query->count > 0)
		printf("\n%" PRIu64 " sequences, %" PRIu64 " suspended: %" PRIu64
		       " tokens, %" PRIu64 " expected; own %s, shared %s, suspended %s\n",
		       sums.count, sums.suspended_count, sums.tokens, sums.expected,
		       units_bytes(sums.own).text, units_bytes(sums.shared).text,
		       units_bytes(sums.suspended).text);

	return inspect_note_part(ctl);
}

int inspect_sequences(struct ctl *ctl)
{
	struct query query;
	int r = inspect_query(ctl, HBM_QUERY_SEQUENCES, &query);
	if (r != CTL_DONE)
		return r;

	r = inspect_show_sequences(ctl, &query);
	query_clear(&query);

	return r;
}

int inspect_namespaces(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_NAMESPACES);
}

static bool inspect_in_namespace(const void *record, const void *arg)
{
	const struct hbm_wire_block_info *block = record;
	const uint64_t *ns = arg;
	return *ns == 0 || block->ns == *ns;
}

int inspect_blocks(struct ctl *ctl)
{
	uint64_t ns = 0, limit = 0;
	int r = ctl_count(ctl, "--namespace", ctl->options.values[BLOCKS_NAMESPACE], &ns);
	if (r == CTL_DONE)
		r = ctl_count(ctl, "--limit", ctl->options.values[BLOCKS_LIMIT], &limit);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	struct query query;
	r = query_some(ctl->hbm, HBM_QUERY_BLOCKS, inspect_in_namespace, &ns, limit, &query);
	if (r != 0)
		return ctl_refused(ctl->hbm, "blocks", r);

	r = inspect_show(ctl, HBM_QUERY_BLOCKS, &query);
	query_clear(&query);

	return r;
}

int inspect_tenants(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_TENANTS);
}

int inspect_limits(struct ctl *ctl)
{
	return inspect_show_all(ctl, HBM_QUERY_LIMITS);
}

/* The version of the daemon; "": it does not answer. */
static int inspect_daemon_version(struct ctl *ctl, char *version, size_t size)
{
	struct hbm_options options = ctl_options(ctl, "hbmctl");

	options.inspect_only = true;
	*version = '\0';
	if (hbm_connect(&ctl->hbm, &options) != 0)
		return CTL_DONE;

	struct query query;
	int r = inspect_status_query(ctl, &query);
	if (r != CTL_DONE)
		return r;

	const struct hbm_wire_status *status = query.records;
	snprintf(version, size, "%.*s", (int)sizeof(status->version), status->version);
	query_clear(&query);

	return CTL_DONE;
}

int inspect_version(struct ctl *ctl)
{
	char version[sizeof(((struct hbm_wire_status *)NULL)->version) + 1];
	int r = inspect_daemon_version(ctl, version, sizeof(version));
	if (r != CTL_DONE)
		return r;

	if (ctl->json) {
		json_t *daemon = ctl->hbm ? view_json_text(version, sizeof(version)) : json_null();
		return ctl_print_json(
			json_pack("{s:s,s:o}", "hbmctl", HBM_VERSION, "hbmd", daemon));
	}

	printf("hbmctl %s\n", HBM_VERSION);
	if (ctl->hbm)
		printf("hbmd %s\n", version);

	return CTL_DONE;
}
