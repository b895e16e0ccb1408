/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_config: see plan_config.h. A reader keeps the first error, so that the code can read
 * all fields and check once. null counts as absent, as in the families' own code.
 */
#include "client/ctl/plan_config.h"
#include "client/ctl/plan_shapes.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIELD_MAX 100000000 /* no shape of a model is larger */
#define HEADS_MAX 65536
#define HEAD_DIM_MAX 16384
#define LAYERS_MAX 100000
#define PARAMS_MAX 1e15
#define MXFP4_BITS 4.25 /* 4, and 8 for every 32 of them */

enum windows {
	WINDOWS_NONE,   /* a sliding_window is ignored */
	WINDOWS_ALL,    /* every layer, if there is a sliding_window */
	WINDOWS_LATE,   /* the layers from max_window_layers on, if use_sliding_window */
	WINDOWS_PERIOD, /* all but every n-th */
};

static const struct family {
	const char *type;
	enum windows windows;
	uint32_t period;                    /* WINDOWS_PERIOD, where the file says nothing */
	uint32_t matrices;                  /* of a feed-forward block */
	bool tied;                          /* where the file says nothing */
	const char *experts, *expert_width; /* the fields that name them; NULL: there are none */
} families[] = {
	{"llama", WINDOWS_NONE, 0, 3, false, NULL, NULL},
	{"mistral", WINDOWS_ALL, 0, 3, false, NULL, NULL},
	{"mixtral", WINDOWS_ALL, 0, 3, false, "num_local_experts", "intermediate_size"},
	{"qwen2", WINDOWS_LATE, 0, 3, false, NULL, NULL},
	{"qwen2_moe", WINDOWS_LATE, 0, 3, false, "num_experts", "moe_intermediate_size"},
	{"qwen3", WINDOWS_LATE, 0, 3, false, NULL, NULL},
	{"qwen3_moe", WINDOWS_LATE, 0, 3, false, "num_experts", "moe_intermediate_size"},
	{"gemma", WINDOWS_NONE, 0, 3, true, NULL, NULL},
	{"gemma2", WINDOWS_PERIOD, 2, 3, true, NULL, NULL},
	{"gemma3_text", WINDOWS_PERIOD, 6, 3, true, NULL, NULL},
	{"deepseek_v2", WINDOWS_NONE, 0, 3, false, "n_routed_experts", "moe_intermediate_size"},
	{"deepseek_v3", WINDOWS_NONE, 0, 3, false, "n_routed_experts", "moe_intermediate_size"},
	{"kimi_k2", WINDOWS_NONE, 0, 3, false, "n_routed_experts", "moe_intermediate_size"},
	{"glm4_moe", WINDOWS_NONE, 0, 3, false, "n_routed_experts", "moe_intermediate_size"},
	{"phi", WINDOWS_NONE, 0, 2, false, NULL, NULL},
	{"phi3", WINDOWS_ALL, 0, 3, false, NULL, NULL},
	{"gpt_oss", WINDOWS_PERIOD, 2, 3, false, "num_local_experts", "intermediate_size"},
	{"cohere", WINDOWS_NONE, 0, 3, true, NULL, NULL},
};
#define FAMILY_COUNT (sizeof(families) / sizeof(families[0]))

