/* SPDX-License-Identifier: Apache-2.0 */
/* plan_show: see plan_show.h. */
#include "client/ctl/plan_show.h"
#include "client/ctl/plan_units.h"
#include "client/ctl/plan_variant.h"
#include "client/ctl/table.h"
#include "client/ctl/units.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <string.h>

#define PLAN_SHOW_BITS_LEAST 2 /* no weights are published in fewer */

/* ---- The request ---- */

static void plan_show_model(const struct plan_model *model, uint64_t weight_bytes)
{
	printf("%s: %" PRIu32 " layers", model->name, model->layers);
	if (model->windowed_layers)
		printf(" (%" PRIu32 " with a window of %s)", model->windowed_layers,
		       plan_units_grouped(model->window).text);

	if (model->latent_dim)
		printf(", a latent vector of %" PRIu32, model->latent_dim);
	else
		printf(", %" PRIu32 " KV heads of %" PRIu32, model->kv_heads, model->head_dim);

	printf(", %.4g B parameters", (double)model->params / 1e9);
	if (model->active_params < model->params)
		printf(" (%.4g B active)", (double)model->active_params / 1e9);

	printf(", weights %s (%.3g bits each)\n", plan_units_gib(weight_bytes).text,
	       model->weight_bits);
}

static void plan_show_hardware(const struct plan_request *request)
{
	const struct plan_hardware *h = &request->hardware;

	printf("%" PRIu32 " x %s: HBM %s (%s), %.4g TFLOP/s, %s, link %s out and %s in", h->gpus,
	       request->gpu ? request->gpu->name : "GPU", plan_units_gib(h->hbm_bytes).text,
	       request->hbm_note, h->flop_s / 1e12, plan_units_gb_s(h->hbm_bytes_s).text,
	       plan_units_gb_s(h->link.out_bytes_s).text, plan_units_gb_s(h->link.in_bytes_s).text);
	if (h->ddr_bytes)
		printf("; DDR %s", plan_units_gib(h->ddr_bytes).text);

	if (h->nvme_bytes)
		printf("; NVMe %s, %s", plan_units_gib(h->nvme_bytes).text,
		       plan_units_gb_s(h->nvme.in_bytes_s).text);

	putchar('\n');
}

/* Shown if the GPUs do not simply share a user's cache. */
static void plan_show_layout(const struct plan_request *request, double kv_copies)
{
	const struct plan_model *model = &request->model;
	uint32_t gpus = request->hardware.gpus;

	if (gpus > 1 && request->hardware.data_parallel)
		printf("data-parallel attention: the KV cache of a user is on one GPU\n");
	if (kv_copies <= 1)
		return;

	printf("%.4g copies of each KV cache: tensor parallelism replicates ", kv_copies);

	if (model->latent_dim)
		printf("a latent vector on every GPU");
	else
		printf("%" PRIu32 " KV head%s on %" PRIu32 " GPUs", model->kv_heads,
		       model->kv_heads == 1 ? "" : "s", gpus);

	printf("; --dp-attention does not\n");
}

static void plan_show_load(const struct plan_request *request)
{
	const struct plan_load *load = &request->load;

	printf("%" PRIu64 " tokens of answer; K = 1,000 tokens", load->output_tokens);

	if (load->keep_layers < 1 || load->keep_heads < 1 || load->keep_tokens < 1)
		printf("; kept: %.4g of layers, %.4g of heads, %.4g of tokens", load->keep_layers,
		       load->keep_heads, load->keep_tokens);

	if (load->encoding_bits)
		printf("; KV as %s", request->encoding);
	if (load->users)
		printf("; %" PRIu64 " users", load->users);

	if (load->rounds > 1 || load->think_s > 0)
		printf("; %" PRIu64 " rounds, %s between them", load->rounds,
		       plan_units_seconds(load->think_s).text);

	fputs("\n\n", stdout);
}

/* ---- Several contexts ---- */

