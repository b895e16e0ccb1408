/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json files of each family, with the values of the published ones: the same facts
 * come out that the built-in table has, and parameters within two in a hundred of the
 * published count. And files with something wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/plan_config.c"
#include "client/ctl/plan_shapes.c"

#define FOLDER "tests/data/configs/"

static struct plan_config read_good(const char *file)
{
	struct plan_config config;
	char path[128], error[512] = "";

	snprintf(path, sizeof(path), FOLDER "%s.json", file);
	int r = plan_config_read(path, &config, error, sizeof(error));
	assert_string_equal(error, "");
	assert_int_equal(r, 0);
	assert_string_equal(config.name, path);

	return config;
}

static void assert_about(double value, double expected)
{
	assert_true(value > 0.98 * expected && value < 1.02 * expected);
}

static void test_same_as_the_table(void **state)
{
	(void)state;
	static const struct {
		const char *file, *name;
	} cases[] = {
		{"Llama-3.1-8B", "Llama-3.1-8B"},
		{"Mistral-7B-v0.1", "Mistral-7B-v0.1"},
		{"Mixtral-8x7B", "Mixtral-8x7B"},
		{"Qwen2.5-7B", "Qwen2.5-7B"},
		{"Gemma-2-9B", "Gemma-2-9B"},
		{"Gemma-3-27B", "Gemma-3-27B"},
		{"DeepSeek-V2", "DeepSeek-V2"},
		{"DeepSeek-V3", "DeepSeek-V3/R1"},
		{"Phi-4", "Phi-4"},
		{"Qwen3-30B-A3B", "Qwen3-30B-A3B"},
		{"gpt-oss-20b", "gpt-oss-20b"},
		{"gpt-oss-120b", "gpt-oss-120b"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan_config config = read_good(cases[i].file);
		const struct plan_model *read = &config.model,
					*known = plan_model_find(cases[i].name);

		assert_non_null(known);
		assert_int_equal(read->layers, known->layers);
		assert_int_equal(read->windowed_layers, known->windowed_layers);
		assert_int_equal(read->window, known->window);
		assert_int_equal(read->q_heads, known->q_heads);
		assert_int_equal(read->hidden, known->hidden);
		assert_int_equal(read->kv_heads, known->kv_heads);
		assert_int_equal(read->head_dim, known->head_dim);
		assert_int_equal(read->latent_dim, known->latent_dim);
		assert_int_equal(read->element_bits, known->element_bits);
		assert_int_equal(read->attention_width, known->attention_width);
		assert_int_equal(read->max_context, known->max_context);
		assert_about((double)read->params, (double)known->params);
		assert_about(read->weight_bits, known->weight_bits);
	}
}

/* Published counts of active parameters leave out the embeddings or not, as their
 * authors please: a wide margin. */
static void test_active_parameters(void **state)
{
	(void)state;
	static const char *const names[] = {"Mixtral-8x7B", "Qwen3-30B-A3B", "DeepSeek-V2",
					    "gpt-oss-20b", "gpt-oss-120b"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct plan_config config = read_good(names[i]);
		double known = (double)plan_model_find(names[i])->active_params;
		double read = (double)config.model.active_params;
		assert_true(read > 0.85 * known && read < 1.25 * known);
	}

	struct plan_config dense = read_good("Llama-3.1-8B");
	assert_int_equal(dense.model.active_params, dense.model.params);
}

/* The published files of gpt-oss-20b hold 13.8e9 bytes, of 120b 65.2e9. */
static void test_weights_of_mixed_width(void **state)
{
	(void)state;
	struct plan_config small = read_good("gpt-oss-20b"), large = read_good("gpt-oss-120b");
	assert_about((double)small.model.params * small.model.weight_bits / 8, 13.76e9);
	assert_about((double)large.model.params * large.model.weight_bits / 8, 65.2e9);
}

static void test_phi(void **state)
{
	(void)state;
	struct plan_config two = read_good("Phi-2"), three = read_good("Phi-3-mini-4k");
	assert_int_equal(two.model.kv_heads, 32);
	assert_int_equal(two.model.head_dim, 80);
	assert_about((double)two.model.params, 2.78e9);
	assert_about((double)three.model.params, 3.82e9);

	/* The file asks for a window in every layer; the row of the table was made
	 * without. */
	assert_int_equal(three.model.windowed_layers, 32);
	assert_int_equal(three.model.window, 2047);
}

/* ---- Wrong files ---- */

static int read_text(const char *content, char *error, size_t error_size)
{
	char path[] = "/tmp/test_plan_config.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
	struct plan_config config;
	int r = plan_config_read(path, &config, error, error_size);
	unlink(path);

	return r;
}

static void assert_refused(const char *content, const char *part)
{
	char error[512] = "";
	assert_int_equal(read_text(content, error, sizeof(error)), -1);
	assert_null(strchr(error, '\n'));
	if (!strstr(error, part))
		fail_msg("\"%s\" does not say \"%s\"", error, part);
}

/* The fixture as an object, to be changed. */
static json_t *fixture(const char *file)
{
	char path[128];
	snprintf(path, sizeof(path), FOLDER "%s.json", file);
	json_t *object = json_load_file(path, 0, NULL);
	assert_non_null(object);
	return object;
}

static void assert_object_refused(json_t *object, const char *part)
{
	char *content = json_dumps(object, 0);
	assert_refused(content, part);
	free(content);
	json_decref(object);
}

static void test_missing_fields_are_named(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"Llama-3.1-8B", "model_type"},        {"Llama-3.1-8B", "num_hidden_layers"},
		{"Llama-3.1-8B", "hidden_size"},       {"Llama-3.1-8B", "num_attention_heads"},
		{"Llama-3.1-8B", "vocab_size"},        {"Llama-3.1-8B", "intermediate_size"},
		{"Mixtral-8x7B", "num_local_experts"}, {"Mixtral-8x7B", "num_experts_per_tok"},
		{"Qwen3-30B-A3B", "num_experts"},      {"Qwen3-30B-A3B", "moe_intermediate_size"},
		{"Gemma-2-9B", "sliding_window"},      {"DeepSeek-V3", "qk_rope_head_dim"},
		{"DeepSeek-V3", "v_head_dim"},         {"Phi-4", "max_position_embeddings"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *object = fixture(cases[i][0]);
		assert_int_equal(json_object_del(object, cases[i][1]), 0);
		assert_object_refused(object, cases[i][1]);
	}
}

