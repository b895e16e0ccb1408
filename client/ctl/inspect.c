/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect: see inspect.h. The tables of fields come first; most commands differ only in
 * them.
 */
#include "client/ctl/inspect.h"
#include "client/ctl/ctl.h"
#include "client/ctl/view.h"

#include <stdlib.h>
#include <string.h>

static const char *const session_states[] = {"live", "dead"};
static const struct view_names view_session_states = {2, session_states};

static const struct view_field status_fields[] = {
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_status, version, "version"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_status, state, "state"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_status, driver, "driver"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_status, io, "NVMe I/O"),
	VIEW_FIELD(VIEW_DIGEST, struct hbm_wire_status, boot_id, "boot id"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, pid, "pid"),
	VIEW_FIELD(VIEW_MS, struct hbm_wire_status, uptime_ms, "up for"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, sessions, "sessions"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, sessions_total, "sessions ever"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, sessions_dropped, "sessions dropped"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, regions, "regions"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, namespaces, "namespaces"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, blocks, "blocks"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, blocks_max, "blocks at most"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_status, index_bytes, "index"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, requests, "requests"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, refused, "refused"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, lookups, "lookups"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, lookup_keys, "keys looked up"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, lookup_hits, "lookup hits"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, lookup_misses, "lookup misses"),
	VIEW_FIELD(VIEW_TIERS, struct hbm_wire_status, hits, "blocks loaded from"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, late_misses, "late misses"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, stores, "stores"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, stored_blocks, "blocks stored"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_status, stored_bytes, "stored"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, loads, "loads"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, loaded_blocks, "blocks loaded"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_status, loaded_bytes, "loaded"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, evicted_blocks, "blocks evicted"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, removed_blocks, "blocks removed"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, checksum_failures, "checksum failures"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, io_errors, "I/O errors"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_status, device_errors, "device errors"),
	VIEW_END,
};

static const struct view_field device_fields[] = {
	VIEW_FIELD(VIEW_ID, struct hbm_wire_device, index, "DEVICE"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_device, name, "NAME"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, total, "TOTAL"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, memory, "OWNED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, cache, "CACHE"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, headroom, "HEADROOM"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, regions, "REGIONS"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, leased, "LEASED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, quarantined, "QUARANTINED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, retiring, "RETIRING"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, ready, "READY"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, uncreated, "UNCREATED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, slab, "SLAB"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_device, granularity, NULL),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_device, lost, "LOST"),
	VIEW_FIELD(VIEW_UUID, struct hbm_wire_device, uuid, "UUID"),
	VIEW_END,
};

static const struct view_field tier_fields[] = {
	{"pool", "TIER", VIEW_POOL, offsetof(struct hbm_wire_tier, tier), 2 * sizeof(uint32_t),
	 NULL},
	VIEW_FIELD_NAMED(struct hbm_wire_tier, tier, NULL, &view_tiers),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_tier, device, NULL),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, capacity, "CAPACITY"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, bytes, "USED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, logical_bytes, "LOGICAL"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_tier, blocks, "BLOCKS"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, placed, "PLACED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, moving, "MOVING"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, free, "FREE"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, pinned, "PINNED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, usable, "USABLE"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, headroom, "HEADROOM"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_tier, in_blocks, NULL),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, in_bytes, "IN"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_tier, out_blocks, NULL),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_tier, out_bytes, "OUT"),
	VIEW_END,
};

static const struct view_field session_fields[] = {
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_session, session, "SESSION"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_session, pid, "PID"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_session, uid, "UID"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_session, gid, "GID"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_session, name, "NAME"),
	VIEW_FIELD_NAMED(struct hbm_wire_session, state, "STATE", &view_session_states),
	VIEW_FIELD(VIEW_MS, struct hbm_wire_session, connected_ms, "CONNECTED"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_session, regions, "REGIONS"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_session, address_space, "ADDRESSES"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_session, leased, "LEASED"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_session, requests, "REQUESTS"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_session, in_flight, "IN FLIGHT"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_session, loaded_bytes, "LOADED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_session, stored_bytes, "STORED"),
	VIEW_END,
};

static const struct view_field region_fields[] = {
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_region, session, "SESSION"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_region, region, "REGION"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_region, device, "DEVICE"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_region, address_space, "ADDRESSES"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_region, committed, "COMMITTED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_region, slab, "SLAB"),
	VIEW_END,
};

