/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl plan as a command: the running example printed to its digits, every kind of
 * wrong input as one line and exit status 2, the forms of output, and a plan from what a
 * daemon has and measures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/plan/gpu.h"
#include "client/plan/model.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT (1u << 20)
#define WORDS 24

static char output[OUTPUT];

/* "plan" and the words of a line, split at spaces ('_' stands for a space within a
 * word). */
static int plan(const char *line)
{
	char copy[1024];
	const char *words[WORDS + 1] = {"plan"};
	size_t count = 1;

	snprintf(copy, sizeof(copy), "%s", line);

	for (char *word = strtok(copy, " "); word && count < WORDS; word = strtok(NULL, " ")) {
		for (char *c = word; *c; c++)
			*c = *c == '_' ? ' ' : *c;
		words[count++] = word;
	}

	return spawn_hbmctl(&daemon_, words, output, OUTPUT);
}

static void assert_says(const char *part)
{
	if (!strstr(output, part))
		fail_msg("no \"%s\" in:\n%s", part, output);
}

/* The document of a plan that ends with the exit status expected. */
static json_t *plan_json_ending(const char *line, int expected)
{
	char whole[1024];

	snprintf(whole, sizeof(whole), "--json %s", line);
	int r = plan(whole);
	json_t *document = r == expected ? json_loads(output, 0, NULL) : NULL;
	if (!document)
		fail_msg("exit status %d:\n%s", r, output);

	return document;
}

static json_t *plan_json(const char *line)
{
	return plan_json_ending(line, 0);
}

static json_t *first_point(const json_t *document)
{
	return json_array_get(json_object_get(document, "points"), 0);
}

static double real(const json_t *object, const char *name)
{
	assert_true(json_is_number(json_object_get(object, name)));
	return json_number_value(json_object_get(object, name));
}

#define EXAMPLE "--model Yi-34B-200K --params 34B --gpu A100_80GB_SXM --link 20GB/s --d-eff 6656 "

static void test_example_as_printed(void **state)
{
	(void)state;
	assert_int_equal(plan(EXAMPLE "--context 4K"), 0);
	assert_says("983,040,000 B (0.9155 GiB)");
	assert_says("0.8923 s (0.8718 s without attention)");
	assert_says("8.458 s");
	assert_says("0.0983 s");
	assert_says("read as GiB");
	assert_says("K = 1,000");
	assert_int_equal(plan(EXAMPLE "--context 50K"), 0);
	assert_says("12,288,000,000 B (11.44 GiB)");
	assert_says("9.844 s");
	assert_says("1.229 s");
	assert_says("0.8716 GB/s");
	static const struct {
		const char *options;
		int users;
	} cases[] = {
		{"--context 4K", 18},
		{"--context 50K", 1},
		{"--context 4K --hbm 80GB", 12},
		{"--context 50K --hbm 80GB", 0},
		{"--context 100K --gpus 2", 4},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[256];

		snprintf(line, sizeof(line), EXAMPLE "%s", cases[i].options);
		json_t *document = plan_json_ending(line, cases[i].users > 0 ? 0 : 1);
		assert_int_equal(json_integer_value(json_object_get(first_point(document),
								    "concurrency_users")),
				 cases[i].users);
		json_decref(document);
	}
}

