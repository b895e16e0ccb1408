/* SPDX-License-Identifier: Apache-2.0 */
/* plan_layout: see plan_layout.h. */
#include "client/ctl/plan_layout.h"
#include "client/ctl/plan_units.h"
#include "client/ctl/table.h"
#include "client/plan/cost.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT 1024 /* of a layout: a plan's has two kinds of layers */

/* ---- From a plan ---- */

static uint64_t plan_layout_longest(const struct plan_request *request)
{
	uint64_t longest = 0;

	for (size_t i = 0; i < request->context_count; i++)
		longest = request->contexts[i] > longest ? request->contexts[i] : longest;

	return longest;
}

/* A layer on one GPU: tensor parallelism divides its heads. */
static void plan_layout_layer(const struct plan_request *request, char *text, size_t size)
{
	const struct plan_model *model = &request->model;
	const uint32_t parts = plan_kv_parts(model, &request->hardware);

	if (model->latent_dim)
		snprintf(text, size, "heads=1 dim=%" PRIu32 " bytes=%" PRIu32 " keys=only",
			 model->latent_dim, model->element_bits / 8);
	else
		snprintf(text, size, "heads=%" PRIu32 " dim=%" PRIu32 " bytes=%" PRIu32,
			 (model->kv_heads + parts - 1) / parts, model->head_dim,
			 model->element_bits / 8);
}

/* The layers as words of a layout. Which of them have a window makes no difference here. */
static void plan_layout_layers(const struct plan_request *request, char *text, size_t size)
{
	const struct plan_model *model = &request->model;
	const uint32_t windowed = model->windowed_layers;
	char layer[128];
	size_t used;

	plan_layout_layer(request, layer, sizeof(layer));
	used = (size_t)snprintf(text, size, "layers=%" PRIu32 " max=%" PRIu64, model->layers,
				plan_layout_longest(request));
	if (windowed)
		used += (size_t)snprintf(text + used, size - used,
					 " layer=0-%" PRIu32 " %s window=%" PRIu32, windowed - 1,
					 layer, model->window);
	if (windowed == 0)
		snprintf(text + used, size - used, " %s", layer);
	else if (windowed < model->layers)
		snprintf(text + used, size - used, " layer=%" PRIu32 "-%" PRIu32 " %s", windowed,
			 model->layers - 1, layer);
}

int plan_layout_open(const struct ctl *ctl, const struct plan_request *request,
		     struct hbm_layout **out)
{
	const char *words = ctl->options.values[PLAN_OPTION_LAYOUT];
	char layers[TEXT], text[2 * TEXT], error[256];

	*out = NULL;
	if (!words)
		return CTL_DONE;
	if (request->model.element_bits % 8 != 0)
		return ctl_usage(ctl, "--layout: elements of %" PRIu32 " bits are no whole bytes",
				 request->model.element_bits);
	if (strlen(words) >= TEXT)
		return ctl_usage(ctl, "--layout has more than %d bytes", TEXT);

	/* The model's words come last: what follows `layer=` is of these layers. */
	plan_layout_layers(request, layers, sizeof(layers));
	snprintf(text, sizeof(text), "%s%s %s", strchr(words, '=') ? "" : "order=", words, layers);

	int r = hbm_layout_parse(out, text, error, sizeof(error));

	return r == 0 ? CTL_DONE
		      : ctl_usage(ctl, "--layout is \"%s\": %s", words,
				  r > 0 ? error : hbm_strerror(r));
}

/* ---- Buffers ---- */

static bool plan_layout_is_alike(const struct hbm_buffer *a, const struct hbm_buffer *b)
{
	return a->token_bytes == b->token_bytes && a->state_bytes == b->state_bytes &&
	       a->window == b->window;
}

/* How many buffers from the first one on are alike. */
static uint32_t plan_layout_alike(const struct hbm_layout *layout, uint32_t first,
				  struct hbm_buffer *buffer)
{
	struct hbm_buffer next;
	uint32_t count = 1;

	hbm_layout_buffer(layout, first, buffer);
	while (hbm_layout_buffer(layout, first + count, &next) == 0 &&
	       plan_layout_is_alike(buffer, &next))
		count++;

	return count;
}

/* ---- For people ---- */