struct reader {
	const char *path;
	json_t *object;
	char *error;
	size_t error_size;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void plan_config_wrong(struct reader *reader,
								    const char *format, ...)
{
	if (reader->failed)
		return;

	reader->failed = true;

	int used = snprintf(reader->error, reader->error_size, "%s: ", reader->path);
	if (used < 0 || (size_t)used >= reader->error_size)
		return;

	va_list arguments;
	va_start(arguments, format);
	vsnprintf(reader->error + used, reader->error_size - (size_t)used, format, arguments);
	va_end(arguments);
}

/* The member, or NULL where it is absent or null. */
static json_t *plan_config_member(const struct reader *reader, const char *name)
{
	json_t *value = json_object_get(reader->object, name);
	return json_is_null(value) ? NULL : value;
}

static uint32_t plan_config_whole(struct reader *reader, const char *name, json_t *value,
				  uint32_t least, uint32_t most)
{
	json_int_t number = json_integer_value(value);
	if (json_is_integer(value) && number >= (json_int_t)least && number <= (json_int_t)most)
		return (uint32_t)number;
	plan_config_wrong(reader, "%s is not a whole number from %u to %u", name, least, most);
	return least;
}

static uint32_t plan_config_required(struct reader *reader, const char *name, uint32_t most)
{
	json_t *value = plan_config_member(reader, name);
	if (value)
		return plan_config_whole(reader, name, value, 1, most);
	plan_config_wrong(reader, "has no %s", name);
	return 1;
}

static uint32_t plan_config_optional(struct reader *reader, const char *name, uint32_t otherwise,
				     uint32_t most)
{
	json_t *value = plan_config_member(reader, name);
	return value ? plan_config_whole(reader, name, value, 0, most) : otherwise;
}

static bool plan_config_flag(const struct reader *reader, const char *name, bool otherwise)
{
	json_t *value = plan_config_member(reader, name);
	return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *plan_config_text(const struct reader *reader, const char *name)
{
	return json_string_value(plan_config_member(reader, name));
}

/* ---- The cache ---- */

/* Layers of type "sliding_attention"; a list names the type of each layer. */
static uint32_t plan_config_listed_windows(struct reader *reader, json_t *list, uint32_t layers)
{
	if (!json_is_array(list) || json_array_size(list) != layers) {
		plan_config_wrong(reader, "layer_types does not list num_hidden_layers = %u layers",
				  layers);
		return 0;
	}

	uint32_t windowed = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *type = json_string_value(json_array_get(list, i));
		bool sliding = type && strcmp(type, "sliding_attention") == 0;
		if (!sliding && (!type || strcmp(type, "full_attention") != 0))
			plan_config_wrong(reader,
					  "layer_types has \"%s\", which is neither full_attention "
					  "nor sliding_attention",
					  type ? type : "");

		windowed += sliding;
	}

	return windowed;
}

static uint32_t plan_config_ruled_windows(struct reader *reader, const struct family *family,
					  uint32_t layers)
{
	if (family->windows == WINDOWS_ALL)
		return layers;
	if (family->windows == WINDOWS_LATE &&
	    plan_config_flag(reader, "use_sliding_window", false)) {
		uint32_t full =
			plan_config_optional(reader, "max_window_layers", layers, LAYERS_MAX);
		return full < layers ? layers - full : 0;
	}

	if (family->windows == WINDOWS_PERIOD) {
		uint32_t period = plan_config_optional(reader, "sliding_window_pattern",
						       family->period, LAYERS_MAX);
		return period ? layers - layers / period : 0;
	}

	return 0;
}

static void plan_config_read_windows(struct reader *reader, const struct family *family,
				     struct plan_model *model)
{
	uint32_t layers = model->layers,
		 window = plan_config_optional(reader, "sliding_window", 0, FIELD_MAX);

	if (family->windows == WINDOWS_NONE)
		return;

	if (family->windows == WINDOWS_LATE &&
	    !plan_config_flag(reader, "use_sliding_window", false))
		return;

	json_t *list = plan_config_member(reader, "layer_types");
	uint32_t windowed = list ? plan_config_listed_windows(reader, list, layers)
				 : plan_config_ruled_windows(reader, family, layers);
	if (window == 0 && family->windows == WINDOWS_PERIOD && windowed > 0)
		plan_config_wrong(reader, "has no sliding_window");

	model->windowed_layers = window ? windowed : 0;
	model->window = model->windowed_layers ? window : 0;
}

/* The size of a head where no field gives it: equal parts of the hidden size. */
static uint32_t plan_config_head_dim(struct reader *reader, const struct plan_shapes *shapes)
{
	if (plan_config_member(reader, "head_dim"))
		return plan_config_required(reader, "head_dim", HEAD_DIM_MAX);

	if (shapes->hidden % shapes->heads != 0)
		plan_config_wrong(reader, "has no head_dim, and hidden_size is not a multiple of "
					  "num_attention_heads");

	uint32_t part = shapes->hidden / shapes->heads;
	if (part == 0 || part > HEAD_DIM_MAX)
		plan_config_wrong(reader,
				  "hidden_size by num_attention_heads is %u: expected 1 to %u",
				  part, HEAD_DIM_MAX);

	return part;
}

static void plan_config_read_attention(struct reader *reader, struct plan_model *model,
				       struct plan_shapes *shapes)
{
	uint32_t value_dim, key_dim;

