/* SPDX-License-Identifier: Apache-2.0 */
/* plan_show: see plan_show.h. */
#include "client/ctl/plan_show.h"
#include "client/ctl/plan_variant.h"
#include "client/ctl/table.h"
#include "client/ctl/units.h"

#include <inttypes.h>
#include <string.h>

#define GIB 0x1p30

static struct units_text seconds(double s)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), s >= 10000 ? "%.0f s" : "%.4g s", s);
	return out;
}

/* 0 stands for what is not known, or for no user that fits. */
static struct units_text figure(double value)
{
	struct units_text out = {"-"};
	if (value > 0)
		snprintf(out.text, sizeof(out.text), value >= 10000 ? "%.0f" : "%.4g", value);
	return out;
}

/* 12,288,000,000 */
static struct units_text grouped(uint64_t number)
{
	char digits[24];
	struct units_text out;
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
	size_t used = 0;
	for (int i = 0; i < length; i++) {
		out.text[used++] = digits[i];
		if (i + 1 < length && (length - i - 1) % 3 == 0)
			out.text[used++] = ',';
	}
	out.text[used] = '\0';
	return out;
}

static struct units_text gib(uint64_t bytes)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%.4g GiB", (double)bytes / GIB);
	return out;
}

static struct units_text gb_s(double bytes_s)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%.4g GB/s", bytes_s / 1e9);
	return out;
}

/* ---- What was asked ---- */

static void print_model(const struct plan_model *model, uint64_t weight_bytes)
{
	printf("%s: %" PRIu32 " layers", model->name, model->layers);
	if (model->windowed_layers)
		printf(" (%" PRIu32 " with a window of %s)", model->windowed_layers, grouped(model->window).text);
	if (model->latent_dim)
		printf(", a latent vector of %" PRIu32, model->latent_dim);
	else
		printf(", %" PRIu32 " KV heads of %" PRIu32, model->kv_heads, model->head_dim);
	printf(", %.4g B parameters", (double)model->params / 1e9);
	if (model->active_params < model->params)
		printf(" (%.4g B active)", (double)model->active_params / 1e9);
	printf(", weights %s\n", gib(weight_bytes).text);
}

static void print_hardware(const struct plan_request *request)
{
	const struct plan_hardware *h = &request->hardware;
	printf("%" PRIu32 " x %s: HBM %s (%s), %.4g TFLOP/s, %s, link %s out and %s in", h->gpus,
	       request->gpu ? request->gpu->name : "GPU", gib(h->hbm_bytes).text, request->hbm_note, h->flop_s / 1e12,
	       gb_s(h->hbm_bytes_s).text, gb_s(h->link.out_bytes_s).text, gb_s(h->link.in_bytes_s).text);
	if (h->ddr_bytes)
		printf("; DDR %s", gib(h->ddr_bytes).text);
	if (h->nvme_bytes)
		printf("; NVMe %s, %s", gib(h->nvme_bytes).text, gb_s(h->nvme.in_bytes_s).text);
	putchar('\n');
}

static void print_load(const struct plan_request *request)
{
	const struct plan_load *load = &request->load;
	printf("%" PRIu64 " tokens of answer; K = 1,000 tokens", load->output_tokens);
	if (load->keep_layers < 1 || load->keep_heads < 1 || load->keep_tokens < 1)
		printf("; kept: %.4g of layers, %.4g of heads, %.4g of tokens", load->keep_layers, load->keep_heads,
		       load->keep_tokens);
	if (load->encoding_bits)
		printf("; KV as %s", request->encoding);
	if (load->users)
		printf("; %" PRIu64 " users", load->users);
	if (load->rounds > 1 || load->think_s > 0)
		printf("; %" PRIu64 " rounds, %s between them", load->rounds, seconds(load->think_s).text);
	fputs("\n\n", stdout);
}

/* ---- Several contexts ---- */

static int show_sweep(const struct plan_request *request, const struct plan_point *points)
{
	const struct table_column columns[] = {
		{"CONTEXT", true}, {"KV CACHE", true},   {"USERS", true},     {"PREFILL", true}, {"DECODE", true},
		{"SWITCH", true},  {"SESSIONS/H", true}, {"SUSTAINED", true}, {"DDR", true},     {"NVME", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < request->context_count; i++) {
		const struct plan_point *p = &points[i];
		table_cell(table, "%s", grouped(p->context).text);
		table_cell(table, "%s", gib(p->kv_bytes).text);
		table_cell(table, "%s", grouped(p->concurrency).text);
		table_cell(table, "%s", seconds(p->prefill_s).text);
		table_cell(table, "%s", seconds(p->decode_s).text);
		table_cell(table, "%s", seconds(p->switch_s).text);
		table_cell(table, "%s", figure(p->sessions_per_hour).text);
		table_cell(table, "%s", figure(p->sustainable_users).text);
		table_cell(table, "%s", request->hardware.ddr_bytes ? grouped(p->ddr.users).text : "-");
		table_cell(table, "%s", request->hardware.nvme_bytes ? grouped(p->nvme.users).text : "-");
	}
	return table_finish(table, stdout);
}

/* ---- One context ---- */

static void wall_cells(struct table *table, const struct plan_wall *wall)
{
	char used[96] = "";
	for (size_t i = 0; i < PLAN_RESOURCES; i++) {
		size_t length = strlen(used);
		if (wall->used[i] > 0)
			snprintf(used + length, sizeof(used) - length, "%s%s %.3g%%", length ? ", " : "",
				 plan_resource_name((enum plan_resource)i), 100 * wall->used[i]);
	}
	table_cell(table, "%s", plan_resource_name(wall->resource));
	table_cell(table, "%s", used);
}

static void plain_row(struct table *table, const char *name, const char *value)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", value);
	table_cell(table, "%s", "");
	table_cell(table, "%s", "");
}