static const struct {
	const char *line, *part;
} wrong[] = {
	{"", "expected --model"},
	{"--model Yi-34B-200K", "expected --gpu"},
	{"--model Yi-34B-200K --hbm 80GiB --flops 312T --bandwidth 2TB/s", "--link"},
	{"--model Lama-3-8B --gpu L4",
	 "unknown model \"Lama-3-8B\"; the nearest are: Llama-3-8B, "},
	{"--model Llama-3.1 --gpu L4",
	 "is ambiguous: Llama-3.1-8B, Llama-3.1-70B, Llama-3.1-405B;"},
	{"--model Qwen --gpu L4", "--list"},
	{"--model Yi-34B-200K --gpu H10", "unknown GPU \"H10\"; the nearest are: "},
	{"--model Yi-34B-200K --gpu A100",
	 "is ambiguous: A100 40GB PCIe, A100 80GB SXM, A100 80GB PCIe;"},
	{"--model Yi-34B-200K --gpu H20", "H200 SXM"},
	{"--list --gpu L4", "--list takes no --gpu"},
	{"--model ./nothing.json --gpu L4", "nothing.json"},
	{"--model tests/data/configs --gpu L4", "tests/data/configs"},
	{"--model GLM-5 --gpu L4", "--params"},
	{"--model Yi-34B-200K --gpu L4 --gpus 0", "--gpus is \"0\""},
	{"--model Yi-34B-200K --gpu L4 --gpus -1", "--gpus"},
	{"--model Yi-34B-200K --gpu L4 --gpus nan", "--gpus"},
	{"--model Yi-34B-200K --gpu L4 --gpus 99999999", "--gpus"},
	{"--model Yi-34B-200K --gpu L4 --context 0", "--context"},
	{"--model Yi-34B-200K --gpu L4 --context 8K..4K", "--context"},
	{"--model Yi-34B-200K --gpu L4 --context 4K,", "--context"},
	{"--model Yi-34B-200K --gpu L4 --context 1..1000M,1..1000M,1..1000M", "64 at most"},
	{"--model Yi-34B-200K --gpu L4 --context 999999999999999999999", "--context"},
	{"--model Yi-34B-200K --gpu L4 --output-tokens 0", "--output-tokens"},
	{"--model Yi-34B-200K --gpu L4 --batch 0", "--batch"},
	{"--model Yi-34B-200K --gpu L4 --users inf", "--users"},
	{"--model Yi-34B-200K --gpu L4 --rounds 1.5", "--rounds"},
	{"--model Yi-34B-200K --gpu L4 --think-time soon", "--think-time"},
	{"--model Yi-34B-200K --gpu L4 --hbm 0", "--hbm"},
	{"--model Yi-34B-200K --gpu L4 --hbm 80gb", "--hbm"},
	{"--model Yi-34B-200K --gpu L4 --flops 312", "--flops"},
	{"--model Yi-34B-200K --gpu L4 --bandwidth -1", "--bandwidth"},
	{"--model Yi-34B-200K --gpu L4 --link 0x10", "--link"},
	{"--model Yi-34B-200K --gpu L4 --ddr lots", "--ddr"},
	{"--model Yi-34B-200K --gpu L4 --ddr 64",
	 "--ddr is \"64\": expected a size with its unit, such as 80GiB"},
	{"--model Yi-34B-200K --gpu L4 --hbm 80", "a size with its unit"},
	{"--model Yi-34B-200K --gpu L4 --nvme 4@6GB/s", "4TB@6GB/s"},
	{"--model Yi-34B-200K --gpu L4 --nvme 4TB", "--nvme"},
	{"--model Yi-34B-200K --gpu L4 --nvme 4TB@0", "--nvme"},
	{"--model Yi-34B-200K --gpu L4 --keep-layers 0", "--keep-layers"},
	{"--model Yi-34B-200K --gpu L4 --keep-heads 2", "--keep-heads"},
	{"--model Yi-34B-200K --gpu L4 --keep-tokens nan", "--keep-tokens"},
	{"--model Yi-34B-200K --gpu L4 --encoding fp4", "--encoding"},
	{"--model Yi-34B-200K --gpu L4 --d-eff 0", "--d-eff"},
	{"--model Yi-34B-200K --gpu L4 --params 1B/2B", "--params"},
	{"--model Yi-34B-200K --gpu L4 --weight-bits 0", "--weight-bits"},
	{"--model Yi-34B-200K --gpu L4 --plot picture.gif", ".svg"},
	{"--model Yi-34B-200K --gpu L4 --plot p.svg --context 4K", "several"},
	{"--model Yi-34B-200K --gpu L4 --csv --json", "not both"},
	{"--model Yi-34B-200K --gpu L4 --csv --live", "--live"},
	{"--model Yi-34B-200K --gpu L4 --switch-bytes 1MiB", "--live"},
	{"--model Yi-34B-200K --live", "--flops"},
	{"--model Yi-34B-200K --gpu L4 --live --switch-bytes 0", "--switch-bytes"},
	{"--model Yi-34B-200K --gpu L4 --live --switch-bytes 8", "a size with its unit"},
	{"--model Yi-34B-200K --gpu L4 --live --switch-bytes 2TiB", "at most 1TiB"},
	{"--model Yi-34B-200K --gpu L4 --hbm 1024TiB --gpus 1000000", "2^64"},
};

