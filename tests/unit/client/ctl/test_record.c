/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of records: every byte of a record belongs to one member, members are shown by
 * rising place, and metrics are named as Prometheus requires, each once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "client/ctl/record.h"

static bool ends_in(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length > tail && strcmp(text + length - tail, end) == 0;
}

static void test_members_fill_their_record(void **state)
{
	(void)state;
	for (unsigned kind = HBM_QUERY_STATUS; kind < HBM_QUERY_KINDS; kind++) {
		const struct record *type = record_of(kind);
		unsigned char covered[1024] = {0};

		assert_in_range(type->bytes, 8, sizeof(covered));
		assert_int_equal(type->bytes % sizeof(uint64_t), 0);
		for (size_t f = 0; f < type->count; f++)
			for (size_t b = 0; b < type->fields[f].bytes; b++)
				covered[type->fields[f].offset + b]++;

		for (size_t b = 0; b < type->bytes; b++)
			assert_int_equal(covered[b], 1);
	}
}

static void test_fields_are_in_the_order_of_their_places(void **state)
{
	(void)state;
	for (unsigned kind = HBM_QUERY_STATUS; kind < HBM_QUERY_KINDS; kind++) {
		const struct record *type = record_of(kind);
		assert_ptr_equal(record_of(kind), type);

		for (size_t f = 1; f < type->count; f++) {
			const struct field *before = &type->fields[f - 1], *field = before + 1;
			assert_in_range(before->place, 1, field->place);
			if (before->place == field->place)
				assert_in_range(before->offset, 0, field->offset);
		}
	}
}

static void check_metric(const struct field *field)
{
	bool seconds = field->form == FORM_MS || field->form == FORM_NS;

	assert_memory_equal(field->metric, "hbmd_", 5);
	assert_int_equal(field->figure == FIGURE_COUNTER, ends_in(field->metric, "_total"));
	assert_int_equal(seconds, strstr(field->metric, "_seconds") != NULL);
	assert_int_equal(field->form == FORM_BYTES, strstr(field->metric, "_bytes") != NULL);
	if (!seconds && field->form != FORM_BYTES && field->form != FORM_TIERS &&
	    field->form != FORM_TURNS)
		assert_int_equal(field->form, FORM_COUNT);
}

static void test_metrics_have_names_of_their_own(void **state)
{
	(void)state;
	const char *names[256];
	size_t count = 0;
	for (unsigned kind = HBM_QUERY_STATUS; kind < HBM_QUERY_KINDS; kind++) {
		const struct record *type = record_of(kind);
		for (size_t f = 0; f < type->count; f++) {
			if (!*type->fields[f].metric)
				continue;

			check_metric(&type->fields[f]);
			for (size_t n = 0; n < count; n++)
				assert_string_not_equal(names[n], type->fields[f].metric);
			names[count++] = type->fields[f].metric;
		}
	}

	assert_in_range(count, 50, 256);
}

static void test_every_member_is_explained(void **state)
{
	(void)state;
	for (unsigned kind = HBM_QUERY_STATUS; kind < HBM_QUERY_KINDS; kind++) {
		const struct record *type = record_of(kind);
		for (size_t f = 0; f < type->count; f++)
			assert_true(type->fields[f].form == FORM_ZERO ||
				    ends_in(type->fields[f].help, "."));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members_fill_their_record),
		cmocka_unit_test(test_fields_are_in_the_order_of_their_places),
		cmocka_unit_test(test_metrics_have_names_of_their_own),
		cmocka_unit_test(test_every_member_is_explained),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
