/* SPDX-License-Identifier: Apache-2.0 */
/* plan_document: see plan_document.h. */
#include "client/ctl/plan_document.h"
#include "client/ctl/plan_variant.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <string.h>

enum type { WHOLE, REAL };

struct number {
	const char *name; /* NULL ends the table */
	enum type type;
	size_t offset;
};

#define NUMBER(record, member, type, name)                                                         \
	{                                                                                          \
		name, type, offsetof(struct record, member)                                        \
	}
#define NUMBERS_END                                                                                \
	{                                                                                          \
		NULL, WHOLE, 0                                                                     \
	}

static const struct number model_numbers[] = {
	NUMBER(plan_model, params, WHOLE, "params"),
	NUMBER(plan_model, active_params, WHOLE, "active_params"),
	NUMBER(plan_model, max_context, WHOLE, "max_context_tokens"),
	NUMBER(plan_model, weight_bits, REAL, "weight_bits"),
	NUMBERS_END,
};

static const struct number gpu_numbers[] = {
	NUMBER(plan_gpu, hbm_bytes, WHOLE, "hbm_bytes"),
	NUMBER(plan_gpu, flop_s, REAL, "flop_per_second"),
	NUMBER(plan_gpu, hbm_bytes_s, REAL, "hbm_bytes_per_second"),
	NUMBER(plan_gpu, link_bytes_s, REAL, "link_bytes_per_second"),
	NUMBER(plan_gpu, gpu_link_bytes_s, REAL, "gpu_link_bytes_per_second"),
	NUMBERS_END,
};

static const struct number hardware_numbers[] = {
	NUMBER(plan_hardware, hbm_bytes, WHOLE, "hbm_bytes"),
	NUMBER(plan_hardware, flop_s, REAL, "flop_per_second"),
	NUMBER(plan_hardware, hbm_bytes_s, REAL, "hbm_bytes_per_second"),
	NUMBER(plan_hardware, link.out_bytes_s, REAL, "link_out_bytes_per_second"),
	NUMBER(plan_hardware, link.in_bytes_s, REAL, "link_in_bytes_per_second"),
	NUMBER(plan_hardware, ddr_bytes, WHOLE, "ddr_bytes"),
	NUMBER(plan_hardware, nvme_bytes, WHOLE, "nvme_bytes"),
	NUMBER(plan_hardware, nvme.out_bytes_s, REAL, "nvme_write_bytes_per_second"),
	NUMBER(plan_hardware, nvme.in_bytes_s, REAL, "nvme_read_bytes_per_second"),
	NUMBERS_END,
};

static const struct number load_numbers[] = {
	NUMBER(plan_load, output_tokens, WHOLE, "output_tokens"),
	NUMBER(plan_load, batch, WHOLE, "batch_users"),
	NUMBER(plan_load, users, WHOLE, "users"),
	NUMBER(plan_load, rounds, WHOLE, "rounds"),
	NUMBER(plan_load, think_s, REAL, "think_seconds"),
	NUMBER(plan_load, keep_layers, REAL, "keep_layers_ratio"),
	NUMBER(plan_load, keep_heads, REAL, "keep_heads_ratio"),
	NUMBER(plan_load, keep_tokens, REAL, "keep_tokens_ratio"),
	NUMBERS_END,
};

static const struct number point_numbers[] = {
	NUMBER(plan_point, context, WHOLE, "context_tokens"),
	NUMBER(plan_point, weight_bytes, WHOLE, "weight_bytes"),
	NUMBER(plan_point, hbm_bytes, WHOLE, "hbm_total_bytes"),
	NUMBER(plan_point, kv_bytes, WHOLE, "kv_bytes"),
	NUMBER(plan_point, kv_computed_bytes, WHOLE, "kv_uncompressed_bytes"),
	NUMBER(plan_point, concurrency, WHOLE, "concurrency_users"),
	NUMBER(plan_point, batch, WHOLE, "batch_users"),
	NUMBER(plan_point, prefill_s, REAL, "prefill_seconds"),
	NUMBER(plan_point, prefill_linear_s, REAL, "prefill_linear_seconds"),
	NUMBER(plan_point, decode_s, REAL, "decode_seconds"),
	NUMBER(plan_point, switch_s, REAL, "switch_serial_seconds"),
	NUMBER(plan_point, switch_duplex_s, REAL, "switch_duplex_seconds"),
	NUMBER(plan_point, break_even_bytes_s, REAL, "break_even_bytes_per_second"),
	NUMBER(plan_point, session_s, REAL, "session_seconds"),
	NUMBER(plan_point, sessions_per_hour, REAL, "sessions_per_hour"),
	NUMBER(plan_point, sustainable_users, REAL, "sustainable_users"),
	NUMBER(plan_point, users_in_ddr, WHOLE, "parked_in_ddr_users"),
	NUMBER(plan_point, users_in_nvme, WHOLE, "parked_in_nvme_users"),
	NUMBER(plan_point, users_without_place, WHOLE, "without_place_users"),
	NUMBER(plan_point, kv_copies, REAL, "kv_copies_ratio"),
	NUMBERS_END,
};

