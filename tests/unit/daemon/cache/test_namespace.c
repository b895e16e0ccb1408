/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces: equal specs share one, any difference makes another, and one that nobody
 * uses is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/cache/namespace.h"
#include "daemon/config/config.h"
#include "tests/support/open_namespace.h"

static struct ledger ledger;

static struct namespaces *namespaces_of(uint64_t max)
{
	struct namespaces *namespaces = NULL;

	ledger_open(&ledger, &(struct config){.limit_namespaces = max,
					      .limit_namespaces_per_user = {.percent = 100},
					      .limit_blocks = 100});
	assert_int_equal(namespaces_new(&namespaces, &ledger), 0);
	return namespaces;
}

static void test_new_refuses_nonsense(void **state)
{
	(void)state;
	struct namespaces *namespaces = NULL;

	ledger_open(&ledger, &(struct config){.limit_namespaces = 0});
	assert_int_equal(namespaces_new(&namespaces, &ledger), -EINVAL);
	ledger_open(&ledger, &(struct config){.limit_namespaces = UINT16_MAX});
	assert_int_equal(namespaces_new(&namespaces, &ledger), -EINVAL);
	assert_null(namespaces);
	assert_null(namespaces_free(NULL));
}

/* Whether byte i of a spec is one of its salt. */
static bool is_in_salt(size_t i)
{
	size_t start = offsetof(struct hbm_wire_namespace_spec, salt);

	return i >= start && i < start + HBM_WIRE_NAME_BYTES;
}

/* Each byte of the spec counts, the salt's as well, of which the fingerprint says nothing. */
static void test_any_difference_makes_another(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(sizeof(struct hbm_wire_namespace_spec) + 1);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	uint16_t first = open_namespace(namespaces, &ledger, &spec);
	assert_int_equal(first, 1);
	assert_int_equal(open_namespace(namespaces, &ledger, &spec), first);
	assert_int_equal(namespaces_get(namespaces, first)->opens, 2);

	for (size_t i = 0; i < sizeof(spec); i++) {
		struct hbm_wire_namespace_spec other = spec;

		((uint8_t *)&other)[i] ^= 1;
		uint16_t number = open_namespace(namespaces, &ledger, &other);
		assert_int_equal(number, 2 + i);
		const struct namespace *ns = namespaces_get(namespaces, number);
		int same = memcmp(ns->fingerprint, namespaces_get(namespaces, first)->fingerprint,
				  sizeof(ns->fingerprint));
		assert_int_equal(same == 0, is_in_salt(i));
	}

	assert_int_equal(namespaces_count(namespaces), 1 + sizeof(spec));
	namespaces_free(namespaces);
}

/* It is not among what is shown, and a number that is used again has the next one's. */
static void test_a_salt_is_kept_apart(void **state)
{
	(void)state;
	static const char none[HBM_WIRE_NAME_BYTES];
	struct namespaces *namespaces = namespaces_of(4);
	struct hbm_wire_namespace_spec salted = {.salt = "a secret", .block_bytes = 4096},
				       plain = {.block_bytes = 4096};
	uint16_t number = open_namespace(namespaces, &ledger, &salted);
	const struct namespace *ns = namespaces_get(namespaces, number);
	assert_true(ns->salted);
	assert_memory_equal(ns->spec.salt, none, sizeof(none));
	assert_int_not_equal(open_namespace(namespaces, &ledger, &plain), number);
	assert_int_equal(open_namespace(namespaces, &ledger, &salted), number);

	namespaces_unref(namespaces, number);
	namespaces_unref(namespaces, number);
	plain.weights = 1;
	assert_int_equal(open_namespace(namespaces, &ledger, &plain), number);
	assert_false(namespaces_get(namespaces, number)->salted);
	salted.weights = 1;
	assert_int_not_equal(open_namespace(namespaces, &ledger, &salted), number);
	namespaces_free(namespaces);
}