static int plan_show_sweep(const struct plan_request *request, const struct plan_point *points)
{
	const struct table_column columns[] = {
		{"CONTEXT", true}, {"KV CACHE", true}, {"USERS", true},      {"PREFILL", true},
		{"DECODE", true},  {"SWITCH", true},   {"SESSIONS/H", true}, {"SUSTAINED", true},
		{"DDR", true},     {"NVME", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < request->context_count; i++) {
		const struct plan_point *p = &points[i];

		table_cell(table, "%s", plan_units_grouped(p->context).text);
		table_cell(table, "%s", plan_units_gib(p->kv_bytes).text);
		table_cell(table, "%s", plan_units_grouped(p->concurrency).text);
		table_cell(table, "%s", plan_units_seconds(p->prefill_s).text);
		table_cell(table, "%s", plan_units_seconds(p->decode_s).text);
		table_cell(table, "%s", plan_units_seconds(p->switch_s).text);
		table_cell(table, "%s", plan_units_figure(p->sessions_per_hour).text);
		table_cell(table, "%s", plan_units_figure(p->sustainable_users).text);
		table_cell(table, "%s",
			   request->hardware.ddr_bytes ? plan_units_grouped(p->ddr.users).text
						       : "-");
		table_cell(table, "%s",
			   request->hardware.nvme_bytes ? plan_units_grouped(p->nvme.users).text
							: "-");
	}

	return table_finish(table, stdout);
}

/* ---- One context ---- */

static void plan_show_wall_cells(struct table *table, const struct plan_wall *wall)
{
	char used[96] = "";

	for (size_t i = 0; i < PLAN_RESOURCES; i++) {
		size_t length = strlen(used);
		if (wall->used[i] > 0)
			snprintf(used + length, sizeof(used) - length,
				 wall->used[i] >= 10 ? "%s%s %.0f%%" : "%s%s %.3g%%",
				 length ? ", " : "", plan_resource_name((enum plan_resource)i),
				 100 * wall->used[i]);
	}

	table_cell(table, "%s", plan_resource_name(wall->resource));
	table_cell(table, "%s", used);
}

static void plan_show_plain_row(struct table *table, const char *name, const char *value)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", value);
	table_cell(table, "%s", "");
	table_cell(table, "%s", "");
}

static void plan_show_walled_row(struct table *table, const char *name, const char *value,
				 const struct plan_wall *wall)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", value);
	plan_show_wall_cells(table, wall);
}

/* A session with the terms it is the sum of; the last is there for users beyond those
 * at once. */
static void plan_show_session_rows(struct table *table, const struct plan_request *request,
				   const struct plan_point *p)
{
	const struct plan_load *load = &request->load;
	bool switches = load->users > p->concurrency;
	char value[160] = "-";

	if (p->session_s > 0)
		snprintf(value, sizeof(value), "%s (prefill + %" PRIu64 " x (decode / %s%s))",
			 plan_units_seconds(p->session_s).text, load->rounds,
			 plan_units_grouped(p->concurrency).text, switches ? " + switch" : "");

	plan_show_plain_row(table, "session", value);
	plan_show_plain_row(table, "sessions an hour",
			    plan_units_figure(p->sessions_per_hour).text);

	if (p->session_s > 0)
		snprintf(value, sizeof(value), "%s (who think %s between questions)",
			 plan_units_figure(p->sustainable_users).text,
			 plan_units_seconds(load->think_s).text);

	plan_show_plain_row(table, "sustained users", value);
}

static int plan_show_metrics(const struct plan_request *request, const struct plan_point *p)
{
	const struct table_column columns[] = {
		{"METRIC", false}, {"VALUE", false}, {"WALL", false}, {"IN USE", false}};
	struct table *table = table_new(columns, 4);
	char value[160];

	snprintf(value, sizeof(value), "%s B (%s)", plan_units_grouped(p->kv_bytes).text,
		 plan_units_gib(p->kv_bytes).text);
	plan_show_plain_row(table, "KV cache of a user", value);
	snprintf(value, sizeof(value), "%s", plan_units_grouped(p->concurrency).text);
	plan_show_walled_row(table, "users at once", value, &p->concurrency_wall);
	snprintf(value, sizeof(value), "%s (%s without attention)",
		 plan_units_seconds(p->prefill_s).text,
		 plan_units_seconds(p->prefill_linear_s).text);
	plan_show_walled_row(table, "prefill", value, &p->prefill_wall);
	snprintf(value, sizeof(value), "%s (%s a token, batch %" PRIu64 ")",
		 plan_units_seconds(p->decode_s).text,
		 plan_units_seconds(p->decode_s / (double)request->load.output_tokens).text,
		 p->batch);
	plan_show_walled_row(table, "decode", value, &p->decode_wall);
	snprintf(value, sizeof(value), "%s (%s at full duplex)",
		 plan_units_seconds(p->switch_s).text, plan_units_seconds(p->switch_duplex_s).text);
	plan_show_walled_row(table, "context switch", value, &p->switch_wall);
	plan_show_session_rows(table, request, p);
	snprintf(value, sizeof(value), "%s: loading from a faster tier beats prefill",
		 plan_units_gb_s(p->break_even_bytes_s).text);
	plan_show_plain_row(table, "break-even", value);

	return table_finish(table, stdout);
}