static void test_wrong_input(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int r = plan(wrong[i].line);
		if (r != 2)
			fail_msg("plan %s: exit status %d:\n%s", wrong[i].line, r, output);
		assert_says(wrong[i].part);
		assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1);
	}
}

static void test_not_fitting_says_what_would(void **state)
{
	(void)state;
	assert_int_equal(plan("--model Llama-3.1-70B --gpu H100 --context 128K"), 1);
	assert_says("the weights alone do not fit");
	assert_says("90.47 GiB too little");
	assert_says("Enough would be: 3 GPUs");
	assert_int_equal(plan(EXAMPLE "--hbm 80GB --context 50K"), 1);
	assert_says("a context of 48,828");

	assert_int_equal(plan("--model Llama-2-13B --gpu L4 --context 40K --dp-attention"), 1);
	assert_says("too little. No single change would be enough.\n");

	/* Whatever is printed; but one context length that fits is enough. */
	assert_int_equal(plan(EXAMPLE "--hbm 80GB --context 50K --csv"), 1);
	assert_int_equal(plan(EXAMPLE "--hbm 80GB --context 4K,50K"), 0);
	assert_int_equal(plan(EXAMPLE "--hbm 80GB --context 50K,4K"), 0);
	assert_int_equal(plan(EXAMPLE "--hbm 80GB --context 50K,100K"), 1);
}

static void test_short_names(void **state)
{
	(void)state;
	assert_int_equal(plan("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 4K"), 0);
	assert_says("DeepSeek-V3/R1: ");
	assert_says("8 x H200 SXM: ");
	assert_int_equal(plan("--model qwen2.5-7b-instruct --gpu h100 --context 4K"), 0);
	assert_says("Qwen2.5-7B: ");
	assert_says("1 x H100 SXM5: ");
}

static uint64_t users_of(const char *line)
{
	json_t *document = plan_json(line);
	uint64_t users = (uint64_t)real(first_point(document), "concurrency_users");
	json_decref(document);
	return users;
}

static void test_published_widths(void **state)
{
	(void)state;
	assert_int_equal(plan("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 32K"), 0);
	assert_says("weights 624.9 GiB (8 bits each)");
	assert_int_equal(plan("--model gpt-oss-120b --gpu H100 --context 32K"), 0);
	assert_says("weights 60.72 GiB (4.47 bits each)");
	assert_int_equal(plan("--model gpt-oss-120b --gpu H100 --context 32K --weight-bits 16"), 1);
}

static void test_replicated_caches(void **state)
{
	(void)state;
	assert_int_equal(plan("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 32K"), 0);
	assert_says("8 copies of each KV cache: tensor parallelism replicates a latent vector on "
		    "every GPU");
	assert_int_equal(plan("--model Qwen2.5-7B --gpu H100 --gpus 8 --context 4K,8K"), 0);
	assert_says(
		"2 copies of each KV cache: tensor parallelism replicates 4 KV heads on 8 GPUs");
	assert_int_equal(plan("--model Qwen2.5-7B --gpu H100 --gpus 4 --context 4K,8K"), 0);
	assert_null(strstr(output, "copies"));
	assert_int_equal(
		plan("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 32K --dp-attention"), 0);
	assert_null(strstr(output, "copies"));
	assert_says("data-parallel attention: the KV cache of a user is on one GPU");

	assert_int_equal(users_of("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 32K"), 30);
	json_t *document =
		plan_json("--model DeepSeek-V3 --gpu H200 --gpus 8 --context 32K --dp-attention");
	assert_true(json_is_true(
		json_object_get(json_object_get(document, "hardware"), "data_parallel_attention")));
	assert_int_equal((int)real(first_point(document), "concurrency_users"), 240);
	assert_int_equal((int)real(first_point(document), "kv_copies_ratio"), 1);
	json_decref(document);
}