/* An encoding makes another namespace, with another fingerprint; raw is as none. */
static void test_an_encoding_is_part_of_what_it_is(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(8);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	const struct hbm_wire_encoding encodings[] = {
		{HBM_ENCODING_RAW, 0, 0},      {HBM_ENCODING_LOSSLESS, 2, 0},
		{HBM_ENCODING_LOSSLESS, 4, 0}, {HBM_ENCODING_FP8, 0, 8192},
		{HBM_ENCODING_FP8, 0, 8193},
	};
	enum { COUNT = sizeof(encodings) / sizeof(encodings[0]) };
	struct user *user = user_open(&ledger, 0);

	assert_non_null(user);
	assert_int_equal(open_namespace(namespaces, &ledger, &spec), 1);
	for (uint16_t i = 0; i < COUNT; i++) {
		const struct namespace_identity one = {.spec = &spec, .encoding = &encodings[i]};

		assert_int_equal(namespaces_find(namespaces, &one, user), i ? 0 : 1);
		assert_int_equal(namespaces_open(namespaces, &one, user), i + 1);
		assert_int_equal(namespaces_find(namespaces, &one, user), i + 1);
	}

	for (uint16_t i = 1; i <= COUNT; i++)
		for (uint16_t j = 1; j < i; j++)
			assert_memory_not_equal(namespaces_get(namespaces, i)->fingerprint,
						namespaces_get(namespaces, j)->fingerprint, 16);
	assert_int_equal(
		namespaces_find(namespaces, &(struct namespace_identity){.spec = &spec}, user), 1);
	assert_int_equal(namespaces_get(namespaces, 2)->logical_bytes, 4096);
	assert_int_equal(namespaces_get(namespaces, 4)->logical_bytes, 8192);
	user_close(user);
	namespaces_free(namespaces);
}

/* One that stays in memory is another, with another fingerprint, whatever the encoding; and so is
 * one that is wiped. */
static void test_options_are_part_of_what_it_is(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(16);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	const struct hbm_wire_encoding lossless = {HBM_ENCODING_LOSSLESS, 2, 0};
	struct user *user = user_open(&ledger, 0);

	assert_non_null(user);
	for (uint16_t i = 0; i < 16; i++) {
		const struct namespace_identity one = {.spec = &spec,
						       .encoding = i & 1 ? &lossless : NULL,
						       .memory_only = i & 2,
						       .wipe_on_free = i & 4,
						       .group = i & 8 ? "tp2" : NULL};

		assert_int_equal(namespaces_find(namespaces, &one, user), 0);
		assert_int_equal(namespaces_open(namespaces, &one, user), i + 1);
		assert_int_equal(namespaces_find(namespaces, &one, user), i + 1);
		assert_int_equal(namespaces_get(namespaces, i + 1u)->memory_only, i % 4 >= 2);
		assert_int_equal(namespaces_get(namespaces, i + 1u)->wipe_on_free, i % 8 >= 4);
		assert_string_equal(namespaces_get(namespaces, i + 1u)->group, i >= 8 ? "tp2" : "");
	}

	for (uint16_t i = 1; i <= 16; i++)
		for (uint16_t j = 1; j < i; j++)
			assert_memory_not_equal(namespaces_get(namespaces, i)->fingerprint,
						namespaces_get(namespaces, j)->fingerprint, 16);
	user_close(user);
	namespaces_free(namespaces);
}

/* ---- groups ---- */

static uint16_t open_member(struct namespaces *namespaces,
			    const struct hbm_wire_namespace_spec *spec, uid_t uid)
{
	const struct namespace_identity identity = {.spec = spec, .group = "tp"};
	struct user *user = user_open(&ledger, uid);
	uint16_t number = 0;

	assert_non_null(user);
	if (namespaces_may_join(namespaces, &identity, user))
		number = namespaces_open(namespaces, &identity, user);
	user_close(user);

	return number;
}