static void plan_show_parking_row(struct table *table, const char *name,
				  const struct plan_parking *parking)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", plan_units_grouped(parking->users).text);
	table_cell(table, "%s", plan_units_seconds(parking->in_s).text);
	table_cell(table, "%s", plan_units_seconds(parking->serial_s).text);
	table_cell(table, "%s", plan_units_seconds(parking->duplex_s).text);
	table_cell(table, "%s", plan_resource_name(parking->wall.resource));
	table_cell(table, "%s",
		   parking->break_even ? plan_units_grouped(parking->break_even).text : "never");
	table_cell(table, "%s", plan_units_figure(parking->sessions_per_hour).text);
	table_cell(table, "%s", plan_units_figure(parking->sustainable_users).text);
}

static void plan_show_parked(const struct plan_request *request, const struct plan_point *p)
{
	printf("of %s users %s are served, %s parked in DDR, %s in NVMe",
	       plan_units_grouped(request->load.users).text,
	       plan_units_grouped(p->concurrency).text, plan_units_grouped(p->users_in_ddr).text,
	       plan_units_grouped(p->users_in_nvme).text);
	if (p->users_without_place)
		printf("; for %s there is no room, and each prompt is computed again",
		       plan_units_grouped(p->users_without_place).text);

	putchar('\n');
}

static int plan_show_parking(const struct plan_request *request, const struct plan_point *p)
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
		plan_show_parking_row(table, "DDR", &p->ddr);
	if (hardware->nvme_bytes)
		plan_show_parking_row(table, "NVMe", &p->nvme);

	int r = table_finish(table, stdout);
	if (request->load.users > p->concurrency)
		plan_show_parked(request, p);

	return r;
}

static void plan_show_variant_row(struct table *table, const char *name, const struct plan_point *p)
{
	table_cell(table, "%s", name);
	table_cell(table, "%s", plan_units_gib(p->kv_bytes).text);
	table_cell(table, "%s", plan_units_grouped(p->concurrency).text);
	table_cell(table, "%s", plan_units_seconds(p->prefill_s).text);
	table_cell(table, "%s", plan_units_seconds(p->decode_s).text);
	table_cell(table, "%s", plan_units_seconds(p->switch_s).text);
	table_cell(table, "%s", plan_units_figure(p->sessions_per_hour).text);
}

