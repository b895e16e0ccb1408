/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in tables of models and GPUs: every row makes sense, and where the CSV files they were made from are at
 * hand (in the folder HBM_DATA_DIR), every figure is the same. And finding a row by name.
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
		for (from += quoted; *from && (quoted ? *from != '"' || from[1] == '"' : *from != ','); from++) {
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

static bool csv_open(struct csv *csv, const char *name)
{
	const char *folder = getenv("HBM_DATA_DIR");
	char path[1024];
	if (!folder) {
		print_message("SKIP %s is not compared with the tables: HBM_DATA_DIR is not set\n", name);
		return false;
	}
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	csv->file = fopen(path, "r");
	if (!csv->file)
		fail_msg("HBM_DATA_DIR: cannot open %s", path);
	assert_non_null(fgets(csv->header, sizeof(csv->header), csv->file));
	csv->count = split(csv->header, csv->names);
	return true;
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
	if (!csv_open(&csv, "models.csv"))
		skip();
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
	if (!csv_open(&csv, "gpus.csv"))
		skip();
	for (; csv_next(&csv); row++) {
		assert_in_range(row, 0, plan_gpu_count - 1);
		const struct plan_gpu *gpu = &plan_gpus[row];
		assert_string_equal(gpu->name, text(&csv, "gpu"));
		assert_string_equal(gpu->host_link, text(&csv, "host_link"));
		assert_int_equal(gpu->hbm_bytes, whole(&csv, "memory_gb") << 30);
		assert_same(gpu->flop_s, number(&csv, "bf16_dense_tflops") * 1e12);
		assert_same(gpu->hbm_bytes_s, number(&csv, "mem_bw_gb_s") * 1e9);
		assert_same(gpu->link_bytes_s, number(&csv, "host_link_gb_s_per_direction") * 1e9);
		assert_same(gpu->gpu_link_bytes_s, number(&csv, "gpu_gpu_gb_s_bidirectional") * 1e9);
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
	assert_null(plan_model_find("no such model"));
	assert_null(plan_gpu_find(""));
}

static const char *const fruit[] = {"apple", "pear", "peach", "plum", "pineapple"};

static const char *fruit_name(size_t index)
{
	return fruit[index];
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
		cmocka_unit_test(test_nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