static void test_wrong_values_are_named(void **state)
{
	(void)state;
	static const char *const values[] = {
		"0", "-1", "1.5", "\"8\"", "[]", "true", "9223372036854775807"};
	static const char *const fields[] = {"num_hidden_layers",   "hidden_size",
					     "num_attention_heads", "vocab_size",
					     "intermediate_size",   "max_position_embeddings",
					     "num_key_value_heads"};
	for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			json_t *object = fixture("Llama-3.1-8B");
			json_object_set_new(object, fields[f],
					    json_loads(values[v], JSON_DECODE_ANY, NULL));
			assert_object_refused(object, fields[f]);
		}
	}
}

static void test_contradictions(void **state)
{
	(void)state;
	json_t *object = fixture("gpt-oss-20b");
	json_array_remove(json_object_get(object, "layer_types"), 0);
	assert_object_refused(object, "layer_types");
	object = fixture("gpt-oss-20b");
	json_array_set_new(json_object_get(object, "layer_types"), 3,
			   json_string("linear_attention"));
	assert_object_refused(object, "linear_attention");
	object = fixture("Llama-3.1-8B");
	json_object_set_new(object, "num_key_value_heads", json_integer(7));
	assert_object_refused(object, "num_key_value_heads");
	object = fixture("Llama-3.1-8B");
	json_object_set_new(object, "num_attention_heads", json_integer(24));
	json_object_set_new(object, "num_key_value_heads", json_integer(8));
	assert_object_refused(object, "head_dim");
	object = fixture("Llama-3.1-8B");
	json_object_set_new(object, "model_type", json_string("rwkv"));
	assert_object_refused(object, "rwkv");
	object = fixture("Llama-3.1-8B");
	json_object_set_new(object, "quantization_config",
			    json_pack("{s:s}", "quant_method", "unheard-of"));
	assert_object_refused(object, "quantization_config");
}

static void test_not_a_config(void **state)
{
	(void)state;
	assert_refused("", "expected");
	assert_refused("[]", "object");
	assert_refused("{\"model_type\": \"llama\"", "expected");
	assert_refused("{}", "model_type");
	char error[512];
	struct plan_config config;
	assert_int_equal(
		plan_config_read("/nonexistent/config.json", &config, error, sizeof(error)), -1);
	assert_non_null(strstr(error, "No such file"));
}

static void test_variations(void **state)
{
	(void)state;
	json_t *object = fixture("Qwen2.5-7B");
	json_object_set_new(object, "use_sliding_window", json_true());
	json_object_set_new(object, "max_window_layers", json_integer(20));
	struct reader reader = {.path = "", .error = (char[64]){""}, .error_size = 64};
	struct plan_model model = {.layers = 0};
	plan_config_read_model(&reader, object, &model);
	json_decref(object);
	assert_false(reader.failed);
	assert_int_equal(model.windowed_layers, 8);
	assert_int_equal(model.window, 131072);
	object = fixture("Llama-3.1-8B");
	json_object_set_new(object, "quantization_config",
			    json_pack("{s:s,s:i}", "quant_method", "awq", "bits", 4));
	json_object_set_new(object, "torch_dtype", json_string("float32"));
	plan_config_read_model(&reader, object, &model);
	json_decref(object);
	assert_false(reader.failed);
	assert_true(model.weight_bits == 4);
	assert_int_equal(model.element_bits, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_the_table),
		cmocka_unit_test(test_active_parameters),
		cmocka_unit_test(test_weights_of_mixed_width),
		cmocka_unit_test(test_phi),
		cmocka_unit_test(test_missing_fields_are_named),
		cmocka_unit_test(test_wrong_values_are_named),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_not_a_config),
		cmocka_unit_test(test_variations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