static unsigned members(struct namespaces *namespaces, uint16_t number)
{
	unsigned count = 0;
	uint16_t at = number;

	do
		at = namespaces_get(namespaces, at)->next_member;
	while (++count, at != number);

	return count;
}

/* Those of one model, weights and salt, whatever their layouts. */
static void test_who_is_in_a_group(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(16);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	uint16_t first = open_member(namespaces, &spec, 0);

	strcpy(spec.layout, "rank 1");
	uint16_t second = open_member(namespaces, &spec, 0);
	assert_int_equal(open_member(namespaces, &spec, 0), second);
	spec.block_bytes = 8192;
	uint16_t third = open_member(namespaces, &spec, 0);
	assert_int_equal(members(namespaces, first), 3);
	assert_int_equal(members(namespaces, second), 3);

	spec.weights = 1;
	assert_int_equal(members(namespaces, open_member(namespaces, &spec, 0)), 1);
	spec.weights = 0;
	spec.salt[0] = 's';
	assert_int_equal(members(namespaces, open_member(namespaces, &spec, 0)), 1);
	spec.salt[0] = '\0';
	spec.model[0] = 'm';
	assert_int_equal(members(namespaces, open_member(namespaces, &spec, 0)), 1);
	spec.model[0] = '\0';
	assert_int_equal(members(namespaces, open_namespace(namespaces, &ledger, &spec)), 1);

	namespaces_unref(namespaces, second);
	assert_int_equal(members(namespaces, first), 3); /* it is open twice */
	namespaces_unref(namespaces, second);
	assert_int_equal(members(namespaces, first), 2);
	namespaces_unref(namespaces, first);
	assert_int_equal(members(namespaces, third), 1);
	namespaces_free(namespaces);
}

static void test_a_group_of_other_users(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(16);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};

	open_member(namespaces, &spec, 1001);
	spec.layout[0] = 'l';
	assert_int_equal(members(namespaces, open_member(namespaces, &spec, 1002)), 1);
	assert_int_equal(members(namespaces, open_member(namespaces, &spec, 1001)), 2);
	namespaces_free(namespaces);
}

static void test_a_full_group(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(HBM_WIRE_GROUP_MAX + 2);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	uint16_t number = 0;

	for (unsigned i = 0; i < HBM_WIRE_GROUP_MAX; i++) {
		spec.layout[0] = (char)(i + 1);
		number = open_member(namespaces, &spec, 0);
		assert_int_not_equal(number, 0);
	}
	assert_int_equal(members(namespaces, number), HBM_WIRE_GROUP_MAX);

	spec.layout[1] = 'x';
	assert_int_equal(open_member(namespaces, &spec, 0), 0);
	spec.layout[1] = '\0';
	assert_int_equal(open_member(namespaces, &spec, 0), number);
	spec.weights = 1;
	assert_int_not_equal(open_member(namespaces, &spec, 0), 0);

	namespaces_unref(namespaces, 1);
	spec.weights = 0;
	spec.layout[1] = 'x';
	assert_int_equal(open_member(namespaces, &spec, 0), 1);
	namespaces_free(namespaces);
}

static void test_a_full_table(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(2);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 4096};
	for (uint64_t i = 0; i < 2; i++) {
		spec.weights = i;
		assert_int_equal(open_namespace(namespaces, &ledger, &spec), 1 + i);
	}

	spec.weights = 2;
	assert_int_equal(open_namespace(namespaces, &ledger, &spec), 0);
	assert_int_equal(namespaces_count(namespaces), 2);
	namespaces_unref(namespaces, 1);
	assert_int_equal(open_namespace(namespaces, &ledger, &spec), 1);
	assert_null(namespaces_get(namespaces, 0));
	assert_null(namespaces_get(namespaces, 3));
	assert_null(namespaces_get(namespaces, UINT32_MAX));
	namespaces_free(namespaces);
}