static const struct view_field namespace_fields[] = {
	VIEW_FIELD(VIEW_ID, struct hbm_wire_namespace, ns, "NAMESPACE"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_namespace, model, "MODEL"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_namespace, layout, "LAYOUT"),
	VIEW_FIELD(VIEW_MARK, struct hbm_wire_namespace, weights, "WEIGHTS"),
	VIEW_FIELD(VIEW_BOOL, struct hbm_wire_namespace, salted, "SALTED"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_namespace, opens, "OPENS"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_namespace, block_bytes, "BLOCK"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_namespace, blocks, "BLOCKS"),
	VIEW_FIELD(VIEW_TIERS, struct hbm_wire_namespace, blocks_in, "IN"),
	VIEW_FIELD(VIEW_DIGEST, struct hbm_wire_namespace, fingerprint, NULL),
	VIEW_END,
};

static const struct view_field block_fields[] = {
	VIEW_FIELD(VIEW_ID, struct hbm_wire_block_info, ns, "NAMESPACE"),
	VIEW_FIELD(VIEW_DIGEST, struct hbm_wire_block_info, key, "KEY"),
	VIEW_FIELD(VIEW_DIGEST, struct hbm_wire_block_info, parent, "PARENT"),
	VIEW_FIELD_NAMED(struct hbm_wire_block_info, tier, "TIER", &view_tiers),
	VIEW_FIELD_NAMED(struct hbm_wire_block_info, place, "PLACE", &view_tiers),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_block_info, device, "DEVICE"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_block_info, offset, "OFFSET"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_block_info, bytes, "SIZE"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_block_info, children, "CHILDREN"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_block_info, pins, "PINS"),
	VIEW_FIELD(VIEW_ID, struct hbm_wire_block_info, readers, "READERS"),
	VIEW_FIELD(VIEW_BOOL, struct hbm_wire_block_info, checksummed, NULL),
	VIEW_FIELD(VIEW_HASH, struct hbm_wire_block_info, checksum, NULL),
	VIEW_END,
};

static const struct view_field account_fields[] = {
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_account, pool, "POOL"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_account, capacity, "CAPACITY"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_account, free, "FREE"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_account, placed, "PLACED"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_account, moving, "MOVING"),
	VIEW_FIELD(VIEW_BYTES, struct hbm_wire_account, quarantined, "QUARANTINED"),
	VIEW_FIELD(VIEW_BOOL, struct hbm_wire_account, balanced, "BALANCED"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_account, problem, "PROBLEM"),
	VIEW_END,
};

#define UNIT(name, value, text) [value] = text,
static const char *const units[] = {HBM_UNIT_LIST(UNIT)};
static const struct view_names view_units = {3, units};

static const struct view_field limit_fields[] = {
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_limit, name, "NAME"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_limit, limit, "LIMIT"),
	VIEW_FIELD_NAMED(struct hbm_wire_limit, unit, "UNIT", &view_units),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_limit, used, "USED"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_limit, highest, "BY ONE"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_limit, refused, "REFUSED"),
	VIEW_FIELD(VIEW_BOOL, struct hbm_wire_limit, balanced, "BALANCED"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_limit, problem, "PROBLEM"),
	VIEW_END,
};

static const struct view_field charge_fields[] = {
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_limit, name, "CHARGED AGAINST"),
	VIEW_FIELD(VIEW_COUNT, struct hbm_wire_limit, used, "USED"),
	VIEW_FIELD_NAMED(struct hbm_wire_limit, unit, "UNIT", &view_units),
	VIEW_FIELD(VIEW_BOOL, struct hbm_wire_limit, balanced, "BALANCED"),
	VIEW_FIELD(VIEW_TEXT, struct hbm_wire_limit, problem, "PROBLEM"),
	VIEW_END,
};

enum { BLOCKS_NAMESPACE, BLOCKS_LIMIT };
const struct option_spec inspect_blocks_options[] = {
	[BLOCKS_NAMESPACE] = {"namespace", "N",
			      "show only the blocks of the namespace with this number"},
	[BLOCKS_LIMIT] = {"limit", "N", "show at most N blocks; default 0: all"},
	{NULL, NULL, NULL},
};

/* Shows all records of a kind: {"<name>": [...]}, or a table. */
static int inspect_show(struct ctl *ctl, const char *name, const struct view_field *fields,
			const struct query *query)
{
	if (ctl->json)
		return ctl_print_json(json_pack("{s:o}", name, view_json_all(fields, query)));
	return ctl_printed(view_table(fields, query, stdout));
}

static int inspect_show_all(struct ctl *ctl, const char *name, enum hbm_wire_query_kind kind,
			    const struct view_field *fields)
{
	struct query query;
	int r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	r = query_all(ctl->hbm, kind, &query);
	if (r != 0)
		return ctl_refused(ctl->hbm, name, r);

	r = inspect_show(ctl, name, fields, &query);
	query_clear(&query);

	return r;
}

/* The one record of HBM_QUERY_STATUS. */
static int inspect_status_get(struct ctl *ctl, struct hbm_wire_status *status)
{
	struct query query;
	int r = query_all(ctl->hbm, HBM_QUERY_STATUS, &query);
	if (r != 0)
		return ctl_refused(ctl->hbm, "status", r);

	bool found = query.count == 1;
	if (found)
		memcpy(status, query.records, sizeof(*status));

	query_clear(&query);

	return found ? CTL_DONE : ctl_fail("the daemon sent no status: compare hbmctl version");
}

