/* SPDX-License-Identifier: Apache-2.0 */
/* hbmctl plan --layout: the page groups of the running example in each order, what is wrong
 * with a layout as one line, and the same numbers in JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"

#include <jansson.h>
#include <string.h>

#define OUTPUT (1u << 18)
#define MIB (1 << 20)

static char output[OUTPUT];

/* A model on 8 H200 with this layout; `more` may be NULL. */
static int plan(const char *model, const char *layout, const char *context, const char *more)
{
	const char *words[] = {"plan",     "--model", model,       "--gpu", "H200", "--gpus", "8",
			       "--layout", layout,    "--context", context, more,   NULL};

	return spawn_hbmctl(&daemon_, words, output, OUTPUT);
}

static void assert_says(const char *part)
{
	if (!strstr(output, part))
		fail_msg("no \"%s\" in:\n%s", part, output);
}

static void test_for_people(void **state)
{
	(void)state;
	assert_int_equal(plan("Yi-34B-200K", "token", "4K,50K", NULL), 0);
	assert_says(
		"\nlayout on each GPU: layers=60 heads=1 dim=128 bytes=2 order=token max=50000\n"
		"  2 buffers of 15,360 B a token: 136 tokens in a slab of 2 MiB, some across two\n"
		"  page group 4 MiB; at most 4.0 MiB unused, 0.272% of a sequence of 50,000 "
		"tokens\n");
	assert_says("\n 50,000  1,536,000,000 B    734  1.4 GiB    0.2%\n");

	assert_int_equal(plan("Yi-34B-200K", "layer", "50K", NULL), 0);
	assert_says("  120 buffers of 256 B a token: 8,192 tokens in a slab of 2 MiB\n"
		    "  page group 240 MiB; ");

	assert_int_equal(plan("Yi-34B-200K", "order=block page=16 slab=4MiB", "50K", NULL), 0);
	assert_says("  1 buffer of 30,720 B a token: 136 tokens in a slab of 4 MiB, some across "
		    "two\n  page group 4 MiB; ");

	assert_int_equal(plan("Gemma-3-27B", "token", "50K", NULL), 0);
	assert_says("layer=0-51 heads=2 dim=128 bytes=2 window=1024 layer=52-61 heads=2 dim=128 "
		    "bytes=2\n");
	assert_says("; a window of 1,024\n");

	/* A latent belongs to all heads, and every layer of this one has a window. */
	assert_int_equal(plan("DeepSeek-V3", "layer", "50K", NULL), 0);
	assert_says("layers=61 heads=1 dim=576 bytes=2 keys=only order=layer max=50000\n");
	assert_int_equal(plan("Mistral-7B", "token", "50K", NULL), 0);
	assert_says("layers=32 heads=1 dim=128 bytes=2 window=4096 order=token max=50000\n");

	const char *words[] = {"plan", "--model", "Yi-34B-200K", "--gpu", "H200", NULL};
	assert_int_equal(spawn_hbmctl(&daemon_, words, output, OUTPUT), 0);
	assert_null(strstr(output, "layout"));
}

static void test_json(void **state)
{
	(void)state;
	const char *words[] = {"--json",   "plan",  "--model",   "Yi-34B-200K", "--gpu", "H200",
			       "--layout", "layer", "--context", "4K,50K",      NULL};

	assert_int_equal(spawn_hbmctl(&daemon_, words, output, OUTPUT), 0);
	json_t *document = json_loads(output, 0, NULL);
	assert_non_null(document);

	const char *text, *name;
	json_int_t token_bytes, page_group, buffers, slab_tokens, kv_bytes, mapped, slabs;
	assert_int_equal(
		json_unpack(document, "{s:{s:s,s:s,s:I,s:I,s:[{s:I,s:I}],s:[{},{s:I,s:I,s:I}]}}",
			    "layout", "text", &text, "name", &name, "token_bytes", &token_bytes,
			    "page_group_bytes", &page_group, "buffers", "buffers", &buffers,
			    "slab_tokens", &slab_tokens, "contexts", "kv_bytes", &kv_bytes,
			    "mapped_bytes", &mapped, "slabs", &slabs),
		0);
	assert_string_equal(text, "layers=60 heads=8 dim=128 bytes=2 order=layer max=50000");
	assert_string_equal(name, "layers=60 heads=8 dim=128 bytes=2 order=layer");
	assert_int_equal(token_bytes, 245760);
	assert_int_equal(page_group, 240 * MIB);
	assert_int_equal(buffers, 120);
	assert_int_equal(slab_tokens, 1024);
	assert_int_equal(kv_bytes, 12288000000);
	assert_int_equal(slabs, 120 * 49);
	assert_int_equal(mapped, 120ll * 49 * 2 * MIB);
	json_decref(document);

	words[6] = NULL;
	assert_int_equal(spawn_hbmctl(&daemon_, words, output, OUTPUT), 0);
	document = json_loads(output, 0, NULL);
	assert_true(json_is_null(json_object_get(document, "layout")));
	json_decref(document);
}

static void test_wrong_input(void **state)
{
	(void)state;
	static const struct {
		const char *layout, *more, *part;
	} cases[] = {
		{"tokens", NULL, "--layout is \"tokens\": \"order=tokens\" has a wrong value"},
		{"order=token heads=3", NULL, "heads= is given twice"},
		{"block", NULL, "block order needs the tokens of a page"},
		{"slab=3MiB", NULL, "slabs of 3145728 bytes"},
		{"", NULL, "has a wrong value"},
		{"token", "--csv", "--layout"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(plan("Yi-34B-200K", cases[i].layout, "4K", cases[i].more), 2);
		assert_says(cases[i].part);
		assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_for_people, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_json, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_input, stage_setup, stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
