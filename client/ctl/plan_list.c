/* SPDX-License-Identifier: Apache-2.0 */
/* plan_list: see plan_list.h. */
#include "client/ctl/plan_list.h"
#include "client/ctl/plan_document.h"
#include "client/ctl/table.h"
#include "client/plan/gpu.h"
#include "client/plan/model.h"

/* Billions; a row whose count is not known has 0. */
static void plan_list_count(struct table *table, uint64_t params)
{
	if (params)
		table_cell(table, "%.4g B", (double)params / 1e9);
	else
		table_cell(table, "-");
}

static int plan_list_models(void)
{
	const struct table_column columns[] = {
		{"MODEL", false}, {"PARAMETERS", true}, {"ACTIVE", true},
		{"BITS", true},   {"KV A TOKEN", true}, {"CONTEXT", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < plan_model_count; i++) {
		const struct plan_model *model = &plan_models[i];
		uint64_t kv_bits = model->layers * plan_model_elements(model) * model->element_bits;

		table_cell(table, "%s", model->name);
		plan_list_count(table, model->params);
		plan_list_count(table, model->active_params);
		table_cell(table, "%.3g", model->weight_bits);
		table_cell(table, "%.4g KiB", (double)kv_bits / 8 / 1024);
		table_cell(table, "%llu", (unsigned long long)model->max_context);
	}

	return table_finish(table, stdout);
}

static int plan_list_gpus(void)
{
	const struct table_column columns[] = {
		{"GPU", false}, {"HBM", true},       {"BANDWIDTH", true},
		{"BF16", true}, {"HOST LINK", true}, {"", false},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < plan_gpu_count; i++) {
		const struct plan_gpu *gpu = &plan_gpus[i];

		table_cell(table, "%s", gpu->name);
		table_cell(table, "%.4g GiB", (double)gpu->hbm_bytes / 0x1p30);
		table_cell(table, "%.4g GB/s", gpu->hbm_bytes_s / 1e9);
		table_cell(table, "%.4g TFLOP/s", gpu->flop_s / 1e12);
		table_cell(table, "%.4g GB/s", gpu->link_bytes_s / 1e9);
		table_cell(table, "%s", gpu->host_link);
	}

	return table_finish(table, stdout);
}

static int plan_list_json(void)
{
	json_t *models = json_array(), *gpus = json_array();

	for (size_t i = 0; i < plan_model_count; i++)
		json_array_append_new(models, plan_document_model(&plan_models[i]));
	for (size_t i = 0; i < plan_gpu_count; i++)
		json_array_append_new(gpus, plan_document_gpu(&plan_gpus[i]));
	return ctl_print_json(json_pack("{s:o,s:o}", "models", models, "gpus", gpus));
}

int plan_list(const struct ctl *ctl)
{
	if (ctl->json)
		return plan_list_json();

	int r = plan_list_models();
	putchar('\n');
	if (r == 0)
		r = plan_list_gpus();

	return ctl_printed(r);
}