static void walled_row(struct table *table, const char *name, const char *value, const struct plan_wall *wall)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", value);
	wall_cells(table, wall);
}

static int show_metrics(const struct plan_request *request, const struct plan_point *p)
{
	const struct table_column columns[] = {{"METRIC", false}, {"VALUE", false}, {"WALL", false}, {"IN USE", false}};
	struct table *table = table_new(columns, 4);
	char value[160];
	snprintf(value, sizeof(value), "%s B (%s)", grouped(p->kv_bytes).text, gib(p->kv_bytes).text);
	plain_row(table, "KV cache of a user", value);
	snprintf(value, sizeof(value), "%s", grouped(p->concurrency).text);
	walled_row(table, "users at once", value, &p->concurrency_wall);
	snprintf(value, sizeof(value), "%s (%s without attention)", seconds(p->prefill_s).text,
		 seconds(p->prefill_linear_s).text);
	walled_row(table, "prefill", value, &p->prefill_wall);
	snprintf(value, sizeof(value), "%s (%s a token, batch %" PRIu64 ")", seconds(p->decode_s).text,
		 seconds(p->decode_s / (double)request->load.output_tokens).text, p->batch);
	walled_row(table, "decode", value, &p->decode_wall);
	snprintf(value, sizeof(value), "%s (%s at full duplex)", seconds(p->switch_s).text,
		 seconds(p->switch_duplex_s).text);
	walled_row(table, "context switch", value, &p->switch_wall);
	plain_row(table, "session", p->session_s > 0 ? seconds(p->session_s).text : "-");
	plain_row(table, "sessions an hour", figure(p->sessions_per_hour).text);
	plain_row(table, "sustained users", figure(p->sustainable_users).text);
	snprintf(value, sizeof(value), "%s: a faster tier loads sooner than prefill computes",
		 gb_s(p->break_even_bytes_s).text);
	plain_row(table, "break-even", value);
	return table_finish(table, stdout);
}

static void parking_row(struct table *table, const char *name, const struct plan_parking *parking)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", grouped(parking->users).text);
	table_cell(table, "%s", seconds(parking->in_s).text);
	table_cell(table, "%s", seconds(parking->serial_s).text);
	table_cell(table, "%s", seconds(parking->duplex_s).text);
	table_cell(table, "%s", plan_resource_name(parking->wall.resource));
	table_cell(table, "%s", parking->break_even ? grouped(parking->break_even).text : "never");
	table_cell(table, "%s", figure(parking->sessions_per_hour).text);
	table_cell(table, "%s", figure(parking->sustainable_users).text);
}

static int show_parking(const struct plan_request *request, const struct plan_point *p)
{
	const struct table_column columns[] = {
		{"TIER", false},
		{"PARKED", true},
		{"LOAD", true},
		{"SWITCH", true},
		{"DUPLEX", true},
		{"WALL", false},
		{"LOADING WINS FROM", true},
		{"SESSIONS/H", true},
		{"SUSTAINED", true},
	};
	const struct plan_hardware *hardware = &request->hardware;
	if (hardware->ddr_bytes == 0 && hardware->nvme_bytes == 0)
		return 0;
	putchar('\n');
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	if (hardware->ddr_bytes)
		parking_row(table, "DDR", &p->ddr);
	if (hardware->nvme_bytes)
		parking_row(table, "NVMe", &p->nvme);
	int r = table_finish(table, stdout);
	if (request->load.users > p->concurrency)
		printf("of %s users %s are served, %s parked in DDR, %s in NVMe, %s have no place and are computed "
		       "anew\n",
		       grouped(request->load.users).text, grouped(p->concurrency).text, grouped(p->users_in_ddr).text,
		       grouped(p->users_in_nvme).text, grouped(p->users_without_place).text);
	return r;
}

static void variant_row(struct table *table, const char *name, const struct plan_point *p)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", gib(p->kv_bytes).text);
	table_cell(table, "%s", grouped(p->concurrency).text);
	table_cell(table, "%s", seconds(p->prefill_s).text);
	table_cell(table, "%s", seconds(p->decode_s).text);
	table_cell(table, "%s", seconds(p->switch_s).text);
	table_cell(table, "%s", figure(p->sessions_per_hour).text);
}