static void test_list(void **state)
{
	(void)state;
	assert_int_equal(plan("--list"), 0);
	assert_says("\nDeepSeek-V3/R1 ");
	assert_says("\nRTX PRO 6000 Blackwell ");

	/* Every name in the list is one that --model and --gpu take. */
	json_t *document = plan_json("--list");
	const json_t *models = json_object_get(document, "models"),
		     *gpus = json_object_get(document, "gpus");
	assert_true(json_array_size(models) >= 40);
	assert_true(json_array_size(gpus) >= 16);
	for (size_t i = 0; i < json_array_size(models); i++) {
		const json_t *model = json_array_get(models, i);
		assert_ptr_equal(plan_model_find(json_string_value(json_object_get(model, "name"))),
				 &plan_models[i]);
		assert_true(real(model, "weight_bits") > 0);
		assert_true(json_is_string(json_object_get(model, "source")));
	}

	for (size_t i = 0; i < json_array_size(gpus); i++) {
		const json_t *gpu = json_array_get(gpus, i);
		assert_ptr_equal(plan_gpu_find(json_string_value(json_object_get(gpu, "name"))),
				 &plan_gpus[i]);
		assert_true(real(gpu, "hbm_bytes") > 0);
	}

	json_decref(document);
}

static void test_sweep_and_csv(void **state)
{
	(void)state;
	assert_int_equal(plan(EXAMPLE "--context 1K,4K..100K --csv"), 0);
	unsigned lines = 0, commas = 0, header_commas = 0;
	for (const char *c = output; *c; c++) {
		lines += *c == '\n';
		commas += *c == ',';
		header_commas += lines == 0 && *c == ',';
	}

	assert_int_equal(lines, 1 + 1 + 6); /* 4, 8, 16, 32, 64, 100K */
	assert_int_equal(commas, lines * header_commas);
	assert_says("\n100000,68000000000,");
	assert_int_equal(plan(EXAMPLE "--context 1K,4K..100K"), 0);
	assert_says("100,000");
	assert_int_equal(plan("--model tests/data/configs/gpt-oss-20b.json --gpu L40S"), 0);
	assert_says("131,072");
}

static void test_parking_in_json(void **state)
{
	(void)state;
	json_t *document = plan_json(
		EXAMPLE "--context 50K --ddr 100GB --nvme 1TB@1GB/s --users 40 --rounds 2");
	json_t *point = first_point(document);
	assert_int_equal((int)real(json_object_get(point, "ddr"), "room_users"), 8);
	assert_int_equal((int)real(json_object_get(point, "nvme"), "room_users"), 81);
	assert_int_equal((int)real(point, "parked_in_ddr_users"), 8);
	assert_int_equal((int)real(point, "parked_in_nvme_users"), 31);
	assert_int_equal((int)real(point, "without_place_users"), 0);
	assert_true(json_array_size(json_object_get(point, "changes")) == 6);
	assert_string_equal(
		json_string_value(json_object_get(
			json_object_get(json_object_get(point, "walls"), "decode"), "resource")),
		"hbm_bandwidth");
	json_decref(document);
}

/* A picture, or, where there is no gnuplot, one line that names the package and
 * nothing written. */
static void test_plot(void **state)
{
	(void)state;
	char line[512], path[128];
	snprintf(path, sizeof(path), "%s/picture.svg", daemon_.dir);
	snprintf(line, sizeof(line), EXAMPLE "--plot %s", path);
	int r = plan(line);
	if (r == 0) {
		assert_int_equal(access(path, R_OK), 0);
		assert_int_equal(unlink(path), 0);
	} else {
		assert_int_equal(r, 1);
		assert_says("gnuplot-nox");
		assert_int_not_equal(access(path, F_OK), 0);
	}
}

static void test_live_without_a_daemon(void **state)
{
	(void)state;
	assert_int_equal(plan(EXAMPLE "--live"), 1);
	assert_says("no daemon");
}

static int take_total(const void *record, size_t bytes, void *arg)
{
	assert_int_equal(bytes, sizeof(struct hbm_wire_device));
	*(uint64_t *)arg = ((const struct hbm_wire_device *)record)->total;
	return 0;
}

/* What the daemon says its device has, of which it takes a part. */
static uint64_t device_total(void)
{
	struct hbm *hbm = spawn_connect(&daemon_);
	uint64_t total = 0;

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, take_total, &total), 0);
	hbm_close(hbm);
	assert_true(total >= 192 << 20);

	return total;
}

