/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts as text: printed and parsed again at random, by hand, and what is refused; the names
 * they give to namespaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/layouts.h"

#define ROUNDS 2000
#define TEXT 4096

static void check_same_layer(const struct hbm_layer *a, const struct hbm_layer *b)
{
	assert_int_equal(a->heads, b->heads);
	assert_int_equal(a->head_dim, b->head_dim);
	assert_int_equal(a->element_bytes, b->element_bytes);
	assert_int_equal(a->window, b->window);
	assert_int_equal(a->keys_only, b->keys_only);
	assert_int_equal(a->state_bytes, b->state_bytes);
}

static void check_same(const struct hbm_layout *first, const struct hbm_layout *second)
{
	const struct hbm_layout_options *a = hbm_layout_options(first),
					*b = hbm_layout_options(second);

	assert_int_equal(a->layer_count, b->layer_count);
	for (uint32_t i = 0; i < a->layer_count; i++)
		check_same_layer(&a->layers[i], &b->layers[i]);
	assert_int_equal(a->order, b->order);
	assert_int_equal(a->values_first, b->values_first);
	assert_int_equal(a->heads_first, b->heads_first);
	assert_int_equal(a->page_tokens, b->page_tokens);
	assert_int_equal(a->group_slabs, b->group_slabs);
	assert_int_equal(a->slab_bytes, b->slab_bytes);
	assert_int_equal(a->max_tokens, b->max_tokens);
}

static struct hbm_layout *parse(const char *text)
{
	struct hbm_layout *layout = NULL;
	char error[256] = "";

	if (hbm_layout_parse(&layout, text, error, sizeof(error)) != 0)
		fail_msg("%s: %s", text, error);

	return layout;
}

static void test_round_trip_at_random(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "layout_text");
	for (int round = 0; round < ROUNDS; round++) {
		struct made_up_layout made_up;
		char text[TEXT], again[TEXT], cut[40];

		layouts_make_up(&seed, &made_up);
		made_up.options.slab_bytes = (2u << 20) << seed_below(&seed, 4);
		struct hbm_layout *layout = layouts_new(&made_up.options);
		const size_t length = hbm_layout_print(layout, text, sizeof(text));
		assert_int_equal(strlen(text), length);

		struct hbm_layout *parsed = parse(text);
		check_same(layout, parsed);
		hbm_layout_print(parsed, again, sizeof(again));
		assert_string_equal(again, text);

		assert_int_equal(hbm_layout_print(layout, cut, sizeof(cut)), length);
		assert_int_equal(strlen(cut), length < sizeof(cut) ? length : sizeof(cut) - 1);
		assert_memory_equal(cut, text, strlen(cut));
		assert_int_equal(hbm_layout_print(layout, NULL, 0), length);

		hbm_layout_free(parsed);
		hbm_layout_free(layout);
	}
}