static int plan_show_variants(const struct plan_request *request, const struct plan_point *asked)
{
	const struct table_column columns[] = {
		{"WITH", false},  {"KV CACHE", true}, {"USERS", true},      {"PREFILL", true},
		{"DECODE", true}, {"SWITCH", true},   {"SESSIONS/H", true},
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	struct plan_load load = request->load;

	load.context = asked->context;
	putchar('\n');
	plan_show_variant_row(table, "what was asked", asked);

	for (size_t i = 0; i < plan_variant_count; i++) {
		struct plan_point point;
		if (plan_variant_compute(&plan_variants[i], &request->model, &request->hardware,
					 &load, &point))
			plan_show_variant_row(table, plan_variants[i].words, &point);
	}

	return table_finish(table, stdout);
}

/* ---- Remedies ---- */

/* Each change that would be enough alone. */
static void plan_show_remedies(const struct plan_request *request, const struct plan_fit *fit)
{
	char words[160] = "";
	size_t used = 0;

	if (fit->gpus)
		used += (size_t)snprintf(words + used, sizeof(words) - used, "; %s GPUs",
					 plan_units_grouped(fit->gpus).text);

	if (fit->context)
		used += (size_t)snprintf(words + used, sizeof(words) - used, "; a context of %s",
					 plan_units_grouped(fit->context).text);

	if (fit->keep > 0)
		used += (size_t)snprintf(words + used, sizeof(words) - used,
					 "; %.3g of the KV cache", fit->keep);

	if (fit->weight_bits >= PLAN_SHOW_BITS_LEAST &&
	    fit->weight_bits < request->model.weight_bits)
		used += (size_t)snprintf(words + used, sizeof(words) - used,
					 "; weights of %.3g bits", fit->weight_bits);

	if (used)
		printf("Enough would be: %s\n", words + 2);
	else
		printf("No single change would be enough.\n");
}

static void plan_show_fit(const struct plan_request *request, const struct plan_point *p)
{
	const struct plan_fit *fit = &p->fit;
	bool weights = fit->context == 0 && p->weight_bytes >= p->hbm_bytes;

	printf("%s not fit with %s tokens: %s too little. ",
	       weights ? "the weights alone do" : "one user does",
	       plan_units_grouped(p->context).text, plan_units_gib(fit->missing_bytes).text);
	plan_show_remedies(request, fit);
}

static void plan_show_misfit(const struct plan_request *request, const struct plan_point *points)
{
	for (size_t i = 0; i < request->context_count; i++) {
		if (points[i].fit.missing_bytes == 0)
			continue;
		putchar('\n');
		plan_show_fit(request, &points[i]);
		return;
	}
}

static void plan_show_notes(const struct plan_request *request, const struct plan_point *points)
{
	const struct plan_point *last = &points[request->context_count - 1];

	plan_show_misfit(request, points);

	if (request->load.batch > last->batch)
		printf("batch %" PRIu64 " does not fit: %" PRIu64 " users are decoded together\n",
		       request->load.batch, last->batch);

	if (last->context > request->model.max_context)
		printf("%s is made for contexts up to %s tokens\n", request->model.name,
		       plan_units_grouped(request->model.max_context).text);
}

/* ---- Measurements ---- */

static int plan_show_links(const struct plan_live *live)
{
	const struct table_column columns[] = {
		{"LINK", false}, {"MEASURED", true}, {"THEORY", true}, {"RATIO", true}};
	struct table *table = table_new(columns, 4);

	putchar('\n');

	for (size_t i = 0; i < live->link_count; i++) {
		const struct plan_measure *link = &live->links[i];
		bool known = link->theoretical_bytes_s > 0;

		table_cell(table, "%s", link->name);
		table_cell(table, "%s",
			   link->measured_bytes_s > 0 ? plan_units_gb_s(link->measured_bytes_s).text
						      : "-");
		table_cell(table, "%s",
			   known ? plan_units_gb_s(link->theoretical_bytes_s).text : "-");
		table_cell(table, "%s", plan_units_figure(plan_measure_ratio(link)).text);
	}

	return table_finish(table, stdout);
}

static int plan_show_switches(const struct plan_live *live)
{
	const struct table_column columns[] = {{"TIER", false}, {"BYTES", true},  {"OUT", true},
					       {"IN", true},    {"THEORY", true}, {"RATIO", true}};
	struct table *table = table_new(columns, 6);

	putchar('\n');

	for (size_t i = 0; i < live->switch_count; i++) {
		const struct plan_switch *s = &live->switches[i];
		bool known = s->theoretical_s > 0;

		table_cell(table, "%s", view_name(&view_tiers, s->tier));
		table_cell(table, "%s", units_bytes(s->bytes).text);
		table_cell(table, "%s", plan_units_seconds(s->out_s).text);
		table_cell(table, "%s", plan_units_seconds(s->in_s).text);
		table_cell(table, "%s", known ? plan_units_seconds(s->theoretical_s).text : "-");
		table_cell(table, "%s", plan_units_figure(plan_switch_ratio(s)).text);
	}

	return table_finish(table, stdout);
}

static int plan_show_live(const struct plan_live *live)
{
	if (!live)
		return 0;

	int r = plan_show_links(live);
	if (r == 0 && live->switch_count)
		r = plan_show_switches(live);
	if (live->nvme_ratio != 1)
		printf("NVMe holds %.2f bytes of KV for each byte of it\n", live->nvme_ratio);
	if (*live->note)
		printf("%s\n", live->note);

	return r;
}

int plan_show(const struct plan_request *request, const struct plan_point *points,
	      const struct hbm_layout *layout, const struct plan_live *live)
{
	plan_show_model(&request->model, points->weight_bytes);
	plan_show_hardware(request);
	plan_show_layout(request, points->kv_copies);
	plan_show_load(request);

	bool one = request->context_count == 1;
	int r = one ? plan_show_metrics(request, points) : plan_show_sweep(request, points);
	if (r == 0 && one)
		r = plan_show_parking(request, points);
	if (r == 0 && one)
		r = plan_show_variants(request, points);
	if (r == 0)
		plan_show_notes(request, points);
	if (r == 0 && layout)
		r = plan_layout_show(layout, request);
	if (r == 0)
		r = plan_show_live(live);

	return ctl_printed(r);
}