static int show_variants(const struct plan_request *request, const struct plan_point *asked)
{
	const struct table_column columns[] = {
		{"WITH", false},  {"KV CACHE", true}, {"USERS", true},      {"PREFILL", true},
		{"DECODE", true}, {"SWITCH", true},   {"SESSIONS/H", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	struct plan_load load = request->load;
	load.context = asked->context;
	putchar('\n');
	variant_row(table, "what was asked", asked);
	for (size_t i = 0; i < plan_variant_count; i++) {
		struct plan_point point;
		if (plan_variant_compute(&plan_variants[i], &request->model, &request->hardware, &load, &point))
			variant_row(table, plan_variants[i].words, &point);
	}
	return table_finish(table, stdout);
}

/* ---- What does not fit ---- */

static void print_fit(const struct plan_request *request, const struct plan_point *p)
{
	const struct plan_fit *fit = &p->fit;
	bool weights = fit->context == 0 && p->weight_bytes >= p->hbm_bytes;
	printf("%s not fit with %s tokens: %s too little. What would do: %s GPUs",
	       weights ? "the weights alone do" : "one user does", grouped(p->context).text,
	       gib(fit->missing_bytes).text, grouped(fit->gpus).text);
	if (fit->context)
		printf("; a context of %s", grouped(fit->context).text);
	if (fit->keep > 0)
		printf("; %.3g of the KV cache", fit->keep);
	if (fit->weight_bits > 0 && fit->weight_bits < request->model.weight_bits)
		printf("; weights of %.3g bits", fit->weight_bits);
	putchar('\n');
}

static void print_misfit(const struct plan_request *request, const struct plan_point *points)
{
	for (size_t i = 0; i < request->context_count; i++) {
		if (points[i].fit.missing_bytes == 0)
			continue;
		putchar('\n');
		print_fit(request, &points[i]);
		return;
	}
}

static void print_notes(const struct plan_request *request, const struct plan_point *points)
{
	const struct plan_point *last = &points[request->context_count - 1];
	print_misfit(request, points);
	if (request->load.batch > last->batch)
		printf("batch %" PRIu64 " does not fit: %" PRIu64 " users are decoded together\n", request->load.batch,
		       last->batch);
	if (last->context > request->model.max_context)
		printf("%s was made for contexts up to %s tokens\n", request->model.name,
		       grouped(request->model.max_context).text);
}

/* ---- What was measured ---- */

static int show_hops(const struct plan_live *live)
{
	const struct table_column columns[] = {{"HOP", false}, {"MEASURED", true}, {"THEORY", true}, {"RATIO", true}};
	struct table *table = table_new(columns, 4);
	putchar('\n');
	for (size_t i = 0; i < live->hop_count; i++) {
		const struct plan_measure *hop = &live->hops[i];
		bool known = hop->theoretical_bytes_s > 0;
		table_cell(table, "%s", hop->name);
		table_cell(table, "%s", hop->measured_bytes_s > 0 ? gb_s(hop->measured_bytes_s).text : "-");
		table_cell(table, "%s", known ? gb_s(hop->theoretical_bytes_s).text : "-");
		table_cell(table, "%s", figure(plan_measure_ratio(hop)).text);
	}
	return table_finish(table, stdout);
}

static int show_switches(const struct plan_live *live)
{
	const struct table_column columns[] = {{"TIER", false}, {"BYTES", true},  {"OUT", true},
					       {"IN", true},    {"THEORY", true}, {"RATIO", true}};
	struct table *table = table_new(columns, 6);
	putchar('\n');
	for (size_t i = 0; i < live->switch_count; i++) {
		const struct plan_switch *s = &live->switches[i];
		bool known = s->theoretical_s > 0;
		table_cell(table, "%s", s->tier);
		table_cell(table, "%s", units_bytes(s->bytes).text);
		table_cell(table, "%s", seconds(s->out_s).text);
		table_cell(table, "%s", seconds(s->in_s).text);
		table_cell(table, "%s", known ? seconds(s->theoretical_s).text : "-");
		table_cell(table, "%s", figure(plan_switch_ratio(s)).text);
	}
	return table_finish(table, stdout);
}

static int show_live(const struct plan_live *live)
{
	if (!live)
		return 0;
	int r = show_hops(live);
	if (r == 0 && live->switch_count)
		r = show_switches(live);
	if (*live->note)
		printf("%s\n", live->note);
	return r;
}

int plan_show(const struct plan_request *request, const struct plan_point *points, const struct plan_live *live)
{
	print_model(&request->model, points->weight_bytes);
	print_hardware(request);
	print_load(request);
	bool one = request->context_count == 1;
	int r = one ? show_metrics(request, points) : show_sweep(request, points);
	if (r == 0 && one)
		r = show_parking(request, points);
	if (r == 0 && one)
		r = show_variants(request, points);
	if (r == 0)
		print_notes(request, points);
	if (r == 0)
		r = show_live(live);
	return ctl_printed(r);
}