/* What is said in another way is printed in one. */
static void test_canonical(void **state)
{
	(void)state;
	static const struct {
		const char *said, *printed, *name;
	} cases[] = {
		{"layers=60 heads=8 dim=128 bytes=2 order=token max=200000",
		 "layers=60 heads=8 dim=128 bytes=2 order=token max=200000",
		 "layers=60 heads=8 dim=128 bytes=2 order=token"},
		{"  max=1\tbytes=2 dim=128\nheads=8 layers=60 group=1 slab=2MiB values=last "
		 "keys=both page_form=nhd window=0 ",
		 "layers=60 heads=8 dim=128 bytes=2 order=token max=1",
		 "layers=60 heads=8 dim=128 bytes=2 order=token"},
		{"layers=1 heads=1 dim=576 bytes=2 keys=only order=layer page=64 max=9",
		 "layers=1 heads=1 dim=576 bytes=2 keys=only order=layer page=64 max=9",
		 "layers=1 heads=1 dim=576 bytes=2 keys=only order=layer"},
		{"layers=2 heads=1 dim=1 bytes=1 order=block page=8 page_form=hnd values=first "
		 "slab=1GiB group=2 max=1",
		 "layers=2 heads=1 dim=1 bytes=1 order=block values=first page=8 page_form=hnd "
		 "group=2 slab=1024MiB max=1",
		 "layers=2 heads=1 dim=1 bytes=1 order=block val#72deab632504e3bc"},
		{"layers=3 layer=0-2 state=4096 max=1 slab=4096KiB",
		 "layers=3 state=4096 order=token slab=4MiB max=1",
		 "layers=3 state=4096 order=token"},
		{"layers=5 max=7 layer=4,0-1 heads=1 dim=2 bytes=4 layer=3 state=9 layer=2 heads=1 "
		 "dim=2 bytes=4 window=8",
		 "layers=5 order=token max=7 layer=0-1,4 heads=1 dim=2 bytes=4 layer=2 heads=1 "
		 "dim=2 bytes=4 window=8 layer=3 state=9",
		 "layers=5 order=token layer=0-1,4 heads=1 dim=2#49c954e8f63a4a88"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hbm_layout *layout = parse(cases[i].said);
		char text[TEXT], name[HBM_WIRE_NAME_BYTES];

		hbm_layout_print(layout, text, sizeof(text));
		assert_string_equal(text, cases[i].printed);
		hbm_layout_fingerprint(layout, name);
		assert_string_equal(name, cases[i].name);
		hbm_layout_free(layout);
	}
}

/* Every layer of a kind other than its neighbours: the longest text. */
static void test_longest(void **state)
{
	(void)state;
	static struct hbm_layer layers[HBM_LAYERS_MAX];
	static char text[1u << 16];
	const struct hbm_layout_options options = {
		.layer_count = HBM_LAYERS_MAX, .layers = layers, .max_tokens = 1};

	for (uint32_t i = 0; i < HBM_LAYERS_MAX; i++)
		layers[i] =
			(struct hbm_layer){.heads = 1, .head_dim = 1 + i % 2, .element_bytes = 1};

	struct hbm_layout *layout = layouts_new(&options);
	assert_in_range(hbm_layout_print(layout, text, sizeof(text)), 16384, sizeof(text) - 1);
	struct hbm_layout *parsed = parse(text);
	check_same(layout, parsed);
	hbm_layout_free(parsed);
	hbm_layout_free(layout);
}

/* Names are equal if what the bytes of a block mean is. */
static void test_names_at_random(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "layout_text");
	for (int round = 0; round < ROUNDS; round++) {
		struct made_up_layout made_up;
		char name[HBM_WIRE_NAME_BYTES], other[HBM_WIRE_NAME_BYTES];

		layouts_make_up(&seed, &made_up);
		struct hbm_layout *layout = layouts_new(&made_up.options);
		hbm_layout_fingerprint(layout, name);
		layout = hbm_layout_free(layout);
		assert_in_range(strlen(name), 1, HBM_WIRE_NAME_BYTES - 1);

		made_up.options.slab_bytes = 8u << 20;
		made_up.options.group_slabs = 3;
		made_up.options.max_tokens += 5;
		layout = layouts_new(&made_up.options);
		hbm_layout_fingerprint(layout, other);
		layout = hbm_layout_free(layout);
		assert_string_equal(name, other);

		made_up.options.values_first = !made_up.options.values_first;
		layout = layouts_new(&made_up.options);
		hbm_layout_fingerprint(layout, other);
		layout = hbm_layout_free(layout);
		assert_string_not_equal(name, other);
	}
}

static void test_refused(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"", "0 layers, where 1 to 4096 are possible"},
		{"layers", "\"layers\" is no word of a layout"},
		{"=1", "\"=1\" is no word of a layout"},
		{"layer=", "layer= is no list of layers"},
		{"colour=red", "\"colour=red\" is no word of a layout"},
		{"layers=", "\"layers=\" has a wrong value"},
		{"layers=x", "\"layers=x\" has a wrong value"},
		{"layers=-1", "\"layers=-1\" has a wrong value"},
		{"layers=1x", "\"layers=1x\" has a wrong value"},
		{"layers=4294967296", "\"layers=4294967296\" has a wrong value"},
		{"max=18446744073709551616", "\"max=18446744073709551616\" has a wrong value"},
		{"slab=2TiB", "\"slab=2TiB\" has a wrong value"},
		{"slab=17179869184GiB", "\"slab=17179869184GiB\" has a wrong value"},
		{"order=tokens", "\"order=tokens\" has a wrong value"},
		{"order=tok", "\"order=tok\" has a wrong value"},
		{"keys=none", "\"keys=none\" has a wrong value"},
		{"layers=1 layers=1", "layers= is given twice"},
		{"layers=1 layer=0 heads=1 heads=1", "heads= is given twice"},
		{"layers=1 heads=1 layer=0", "heads= is in front of the first layer="},
		{"layers=2 layer=0 state=1 layer=0-1 state=2", "layer 0 has two kinds"},
		{"layers=2 layer=0 state=1", "layer 1 of 2 has no kind"},
		{"layers=2 layer=0-2 state=1", "there is no layer 2 in 2 layers"},
		{"layers=2 layer=1-0 state=1", "layer=1-0 is no list of layers"},
		{"layers=2 layer=0,,1 state=1", "layer=0,,1 is no list of layers"},
		{"layers=2 layer=0, state=1", "layer=0, is no list of layers"},
		{"layers=2 layer=0-1-2 state=1", "layer=0-1-2 is no list of layers"},
		{"layers=2 layer=0-4096 state=1", "layer=0-4096 is no list of layers"},
		{"layers=1 heads=1 dim=1 bytes=1", "a sequence of at most 0 tokens"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hbm_layout *layout = (void *)state;
		char error[256] = "";

		assert_int_equal(hbm_layout_parse(&layout, cases[i][0], error, sizeof(error)),
				 HBM_INVALID);
		assert_string_equal(error, cases[i][1]);
		assert_ptr_equal(layout, state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_at_random),
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_names_at_random),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