	if (plan_config_member(reader, "kv_lora_rank")) {
		shapes->kv_rank = plan_config_required(reader, "kv_lora_rank", HEAD_DIM_MAX);
		shapes->rope_dim = plan_config_required(reader, "qk_rope_head_dim", HEAD_DIM_MAX);
		shapes->nope_dim =
			plan_config_required(reader, "qk_nope_head_dim", HEAD_DIM_MAX / 4);
		shapes->value_dim = plan_config_required(reader, "v_head_dim", HEAD_DIM_MAX / 2);
		shapes->q_rank = plan_config_optional(reader, "q_lora_rank", 0, FIELD_MAX);
		model->latent_dim = shapes->kv_rank + shapes->rope_dim +
				    plan_config_optional(reader, "index_head_dim", 0, HEAD_DIM_MAX);
		key_dim = shapes->nope_dim + shapes->rope_dim;
		value_dim = shapes->value_dim;
	} else {
		shapes->head_dim = value_dim = key_dim = plan_config_head_dim(reader, shapes);
		shapes->kv_heads = plan_config_optional(reader, "num_key_value_heads",
							shapes->heads, HEADS_MAX);
		if (shapes->kv_heads == 0 || shapes->heads % shapes->kv_heads != 0)
			plan_config_wrong(
				reader,
				"num_attention_heads is not a multiple of num_key_value_heads");

		model->kv_heads = shapes->kv_heads;
		model->head_dim = shapes->head_dim;
	}

	model->attention_width = shapes->heads * (key_dim + value_dim);
}

/* ---- The weights ---- */

static void plan_config_read_experts(struct reader *reader, const struct family *family,
				     struct plan_shapes *shapes)
{
	shapes->dense_layers = shapes->layers;
	shapes->width = plan_config_required(reader, "intermediate_size", FIELD_MAX);

	if (!family->experts || (strncmp(family->type, "deepseek", 8) == 0 &&
				 !plan_config_member(reader, family->experts)))
		return;

	shapes->experts = plan_config_required(reader, family->experts, FIELD_MAX);

	const char *used = plan_config_member(reader, "experts_per_token") ? "experts_per_token"
									   : "num_experts_per_tok";
	shapes->experts_used = plan_config_required(reader, used, shapes->experts);
	shapes->expert_width = plan_config_required(reader, family->expert_width, FIELD_MAX);

	uint32_t shared = plan_config_optional(reader, "n_shared_experts", 0, 1000);
	shapes->shared_width = plan_config_optional(reader, "shared_expert_intermediate_size",
						    shared * shapes->expert_width, FIELD_MAX);

	json_t *listed = plan_config_member(reader, "mlp_only_layers");
	uint32_t dense = (uint32_t)json_array_size(listed);
	shapes->dense_layers =
		plan_config_optional(reader, "first_k_dense_replace", dense, shapes->layers);
	if (shapes->dense_layers > shapes->layers)
		plan_config_wrong(reader,
				  "mlp_only_layers lists more than num_hidden_layers = %u layers",
				  shapes->layers);
}

static uint32_t plan_config_dtype_bits(const struct reader *reader)
{
	const char *name = plan_config_text(reader, "torch_dtype");
	name = name ? name : plan_config_text(reader, "dtype");
	return name && strcmp(name, "float32") == 0 ? 32 : 16;
}

/* 0: the method is not known. */
static double plan_config_quantised_bits(json_t *quantisation, uint32_t unquantised,
					 const struct plan_parameters *count)
{
	const char *method = json_string_value(json_object_get(quantisation, "quant_method"));
	json_t *bits = json_object_get(quantisation, "bits");

	if (json_is_integer(bits) && json_integer_value(bits) >= 1 &&
	    json_integer_value(bits) <= 32)
		return (double)json_integer_value(bits);

	if (method && strcmp(method, "fp8") == 0)
		return 8;
	if (method && strcmp(method, "mxfp4") == 0)
		return unquantised - (unquantised - MXFP4_BITS) * (count->experts / count->all);
	if (json_is_true(json_object_get(quantisation, "load_in_4bit")))
		return 4;

	return json_is_true(json_object_get(quantisation, "load_in_8bit")) ? 8 : 0;
}

static void plan_config_read_weights(struct reader *reader, const struct family *family,
				     json_t *root, struct plan_shapes *shapes,
				     struct plan_model *model)
{
	shapes->matrices = family->matrices;
	shapes->tied = plan_config_flag(reader, "tie_word_embeddings", family->tied);
	plan_config_read_experts(reader, family, shapes);