/* It stays while somebody has it open or it has blocks. */
static void test_it_is_forgotten_with_its_last_use(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(4);
	struct hbm_wire_namespace_spec spec = {.block_bytes = 8192};
	uint16_t number = open_namespace(namespaces, &ledger, &spec);
	namespaces_ref(namespaces, number);
	struct namespace *ns = namespaces_get(namespaces, number);
	assert_int_equal(ns->block_bytes, 8192);
	ledger_add(&ns->payer, LEDGER_BLOCKS, 2);
	namespaces_unref(namespaces, number);
	namespaces_unref(namespaces, number);
	assert_int_equal(namespaces_count(namespaces), 1);
	namespaces_block_gone(namespaces, number);
	assert_int_equal(open_namespace(namespaces, &ledger, &spec), number); /* found again */
	namespaces_block_gone(namespaces, number);
	assert_int_equal(namespaces_count(namespaces), 1);
	namespaces_unref(namespaces, number);
	assert_int_equal(namespaces_count(namespaces), 0);
	assert_null(namespaces_get(namespaces, number));
	namespaces_free(namespaces);
}

static void count_forgotten(void *arg, uint16_t number)
{
	*(uint16_t *)arg = number;
}

/* The one that was closed longest ago, and never one that is open, pinned or dropped. */
static void test_the_coldest(void **state)
{
	(void)state;
	struct namespaces *namespaces = namespaces_of(4);
	struct user *root = user_open(&ledger, 0);
	uint16_t forgotten = 0;

	for (uint64_t i = 1; i <= 4; i++) {
		const struct hbm_wire_namespace_spec spec = {.weights = i, .block_bytes = 4096};
		assert_int_equal(open_namespace(namespaces, &ledger, &spec), i);
		ledger_add(&namespaces_get(namespaces, (uint32_t)i)->payer, LEDGER_BLOCKS, 1);
	}

	assert_int_equal(namespaces_coldest(namespaces, NULL, 0), 0);
	for (uint16_t i = 4; i > 0; i--)
		namespaces_unref(namespaces, i);
	assert_int_equal(namespaces_coldest(namespaces, NULL, 0), 4);
	assert_int_equal(namespaces_coldest(namespaces, NULL, 3), 4);
	assert_int_equal(namespaces_coldest(namespaces, NULL, 4), 0);
	assert_int_equal(namespaces_coldest(namespaces, root, 4), 4);

	namespaces_ref(namespaces, 4);
	assert_int_equal(namespaces_coldest(namespaces, root, 0), 3);
	namespaces_get(namespaces, 3)->pins = 1;
	assert_int_equal(namespaces_coldest(namespaces, root, 0), 2);
	namespaces_get(namespaces, 2)->drop = (struct namespace_drop *)namespaces;
	assert_int_equal(namespaces_coldest(namespaces, root, 0), 1);
	namespaces_unref(namespaces, 4);
	assert_int_equal(namespaces_coldest(namespaces, root, 0), 1); /* closed before */

	namespaces_on_forget(namespaces, count_forgotten, &forgotten);
	namespaces_block_gone(namespaces, 1);
	assert_int_equal(forgotten, 1);
	assert_int_equal(namespaces_coldest(namespaces, root, 0), 4);
	user_close(root);
	namespaces_free(namespaces);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses_nonsense),
		cmocka_unit_test(test_any_difference_makes_another),
		cmocka_unit_test(test_a_salt_is_kept_apart),
		cmocka_unit_test(test_an_encoding_is_part_of_what_it_is),
		cmocka_unit_test(test_options_are_part_of_what_it_is),
		cmocka_unit_test(test_who_is_in_a_group),
		cmocka_unit_test(test_a_group_of_other_users),
		cmocka_unit_test(test_a_full_group),
		cmocka_unit_test(test_a_full_table),
		cmocka_unit_test(test_it_is_forgotten_with_its_last_use),
		cmocka_unit_test(test_the_coldest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
