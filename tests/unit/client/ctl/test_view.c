/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the daemon, collected and shown: daemons of other versions, strangers'
 * names, limits and refusals. hbm_query() is played by this file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/query.h"
#include "client/ctl/table.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

/* What the played daemon has: `count` tiers numbered by capacity, sent as records of
 * `record_bytes`. */
static struct {
	size_t count, record_bytes;
	int refusal;
	size_t sent;
} daemon_;

int hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each, void *arg)
{
	(void)hbm;
	assert_int_equal(kind, HBM_QUERY_TIERS);

	for (daemon_.sent = 0; daemon_.sent < daemon_.count; daemon_.sent++) {
		unsigned char record[2 * sizeof(struct hbm_wire_tier)];

		memset(record, 0xee, sizeof(record));
		struct hbm_wire_tier tier = {
			.tier = HBM_TIER_DDR, .capacity = daemon_.sent, .out_bytes = 7};
		memcpy(record, &tier, sizeof(tier));
		int r = each(record, daemon_.record_bytes, arg);
		if (r != 0)
			return r;
	}

	return daemon_.refusal;
}

static int collect_tiers(size_t limit, query_filter *filter, struct query *out)
{
	return query_some(NULL, HBM_QUERY_TIERS, filter, NULL, limit, out);
}

static const struct hbm_wire_tier *tier_at(const struct query *query, size_t index)
{
	return query_record(query, index);
}

static void test_all_records(void **state)
{
	(void)state;
	struct query query;
	daemon_.count = 1000;
	daemon_.record_bytes = sizeof(struct hbm_wire_tier);
	daemon_.refusal = 0;
	assert_int_equal(collect_tiers(0, NULL, &query), 0);
	assert_int_equal(query.count, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(tier_at(&query, i)->capacity, i);
	query_clear(&query);
	assert_null(query.records);
}

static void test_daemons_of_other_versions(void **state)
{
	(void)state;
	struct query query;
	daemon_.count = 2;
	daemon_.refusal = 0;
	daemon_.record_bytes = 2 * sizeof(struct hbm_wire_tier);
	assert_int_equal(collect_tiers(0, NULL, &query), 0);
	assert_int_equal(tier_at(&query, 1)->capacity, 1);
	assert_int_equal(tier_at(&query, 1)->out_bytes, 7);
	query_clear(&query);
	daemon_.record_bytes = offsetof(struct hbm_wire_tier, out_bytes);
	assert_int_equal(collect_tiers(0, NULL, &query), 0);
	assert_int_equal(tier_at(&query, 1)->capacity, 1);
	assert_int_equal(tier_at(&query, 1)->out_bytes, 0);
	query_clear(&query);
}

static bool is_odd(const void *record, const void *arg)
{
	(void)arg;
	const struct hbm_wire_tier *tier = record;
	return tier->capacity % 2 == 1;
}

static void test_limit_and_filter(void **state)
{
	(void)state;
	struct query query;
	daemon_.count = 100;
	daemon_.record_bytes = sizeof(struct hbm_wire_tier);
	daemon_.refusal = 0;
	assert_int_equal(collect_tiers(3, is_odd, &query), 0);
	assert_int_equal(query.count, 3);
	assert_int_equal(tier_at(&query, 2)->capacity, 5);
	assert_int_equal(daemon_.sent, 5);
	query_clear(&query);
	assert_int_equal(collect_tiers(0, is_odd, &query), 0);
	assert_int_equal(query.count, 50);
	query_clear(&query);
}

static void test_refusals_leave_the_output_alone(void **state)
{
	(void)state;
	struct query query = {.count = 77};
	daemon_.count = 2;
	daemon_.record_bytes = sizeof(struct hbm_wire_tier);
	static const int refusals[] = {HBM_INVALID, HBM_DENIED, -ENOTCONN};
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		daemon_.refusal = refusals[i];
		assert_int_equal(collect_tiers(5, NULL, &query), refusals[i]);
		assert_int_equal(query.count, 77);
	}
}

#define FIELD(form, member, header)                                                                \
	{                                                                                          \
#member, FORM_##form, 1, FIGURE_FACT, header, "", "",                              \
			offsetof(struct hbm_wire_namespace, member),                               \
			sizeof(((struct hbm_wire_namespace *)0)->member)                           \
	}

static struct field fields[] = {
	FIELD(TEXT, model, "MODEL"),
	FIELD(ID, opens, ""),
	FIELD(BYTES, block_bytes, "BLOCK"),
	FIELD(TIERS, blocks_in, "IN"),
	FIELD(BOOL, salted, ""),
	FIELD(ZERO, zero, ""),
	FIELD(TIER, ns, "TIER"),
	FIELD(MARK, weights, "WEIGHTS"),
};
static const struct record type = {"namespaces", sizeof(struct hbm_wire_namespace), fields,
				   sizeof(fields) / sizeof(fields[0])};