static void plan_layout_show_buffers(const struct hbm_layout *layout, uint32_t buffers)
{
	struct hbm_buffer buffer;

	for (uint32_t i = 0, count; i < buffers; i += count) {
		count = plan_layout_alike(layout, i, &buffer);
		printf("  %" PRIu32 " buffer%s of %s B a token: %s tokens in a slab of %s%s", count,
		       count == 1 ? "" : "s", plan_units_grouped(buffer.token_bytes).text,
		       plan_units_grouped(buffer.slab_tokens).text,
		       units_bytes(hbm_layout_options(layout)->slab_bytes).text,
		       buffer.straddles ? ", some across two" : "");
		if (buffer.window)
			printf("; a window of %s", plan_units_grouped(buffer.window).text);
		putchar('\n');
	}
}

static int plan_layout_show_contexts(const struct hbm_layout *layout,
				     const struct plan_request *request)
{
	const struct table_column columns[] = {{"CONTEXT", true},
					       {"KV CACHE", true},
					       {"SLABS", true},
					       {"MAPPED", true},
					       {"UNUSED", true}};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < request->context_count; i++) {
		struct hbm_layout_use use;

		hbm_layout_use(layout, request->contexts[i], &use);
		table_cell(table, "%s", plan_units_grouped(request->contexts[i]).text);
		table_cell(table, "%s B", plan_units_grouped(use.kv_bytes).text);
		table_cell(table, "%s", plan_units_grouped(use.slabs).text);
		table_cell(table, "%s", units_bytes(use.mapped_bytes).text);
		table_cell(table, "%s",
			   units_percent(use.mapped_bytes - use.kv_bytes, use.mapped_bytes).text);
	}

	return table_finish(table, stdout);
}

int plan_layout_show(const struct hbm_layout *layout, const struct plan_request *request)
{
	char text[TEXT];
	struct hbm_layout_facts facts;

	hbm_layout_print(layout, text, sizeof(text));
	hbm_layout_facts(layout, &facts);
	printf("\nlayout on each GPU: %s\n", text);
	plan_layout_show_buffers(layout, facts.buffers);
	printf("  page group %s; at most %s unused, %.3g%% of a sequence of %s tokens\n\n",
	       units_bytes(facts.page_group_bytes).text, units_bytes(facts.waste_bytes).text,
	       facts.waste_fraction * 100,
	       plan_units_grouped(hbm_layout_options(layout)->max_tokens).text);

	return plan_layout_show_contexts(layout, request);
}

/* ---- For programs ---- */

static json_t *plan_layout_buffers(const struct hbm_layout *layout, uint32_t buffers)
{
	json_t *array = json_array();
	struct hbm_buffer buffer;

	for (uint32_t i = 0, count; i < buffers; i += count) {
		count = plan_layout_alike(layout, i, &buffer);
		json_array_append_new(
			array,
			json_pack("{s:I,s:I,s:I,s:I,s:b,s:I,s:I}", "buffers", (json_int_t)count,
				  "token_bytes", (json_int_t)buffer.token_bytes, "window_tokens",
				  (json_int_t)buffer.window, "slab_tokens",
				  (json_int_t)buffer.slab_tokens, "straddles", buffer.straddles,
				  "step_bytes", (json_int_t)buffer.step_bytes, "waste_bytes",
				  (json_int_t)buffer.waste_bytes));
	}

	return array;
}

static json_t *plan_layout_contexts(const struct hbm_layout *layout,
				    const struct plan_request *request)
{
	json_t *array = json_array();

	for (size_t i = 0; i < request->context_count; i++) {
		struct hbm_layout_use use;

		hbm_layout_use(layout, request->contexts[i], &use);
		json_array_append_new(array, json_pack("{s:I,s:I,s:I,s:I}", "context_tokens",
						       (json_int_t)request->contexts[i], "kv_bytes",
						       (json_int_t)use.kv_bytes, "mapped_bytes",
						       (json_int_t)use.mapped_bytes, "slabs",
						       (json_int_t)use.slabs));
	}

	return array;
}

json_t *plan_layout_document(const struct hbm_layout *layout, const struct plan_request *request)
{
	char text[TEXT], name[HBM_WIRE_NAME_BYTES];
	struct hbm_layout_facts facts;

	if (!layout)
		return json_null();

	hbm_layout_print(layout, text, sizeof(text));
	hbm_layout_fingerprint(layout, name);
	hbm_layout_facts(layout, &facts);

	return json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:f,s:o,s:o}", "text", text, "name", name,
			 "token_bytes", (json_int_t)facts.token_bytes, "slot_bytes",
			 (json_int_t)facts.slot_bytes, "page_group_bytes",
			 (json_int_t)facts.page_group_bytes, "waste_bytes",
			 (json_int_t)facts.waste_bytes, "waste_ratio", facts.waste_fraction,
			 "buffers", plan_layout_buffers(layout, facts.buffers), "contexts",
			 plan_layout_contexts(layout, request));
}