int inspect_status(struct ctl *ctl)
{
	struct hbm_wire_status status;
	int r = ctl_connect(ctl);
	if (r == CTL_DONE)
		r = inspect_status_get(ctl, &status);
	if (r != CTL_DONE)
		return r;
	if (ctl->json)
		return ctl_print_json(view_json(status_fields, &status));

	return ctl_printed(view_list(status_fields, &status, stdout));
}

int inspect_devices(struct ctl *ctl)
{
	return inspect_show_all(ctl, "devices", HBM_QUERY_DEVICES, device_fields);
}

int inspect_tiers(struct ctl *ctl)
{
	return inspect_show_all(ctl, "tiers", HBM_QUERY_TIERS, tier_fields);
}

int inspect_sessions(struct ctl *ctl)
{
	return inspect_show_all(ctl, "sessions", HBM_QUERY_SESSIONS, session_fields);
}

int inspect_regions(struct ctl *ctl)
{
	return inspect_show_all(ctl, "regions", HBM_QUERY_REGIONS, region_fields);
}

int inspect_namespaces(struct ctl *ctl)
{
	return inspect_show_all(ctl, "namespaces", HBM_QUERY_NAMESPACES, namespace_fields);
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

	r = inspect_show(ctl, "blocks", block_fields, &query);
	query_clear(&query);

	return r;
}

/* The accounts of pools and of limits that do not balance. */
static size_t inspect_count_unbalanced(const struct query *accounts, const struct query *limits)
{
	size_t count = 0;
	for (size_t i = 0; i < accounts->count; i++)
		count +=
			((const struct hbm_wire_account *)query_record(accounts, i))->balanced != 1;
	for (size_t i = 0; i < limits->count; i++)
		count += ((const struct hbm_wire_limit *)query_record(limits, i))->balanced != 1;
	return count;
}

static int inspect_show_accounts(struct ctl *ctl, const struct query *accounts,
				 const struct query *limits, bool balanced)
{
	if (ctl->json)
		return ctl_print_json(json_pack("{s:b,s:o,s:o}", "balanced", balanced, "accounts",
						view_json_all(account_fields, accounts), "limits",
						view_json_all(limit_fields, limits)));

	int r = ctl_printed(view_table(account_fields, accounts, stdout));
	if (r != CTL_DONE)
		return r;

	putchar('\n');

	return ctl_printed(view_table(charge_fields, limits, stdout));
}

static int inspect_verify_all(struct ctl *ctl, const struct query *accounts,
			      const struct query *limits)
{
	size_t wrong = inspect_count_unbalanced(accounts, limits);
	int r = inspect_show_accounts(ctl, accounts, limits, wrong == 0);

	if (r == CTL_DONE && wrong > 0)
		return ctl_fail("%zu of %zu accounts do not balance: this is a bug in hbmd; report "
				"the lines above and restart it",
				wrong, accounts->count + limits->count);

	return r;
}

int inspect_verify(struct ctl *ctl)
{
	struct query accounts, limits;
	int r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	r = query_all(ctl->hbm, HBM_QUERY_VERIFY, &accounts);
	if (r != 0)
		return ctl_refused(ctl->hbm, "verify", r);

	r = query_all(ctl->hbm, HBM_QUERY_LIMITS, &limits);
	if (r != 0) {
		query_clear(&accounts);
		return ctl_refused(ctl->hbm, "verify", r);
	}

	r = inspect_verify_all(ctl, &accounts, &limits);
	query_clear(&accounts);
	query_clear(&limits);

	return r;
}

int inspect_limits(struct ctl *ctl)
{
	return inspect_show_all(ctl, "limits", HBM_QUERY_LIMITS, limit_fields);
}

int inspect_version(struct ctl *ctl)
{
	struct hbm_options options = ctl_options(ctl, "hbmctl");

	options.inspect_only = true;
	struct hbm_wire_status status = {0};
	if (hbm_connect(&ctl->hbm, &options) == 0) {
		int r = inspect_status_get(ctl, &status);
		if (r != CTL_DONE)
			return r;
	}

	if (ctl->json) {
		json_t *daemon = ctl->hbm ? view_json_text(status.version, sizeof(status.version))
					  : json_null();
		return ctl_print_json(
			json_pack("{s:s,s:o}", "hbmctl", HBM_VERSION, "hbmd", daemon));
	}

	printf("hbmctl %s\n", HBM_VERSION);
	if (ctl->hbm)
		printf("hbmd %.*s\n", (int)sizeof(status.version), status.version);

	return CTL_DONE;
}