static struct hbm_wire_namespace sample(void)
{
	struct hbm_wire_namespace ns = {.ns = HBM_TIER_NVME,
					.opens = UINT32_MAX,
					.model = "m",
					.block_bytes = 65536,
					.blocks_in = {9, 1, 2, 3},
					.salted = 1,
					.weights = 77};
	return ns;
}

/* An older daemon does not know all of it, and not all of it is for everybody. */
static void test_what_was_not_sent_is_not_shown(void **state)
{
	(void)state;
	struct hbm_wire_namespace ns = sample();
	struct record part = type;
	part.bytes = offsetof(struct hbm_wire_namespace, block_bytes);

	json_t *object = view_json(&part, &ns);
	assert_non_null(json_object_get(object, "weights"));
	assert_null(json_object_get(object, "block_bytes"));
	assert_null(json_object_get(object, "salted"));
	json_decref(object);

	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	assert_int_equal(view_list(&part, &ns, out), 0);
	fclose(out);
	assert_string_equal(text, "MODEL    m\nTIER     nvme\nWEIGHTS  77\n");
	free(text);
}

static void test_json(void **state)
{
	(void)state;
	struct hbm_wire_namespace ns = sample();
	json_t *object = view_json(&type, &ns);
	char *text = json_dumps(object, JSON_COMPACT);
	assert_string_equal(
		text,
		"{\"model\":\"m\",\"opens\":4294967295,\"block_bytes\":65536,"
		"\"blocks_in\":{\"hbm\":1,\"ddr\":2,\"nvme\":3},\"salted\":true,\"ns\":\"nvme\","
		"\"weights\":\"77\"}");
	free(text);
	json_decref(object);
}

/* What would be negative as a signed number. */
static void test_large_numbers(void **state)
{
	(void)state;
	struct hbm_wire_namespace ns = sample();
	ns.block_bytes = 1ull << 63;
	ns.blocks_in[HBM_TIER_HBM] = UINT64_MAX;
	ns.blocks_in[HBM_TIER_DDR] = INT64_MAX;
	ns.weights = UINT64_MAX;
	json_t *object = view_json(&type, &ns);
	assert_int_equal(json_real_value(json_object_get(object, "block_bytes")) / 0x1p62, 2);
	const json_t *tiers = json_object_get(object, "blocks_in");
	assert_int_equal(json_real_value(json_object_get(tiers, "hbm")) / 0x1p62, 4);
	assert_int_equal(json_integer_value(json_object_get(tiers, "ddr")), INT64_MAX);
	assert_string_equal(json_string_value(json_object_get(object, "weights")),
			    "18446744073709551615");
	json_decref(object);
}

static void test_table(void **state)
{
	(void)state;
	struct hbm_wire_namespace ns = sample();
	struct query query = {.records = &ns, .count = 1, .record_bytes = sizeof(ns)};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_int_equal(view_table(&type, &query, out), 0);
	ns.ns = 99;
	memset(ns.model, 'x', sizeof(ns.model));
	assert_int_equal(view_list(&type, &ns, out), 0);
	fclose(out);
	assert_string_equal(
		text, "MODEL   BLOCK  IN                    TIER  WEIGHTS\n"
		      "m      64 KiB  hbm 1, ddr 2, nvme 3  nvme       77\n"
		      "MODEL    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
		      "BLOCK    64 KiB\n"
		      "IN       hbm 1, ddr 2, nvme 3\n"
		      "TIER     unknown\n"
		      "WEIGHTS  77\n");
	free(text);
}

static void test_text_that_is_not_utf8(void **state)
{
	(void)state;
	static const struct {
		const char *text, *json;
	} cases[] = {{"plain", "plain"},
		     {"\xc3\xa9", "\xc3\xa9"},
		     {"a\xff\xfe", "a??"},
		     {"\xc3", "?"},
		     {"", ""}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *string = view_json_text(cases[i].text, 64);
		assert_string_equal(json_string_value(string), cases[i].json);
		json_decref(string);
	}

	json_t *cut = view_json_text("abcdef", 3);
	assert_string_equal(json_string_value(cut), "abc");
	json_decref(cut);
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(view_index(&view_tiers, "nvme"), HBM_TIER_NVME);
	assert_int_equal(view_index(&view_tiers, "tape"), -1);
	assert_string_equal(view_name(&view_links, HBM_LINK_NVME_READ), "nvme_read");
	assert_string_equal(view_name(&view_links, HBM_LINKS), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_records),
		cmocka_unit_test(test_daemons_of_other_versions),
		cmocka_unit_test(test_limit_and_filter),
		cmocka_unit_test(test_refusals_leave_the_output_alone),
		cmocka_unit_test(test_what_was_not_sent_is_not_shown),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_large_numbers),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_text_that_is_not_utf8),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