	struct plan_parameters count = plan_shapes_count(shapes);
	if (count.all > PARAMS_MAX) {
		plan_config_wrong(reader,
				  "its shapes come to %.3g parameters: expected at most %.0e",
				  count.all, PARAMS_MAX);
		return;
	}

	model->params = (uint64_t)count.all;
	model->active_params = (uint64_t)count.active;
	model->element_bits = plan_config_dtype_bits(reader);

	json_t *quantisation = json_object_get(root, "quantization_config");
	model->weight_bits =
		json_is_object(quantisation)
			? plan_config_quantised_bits(quantisation, model->element_bits, &count)
			: model->element_bits;
	if (model->weight_bits <= 0)
		plan_config_wrong(reader, "quantization_config has neither bits nor a known "
					  "quant_method (fp8, mxfp4)");
}

/* ---- The file ---- */

/* Adds the defaults of a family's own code for fields that published files leave out: only
 * Gemma 3 needs this. */
static void plan_config_supply_defaults(const struct family *family, json_t *object)
{
	static const struct {
		const char *name;
		json_int_t value;
	} gemma3[] = {{"vocab_size", 262208},     {"num_attention_heads", 8},
		      {"num_key_value_heads", 4}, {"head_dim", 256},
		      {"sliding_window", 4096},   {"max_position_embeddings", 131072}};

	if (strcmp(family->type, "gemma3_text") != 0)
		return;

	for (size_t i = 0; i < sizeof(gemma3) / sizeof(gemma3[0]); i++) {
		if (!json_object_get(object, gemma3[i].name))
			json_object_set_new(object, gemma3[i].name, json_integer(gemma3[i].value));
	}
}

static const struct family *plan_config_family_of(struct reader *reader)
{
	const char *type = plan_config_text(reader, "model_type");
	if (!type) {
		plan_config_wrong(reader, "has no model_type");
		return NULL;
	}

	char known[256] = "";
	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		if (strcmp(families[i].type, type) == 0)
			return &families[i];
		size_t used = strlen(known);
		snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
			 families[i].type);
	}

	plan_config_wrong(reader, "model_type \"%.40s\" is none of %s", type, known);

	return NULL;
}

static void plan_config_read_model(struct reader *reader, json_t *root, struct plan_model *model)
{
	/* Multimodal models have the language model's fields in a nested object. */
	json_t *inner = json_object_get(root, "text_config");

	reader->object = json_is_object(inner) ? inner : root;

	const struct family *family = plan_config_family_of(reader);
	if (!family)
		return;

	plan_config_supply_defaults(family, reader->object);

	struct plan_shapes shapes = {
		.layers = plan_config_required(reader, "num_hidden_layers", LAYERS_MAX),
		.hidden = plan_config_required(reader, "hidden_size", FIELD_MAX),
		.heads = plan_config_required(reader, "num_attention_heads", HEADS_MAX),
		.vocabulary = plan_config_required(reader, "vocab_size", FIELD_MAX),
	};
	model->layers = shapes.layers;
	model->hidden = shapes.hidden;
	model->q_heads = shapes.heads;
	model->max_context = plan_config_required(reader, "max_position_embeddings", FIELD_MAX);
	plan_config_read_attention(reader, model, &shapes);
	plan_config_read_windows(reader, family, model);
	plan_config_read_weights(reader, family, root, &shapes, model);
}

static json_t *plan_config_load(struct reader *reader, const char *path)
{
	json_error_t problem;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);

	if (!root)
		plan_config_wrong(reader, "%s", problem.text);
	else if (!json_is_object(root))
		plan_config_wrong(reader, "is not a JSON object");

	return root;
}

int plan_config_read(const char *path, struct plan_config *out, char *error, size_t error_size)
{
	struct reader reader = {.path = path, .error = error, .error_size = error_size};
	struct plan_model model = {.hf_id = "", .source = "config.json"};
	json_t *root = plan_config_load(&reader, path);

	if (!reader.failed)
		plan_config_read_model(&reader, root, &model);

	json_decref(root);
	if (reader.failed)
		return -1;

	size_t length = strlen(path), room = sizeof(out->name) - 1;
	snprintf(out->name, sizeof(out->name), "%s", length > room ? path + length - room : path);
	model.name = out->name;
	out->model = model;

	return 0;
}