static const struct number parking_numbers[] = {
	NUMBER(plan_parking, users, WHOLE, "room_users"),
	NUMBER(plan_parking, out_s, REAL, "out_seconds"),
	NUMBER(plan_parking, in_s, REAL, "in_seconds"),
	NUMBER(plan_parking, serial_s, REAL, "switch_serial_seconds"),
	NUMBER(plan_parking, duplex_s, REAL, "switch_duplex_seconds"),
	NUMBER(plan_parking, break_even, WHOLE, "loading_wins_from_tokens"),
	NUMBER(plan_parking, session_s, REAL, "session_seconds"),
	NUMBER(plan_parking, sessions_per_hour, REAL, "sessions_per_hour"),
	NUMBER(plan_parking, sustainable_users, REAL, "sustainable_users"),
	NUMBERS_END,
};

static const struct number fit_numbers[] = {
	NUMBER(plan_fit, missing_bytes, WHOLE, "missing_bytes"),
	NUMBER(plan_fit, gpus, WHOLE, "gpus_needed"),
	NUMBER(plan_fit, context, WHOLE, "longest_context_tokens"),
	NUMBER(plan_fit, weight_bits, REAL, "weight_bits_most"),
	NUMBER(plan_fit, keep, REAL, "keep_ratio_most"),
	NUMBERS_END,
};

static const struct number live_numbers[] = {
	NUMBER(plan_measure, theoretical_bytes_s, REAL, "theoretical_bytes_per_second"),
	NUMBER(plan_measure, measured_bytes_s, REAL, "measured_bytes_per_second"),
	NUMBERS_END,
};

static const char *const resources[PLAN_RESOURCES] = {
	[PLAN_HBM_SIZE] = "hbm_size",
	[PLAN_FLOPS] = "flops",
	[PLAN_HBM_BANDWIDTH] = "hbm_bandwidth",
	[PLAN_LINK] = "link",
	[PLAN_NVME] = "nvme",
};

static uint64_t plan_document_whole_at(const struct number *number, const void *record)
{
	uint64_t value;
	memcpy(&value, (const char *)record + number->offset, sizeof(value));
	return value;
}

static double plan_document_real_at(const struct number *number, const void *record)
{
	double value;
	memcpy(&value, (const char *)record + number->offset, sizeof(value));
	return value;
}

static void plan_document_add_numbers(json_t *object, const struct number *number,
				      const void *record)
{
	for (; number->name; number++)
		json_object_set_new(
			object, number->name,
			number->type == WHOLE
				? json_integer((json_int_t)plan_document_whole_at(number, record))
				: json_real(plan_document_real_at(number, record)));
}

static json_t *plan_document_numbers(const struct number *numbers, const void *record)
{
	json_t *object = json_object();
	plan_document_add_numbers(object, numbers, record);
	return object;
}

static json_t *plan_document_wall(const struct plan_wall *wall)
{
	json_t *used = json_object();

	for (size_t i = 0; i < PLAN_RESOURCES; i++) {
		if (wall->used[i] > 0)
			json_object_set_new(used, resources[i], json_real(wall->used[i]));
	}

	return json_pack("{s:s,s:o}", "resource", resources[wall->resource], "used_ratio", used);
}

static json_t *plan_document_parking(const struct plan_parking *parking, bool there)
{
	if (!there)
		return json_null();

	json_t *object = plan_document_numbers(parking_numbers, parking);
	json_object_set_new(object, "wall", plan_document_wall(&parking->wall));
	return object;
}

static json_t *plan_document_variants(const struct plan_request *request, uint64_t context)
{
	json_t *array = json_array();
	struct plan_load load = request->load;

	load.context = context;
	for (size_t i = 0; i < plan_variant_count; i++) {
		struct plan_point point;
		if (!plan_variant_compute(&plan_variants[i], &request->model, &request->hardware,
					  &load, &point))
			continue;

		json_t *object = plan_document_numbers(point_numbers, &point);
		json_object_set_new(object, "change", json_string(plan_variants[i].name));
		json_array_append_new(array, object);
	}

	return array;
}

static json_t *plan_document_point(const struct plan_request *request,
				   const struct plan_point *point)
{
	json_t *object = plan_document_numbers(point_numbers, point);

	json_object_set_new(object, "walls",
			    json_pack("{s:o,s:o,s:o,s:o}", "concurrency",
				      plan_document_wall(&point->concurrency_wall), "prefill",
				      plan_document_wall(&point->prefill_wall), "decode",
				      plan_document_wall(&point->decode_wall), "switch",
				      plan_document_wall(&point->switch_wall)));
	json_object_set_new(object, "ddr",
			    plan_document_parking(&point->ddr, request->hardware.ddr_bytes > 0));
	json_object_set_new(object, "nvme",
			    plan_document_parking(&point->nvme, request->hardware.nvme_bytes > 0));
	json_object_set_new(object, "fit", plan_document_numbers(fit_numbers, &point->fit));
	json_object_set_new(object, "changes", plan_document_variants(request, point->context));

	return object;
}

