/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in tables of models and GPUs: every row makes sense, and every figure is that
 * of the CSV files they were made from. And finding a row by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/plan/gpu.h"
#include "client/plan/model.h"
#include "client/plan/names.h"

#define FIELDS_MAX 32
#define LINE_MAX_BYTES 4096

struct csv {
	FILE *file;
	char header[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	char *names[FIELDS_MAX], *values[FIELDS_MAX];
	size_t count;
};

/* Splits in place; quotes around a field go, and two of them inside are one. */
static size_t split(char *line, char **fields)
{
	size_t count = 0;
	line[strcspn(line, "\r\n")] = '\0';
	for (char *from = line; from && count < FIELDS_MAX; count++) {
		char *to = from;
		bool quoted = *from == '"';

		fields[count] = to;

		for (from += quoted;
		     *from && (quoted ? *from != '"' || from[1] == '"' : *from != ','); from++) {
			from += quoted && *from == '"';
			*to++ = *from;
		}

		from += quoted && *from == '"';
		char *next = *from == ',' ? from + 1 : NULL;
		*to = '\0';
		from = next;
	}

	return count;
}

static void csv_open(struct csv *csv, const char *path)
{
	csv->file = fopen(path, "r");
	assert_non_null(csv->file);
	assert_non_null(fgets(csv->header, sizeof(csv->header), csv->file));
	csv->count = split(csv->header, csv->names);
}

static bool csv_next(struct csv *csv)
{
	if (!fgets(csv->line, sizeof(csv->line), csv->file)) {
		fclose(csv->file);
		return false;
	}

	assert_int_equal(split(csv->line, csv->values), csv->count);
	return true;
}

static const char *text(const struct csv *csv, const char *name)
{
	for (size_t i = 0; i < csv->count; i++) {
		if (strcmp(csv->names[i], name) == 0)
			return csv->values[i];
	}

	fail_msg("there is no column %s", name);
	return "";
}

static double number(const struct csv *csv, const char *name)
{
	return strtod(text(csv, name), NULL);
}

/* Rounded to millions, as the table keeps it. */
static uint64_t millions(const struct csv *csv, const char *name)
{
	return (uint64_t)(number(csv, name) * 1000 + 0.5) * 1000000;
}

static uint64_t whole(const struct csv *csv, const char *name)
{
	return (uint64_t)number(csv, name);
}

static void compare_model(const struct csv *csv, const struct plan_model *model)
{
	assert_string_equal(model->name, text(csv, "model"));
	assert_string_equal(model->hf_id, text(csv, "hf_id"));
	assert_string_equal(model->source, text(csv, "source"));
	assert_int_equal(model->layers, whole(csv, "layers"));
	assert_int_equal(model->windowed_layers, whole(csv, "swa_layers"));
	assert_int_equal(model->q_heads, whole(csv, "q_heads"));
	assert_int_equal(model->kv_heads, whole(csv, "kv_heads"));
	assert_int_equal(model->head_dim, whole(csv, "head_dim"));
	assert_int_equal(model->hidden, whole(csv, "hidden_size"));
	assert_int_equal(model->params, millions(csv, "params_b"));
	assert_int_equal(model->active_params, millions(csv, "active_params_b"));
	assert_int_equal(model->max_context, whole(csv, "max_context"));
	assert_int_equal(2 * plan_model_elements(model), whole(csv, "bytes_per_token_per_layer"));
	uint64_t all = model->layers * 2 * plan_model_elements(model);
	assert_int_equal(all, whole(csv, "kv_bytes_per_token_all_layers"));
	if (model->windowed_layers)
		assert_int_equal(model->window, whole(csv, "swa_window"));
}

static void test_models_are_the_csv(void **state)
{
	(void)state;
	struct csv csv;
	size_t row = 0;

	csv_open(&csv, "tests/data/models.csv");

	for (; csv_next(&csv); row++) {
		assert_in_range(row, 0, plan_model_count - 1);
		compare_model(&csv, &plan_models[row]);
	}

	assert_int_equal(row, plan_model_count);
}

static void assert_same(double value, double expected)
{
	assert_true(value >= expected * (1 - 1e-12) && value <= expected * (1 + 1e-12));
}

static void test_gpus_are_the_csv(void **state)
{
	(void)state;
	struct csv csv;
	size_t row = 0;

	csv_open(&csv, "tests/data/gpus.csv");

	for (; csv_next(&csv); row++) {
		assert_in_range(row, 0, plan_gpu_count - 1);
		const struct plan_gpu *gpu = &plan_gpus[row];
		assert_string_equal(gpu->name, text(&csv, "gpu"));
		assert_string_equal(gpu->host_link, text(&csv, "host_link"));
		assert_int_equal(gpu->hbm_bytes, whole(&csv, "memory_gb") << 30);
		assert_same(gpu->flop_s, number(&csv, "bf16_dense_tflops") * 1e12);
		assert_same(gpu->hbm_bytes_s, number(&csv, "mem_bw_gb_s") * 1e9);
		assert_same(gpu->link_bytes_s, number(&csv, "host_link_gb_s_per_direction") * 1e9);
		assert_same(gpu->gpu_link_bytes_s,
			    number(&csv, "gpu_gpu_gb_s_bidirectional") * 1e9);
	}

	assert_int_equal(row, plan_gpu_count);
}

static void test_rows_make_sense(void **state)
{
	(void)state;
	for (size_t i = 0; i < plan_model_count; i++) {
		const struct plan_model *model = &plan_models[i];

		assert_in_range(model->windowed_layers, 0, model->layers);
		assert_in_range(model->active_params, 0, model->params);
		assert_int_equal(model->window == 0, model->windowed_layers == 0);
		assert_int_not_equal(model->latent_dim == 0, model->kv_heads == 0);
		assert_in_range(model->attention_width, 1, 1 << 20);
		assert_true(strlen(model->source) > 0);
		assert_ptr_equal(plan_model_find(model->name), model);
		assert_ptr_equal(plan_model_find(model->hf_id), model);
	}

	for (size_t i = 0; i < plan_gpu_count; i++) {
		assert_true(strlen(plan_gpus[i].source) > 0);
		assert_ptr_equal(plan_gpu_find(plan_gpus[i].name), &plan_gpus[i]);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_true(names_equal("A100 80GB SXM", "a100-80gb-sxm"));
	assert_false(names_equal("A100", "A100 80GB SXM"));
	assert_int_equal(names_distance("yi-34b-200k", "Yi-34B-200K"), 0);
	assert_int_equal(names_distance("A100", "A100 80GB SXM"), 1);
	assert_int_equal(names_distance("kitten", "sitting"), 6);
	assert_int_equal(names_distance("", "abc"), 6);
}

static void test_a_name_ends_where_a_word_does(void **state)
{
	(void)state;
	assert_true(names_begins("H100 SXM5", "h100"));
	assert_true(names_begins("DeepSeek-V3/R1", "deepseekv3"));
	assert_true(names_begins("Yi-34B-200K", "Yi 34B"));
	assert_true(names_begins("L4", "l-4"));
	assert_false(names_begins("H200 SXM", "H20"));
	assert_false(names_begins("L40S", "L40"));
	assert_false(names_begins("GLM-4.5", "GLM-4"));
	assert_false(names_begins("H100 SXM5", "100"));
	assert_false(names_begins("H100", "H100 SXM5"));
	assert_false(names_begins("H100", ""));
	assert_false(names_begins("H100", "--"));
	assert_false(names_begins("/R1", ""));
}

static void test_short_names(void **state)
{
	(void)state;
	static const struct {
		const char *asked, *model; /* NULL: none, or several */
	} models[] = {
		{"DeepSeek-V3", "DeepSeek-V3/R1"},
		{"deepseekv3", "DeepSeek-V3/R1"},
		{"DeepSeek-R1", "DeepSeek-V3/R1"},
		{"mistral-7b", "Mistral-7B-v0.1"},
		{"Meta-Llama-3-8B", "Llama-3-8B"},
		{"Llama-3.1-8B-Instruct", "Llama-3.1-8B"},
		{"GLM-4.5", "GLM-4.5"},
		{"Phi-4", "Phi-4"},
		{"Llama-3.1", NULL},
		{"Command-R", NULL},
		{"deepseek-ai", NULL},
		{"no such model", NULL},
		{"", NULL},
	};
	static const struct {
		const char *asked, *gpu;
	} gpus[] = {
		{"H100", "H100 SXM5"}, {"h200", "H200 SXM"},
		{"B200", "B200 SXM"},  {"GB200", "GB200 (per GPU)"},
		{"L4", "L4"},          {"RTX 6000", "RTX 6000 Ada"},
		{"A10", "A10"},        {"A100", NULL},
		{"A100-80GB", NULL},   {"H20", NULL},
		{"L40", NULL},         {"", NULL},
	};

	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		const struct plan_model *found = plan_model_find(models[i].asked);
		assert_int_equal(!found, !models[i].model);
		if (found)
			assert_string_equal(found->name, models[i].model);
	}

	for (size_t i = 0; i < sizeof(gpus) / sizeof(gpus[0]); i++) {
		const struct plan_gpu *found = plan_gpu_find(gpus[i].asked);
		assert_int_equal(!found, !gpus[i].gpu);
		if (found)
			assert_string_equal(found->name, gpus[i].gpu);
	}
}

static void test_published_widths(void **state)
{
	(void)state;
	assert_true(plan_model_find("DeepSeek-V3")->weight_bits == 8);
	assert_true(plan_model_find("Kimi-K2")->weight_bits == 8);
	assert_true(plan_model_find("Llama-3.1-70B")->weight_bits == 16);

	uint64_t bytes;
	assert_true(plan_model_weight_bytes(plan_model_find("gpt-oss-120b"), &bytes));
	assert_in_range(bytes, 65199000000, 65201000000);
	assert_true(plan_model_weight_bytes(plan_model_find("gpt-oss-20b"), &bytes));
	assert_in_range(bytes, 13759000000, 13761000000);
}

static const char *const fruit[] = {"apple", "pear", "peach", "plum", "pineapple"};

static const char *fruit_name(size_t row, unsigned which)
{
	return which == 0 ? fruit[row] : NULL;
}

static void test_find_counts_what_it_does_not_return(void **state)
{
	(void)state;
	static const size_t untouched = 99;
	size_t found[2] = {untouched, untouched};

	assert_int_equal(names_find("pear", fruit_name, 5, found, 2), 1);
	assert_int_equal(found[0], 1);
	assert_int_equal(names_find("A100", plan_gpu_name, plan_gpu_count, found, 1), 3);
	assert_string_equal(plan_gpus[found[0]].name, "A100 40GB PCIe");
	assert_int_equal(found[1], untouched);
	assert_int_equal(names_find("cherry", fruit_name, 5, found, 2), 0);
}

static void test_nearest(void **state)
{
	(void)state;
	size_t nearest[5];
	assert_int_equal(names_nearest("appel", fruit_name, 5, nearest, 2), 2);
	assert_int_equal(nearest[0], 0);
	assert_int_equal(names_nearest("apple", fruit_name, 5, nearest, 2), 2);
	assert_int_equal(nearest[0], 0);
	assert_int_equal(nearest[1], 4);
	assert_int_equal(names_nearest("peac", fruit_name, 5, nearest, 5), 5);
	assert_int_equal(nearest[0], 2);
	assert_int_equal(nearest[1], 1);
	assert_int_equal(names_nearest("x", fruit_name, 5, nearest, 0), 0);
	char long_name[1000];
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(names_nearest(long_name, fruit_name, 5, nearest, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_models_are_the_csv),
		cmocka_unit_test(test_gpus_are_the_csv),
		cmocka_unit_test(test_rows_make_sense),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_a_name_ends_where_a_word_does),
		cmocka_unit_test(test_short_names),
		cmocka_unit_test(test_published_widths),
		cmocka_unit_test(test_find_counts_what_it_does_not_return),
		cmocka_unit_test(test_nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