/* A model so small that it fits on any device. */
static void test_live(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	json_t *document = plan_json("--model Llama-3.2-1B --params 1M --gpu L4 --context 1K "
				     "--nvme 1GB@1 --live --switch-bytes 8MiB");
	const json_t *live = json_object_get(document, "live"),
		     *hardware = json_object_get(document, "hardware");
	assert_string_equal(json_string_value(json_object_get(live, "note")), "");
	const json_t *switches = json_object_get(live, "switches");
	static const char *const tiers[] = {"hbm", "ddr", "nvme"};
	assert_int_equal(json_array_size(switches), 3);

	for (size_t i = 0; i < 3; i++) {
		const json_t *one = json_array_get(switches, i);

		assert_string_equal(json_string_value(json_object_get(one, "tier")), tiers[i]);
		assert_int_equal((int)real(one, "bytes"), 8 << 20);
		assert_true(real(one, "out_seconds") > 0);
		assert_true(real(one, "in_seconds") > 0);
		assert_true(real(one, "measured_by_theoretical_ratio") > 0);
	}

	const json_t *links = json_object_get(live, "links");
	assert_int_equal(json_array_size(links), HBM_LINKS);
	for (size_t i = 0; i <= HBM_LINK_HASH; i++) /* nothing is encoded */
		assert_true(real(json_array_get(links, i), "measured_bytes_per_second") > 0);
	assert_int_equal((uint64_t)real(hardware, "hbm_bytes"), device_total());
	assert_int_equal((int)real(hardware, "ddr_bytes"), 32 << 20);
	assert_int_equal((int)real(hardware, "nvme_bytes"), 64 << 20);
	assert_true(real(hardware, "link_in_bytes_per_second") ==
		    real(json_array_get(links, HBM_LINK_H2D), "measured_bytes_per_second"));
	json_decref(document);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	assert_int_equal(status.blocks, 0);
	assert_int_equal(status.namespaces, 0);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Blocks of zeros that are encoded take one sixteenth of NVMe: it holds as much more. */
static void test_live_counts_what_encoded_blocks_take(void **state)
{
	(void)state;
	enum { BLOCK = 64 << 10, BLOCKS = 4 };
	const struct hbm_namespace_options options = {
		.model = "zeros", .block_bytes = BLOCK, .encoding = HBM_ENCODING_LOSSLESS};
	static const char zeros[BLOCK];
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	struct kv kv;

	spawn_start(&daemon_, NULL, NULL);
	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);
	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_write(&kv, hbm_region_address(kv.region) + i * BLOCK, zeros, BLOCK);
	kv_blocks(&kv, 0, 1, BLOCKS, 0, blocks, segments);
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, BLOCKS, NULL), 0);
	kv_push_to_nvme(&kv);

	json_t *document = plan_json("--model Llama-3.2-1B --params 1M --gpu L4 --context 1K "
				     "--nvme 1GB@1 --live --switch-bytes 8MiB");
	assert_true(real(json_object_get(document, "live"), "nvme_logical_by_stored_ratio") == 16);
	assert_true(real(json_object_get(document, "hardware"), "nvme_bytes") == 1 << 30);
	json_decref(document);

	document = plan_json("--model Llama-3.2-1B --params 1M --gpu L4 --context 1K --encoding "
			     "fp8 --nvme 1GB@1 --live --switch-bytes 8MiB");
	assert_true(real(json_object_get(document, "hardware"), "nvme_bytes") == 64 << 20);
	json_decref(document);
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* A tier that cannot take the bytes is left out, and the reason said; here with a
 * model that fits on no device, which is measured all the same. */
static void test_live_leaves_out_what_does_not_fit(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	json_t *document = plan_json_ending("--model Llama-3.2-1B --params 1T --gpu L4 --context "
					    "4K --live --switch-bytes 24MiB",
					    1);
	const json_t *live = json_object_get(document, "live");
	const char *note = json_string_value(json_object_get(live, "note"));
	if (!strstr(note, "hbm not measured") ||
	    json_array_size(json_object_get(live, "switches")) != 2)
		fail_msg("not \"hbm not measured\" and two switches:\n%s", output);

	json_decref(document);
	assert_int_equal(plan("--model Llama-3.2-1B --gpu L4 --live --switch-bytes 1TiB"), 1);
	spawn_settle(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_example_as_printed, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_input, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_not_fitting_says_what_would, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_short_names, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_published_widths, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_replicated_caches, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_list, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_sweep_and_csv, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_parking_in_json, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_plot, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_live_without_a_daemon, stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_live, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_live_counts_what_encoded_blocks_take,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_live_leaves_out_what_does_not_fit, stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