json_t *plan_document_model(const struct plan_model *model)
{
	json_t *object = json_pack(
		"{s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "name",
		view_json_text(model->name, SIZE_MAX), "hf_id",
		view_json_text(model->hf_id, SIZE_MAX), "source",
		view_json_text(model->source, SIZE_MAX), "layers", (json_int_t)model->layers,
		"windowed_layers", (json_int_t)model->windowed_layers, "window_tokens",
		(json_int_t)model->window, "q_heads", (json_int_t)model->q_heads, "kv_heads",
		(json_int_t)model->kv_heads, "head_dim", (json_int_t)model->head_dim, "latent_dim",
		(json_int_t)model->latent_dim, "element_bits", (json_int_t)model->element_bits,
		"attention_flop", (json_int_t)model->attention_width);

	plan_document_add_numbers(object, model_numbers, model);
	return object;
}

json_t *plan_document_gpu(const struct plan_gpu *gpu)
{
	json_t *object = json_pack("{s:s,s:s,s:s,s:s}", "name", gpu->name, "host_link",
				   gpu->host_link, "source", gpu->source, "checked", gpu->checked);

	plan_document_add_numbers(object, gpu_numbers, gpu);
	return object;
}

static json_t *plan_document_hardware(const struct plan_request *request)
{
	const struct plan_hardware *hardware = &request->hardware;
	json_t *object = json_pack(
		"{s:s?,s:s?,s:I,s:b,s:s,s:f}", "gpu", request->gpu ? request->gpu->name : NULL,
		"source", request->gpu ? request->gpu->source : NULL, "gpus",
		(json_int_t)hardware->gpus, "data_parallel_attention", hardware->data_parallel,
		"hbm_note", request->hbm_note, "intensity_flop_per_byte",
		hardware->flop_s / hardware->hbm_bytes_s);

	plan_document_add_numbers(object, hardware_numbers, hardware);
	return object;
}

static json_t *plan_document_load(const struct plan_request *request)
{
	double width = request->load.attention_width;
	json_t *object = plan_document_numbers(load_numbers, &request->load);

	json_object_set_new(object, "encoding", json_string(request->encoding));
	json_object_set_new(object, "d_eff_flop", width > 0 ? json_real(width) : json_null());

	return object;
}

/* null: the theory is not known. */
static json_t *plan_document_ratio(double ratio)
{
	return ratio > 0 ? json_real(ratio) : json_null();
}

static json_t *plan_document_measures(const struct plan_measure *measures, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *object = plan_document_numbers(live_numbers, &measures[i]);
		json_object_set_new(object, "name", json_string(measures[i].name));
		json_object_set_new(object, "measured_by_theoretical_ratio",
				    plan_document_ratio(plan_measure_ratio(&measures[i])));
		json_array_append_new(array, object);
	}

	return array;
}

static json_t *plan_document_live(const struct plan_live *live)
{
	if (!live)
		return json_null();

	json_t *switches = json_array();
	for (size_t i = 0; i < live->switch_count; i++) {
		const struct plan_switch *s = &live->switches[i];
		json_array_append_new(switches,
				      json_pack("{s:s,s:I,s:f,s:f,s:f,s:o}", "tier",
						view_name(&view_tiers, s->tier), "bytes",
						(json_int_t)s->bytes, "out_seconds", s->out_s,
						"in_seconds", s->in_s, "theoretical_seconds",
						s->theoretical_s, "measured_by_theoretical_ratio",
						plan_document_ratio(plan_switch_ratio(s))));
	}

	return json_pack("{s:o,s:o,s:f,s:s}", "links",
			 plan_document_measures(live->links, live->link_count), "switches",
			 switches, "nvme_logical_by_stored_ratio", live->nvme_ratio, "note",
			 live->note);
}

int plan_document_json(const struct plan_request *request, const struct plan_point *points,
		       const struct hbm_layout *layout, const struct plan_live *live)
{
	json_t *array = json_array();

	for (size_t i = 0; i < request->context_count; i++)
		json_array_append_new(array, plan_document_point(request, &points[i]));
	return ctl_print_json(json_pack(
		"{s:o,s:o,s:o,s:o,s:o,s:o}", "model", plan_document_model(&request->model),
		"hardware", plan_document_hardware(request), "load", plan_document_load(request),
		"points", array, "layout", plan_layout_document(layout, request), "live",
		plan_document_live(live)));
}

int plan_document_csv(const struct plan_request *request, const struct plan_point *points)
{
	for (const struct number *n = point_numbers; n->name; n++)
		printf("%s%s", n == point_numbers ? "" : ",", n->name);
	putchar('\n');

	for (size_t i = 0; i < request->context_count; i++) {
		for (const struct number *n = point_numbers; n->name; n++) {
			if (n != point_numbers)
				putchar(',');
			if (n->type == WHOLE)
				printf("%" PRIu64, plan_document_whole_at(n, &points[i]));
			else
				printf("%.12g", plan_document_real_at(n, &points[i]));
		}
		putchar('\n');
	}

	return CTL_DONE;
}
