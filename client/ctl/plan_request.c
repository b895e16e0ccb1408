/* SPDX-License-Identifier: Apache-2.0 */
/* plan_request: see plan_request.h. */
#include "client/ctl/plan_request.h"
#include "client/ctl/plan_name.h"
#include "client/ctl/plan_quantity.h"

#include <string.h>
#include <sys/stat.h>

#define SWITCH_BYTES (256ull << 20)
#define SWITCH_BYTES_MAX (1ull << 40)

const struct option_spec plan_options[] = {
	[PLAN_OPTION_LIST] = {"list", NULL, "print the built-in models and GPUs"},
	[PLAN_OPTION_MODEL] = {"model", "NAME|FILE", "use a built-in model, or a config.json"},
	[PLAN_OPTION_PARAMS] = {"params", "N[/ACTIVE]",
				"set its parameters, and those active for one token"},
	[PLAN_OPTION_WEIGHT_BITS] = {"weight-bits", "N",
				     "set the bits of one parameter; default: as published"},
	[PLAN_OPTION_GPU] = {"gpu", "NAME", "use a built-in GPU"},
	[PLAN_OPTION_GPUS] = {"gpus", "M", "divide the model among M of them; default 1"},
	[PLAN_OPTION_DP_ATTENTION] = {"dp-attention", NULL,
				      "use data-parallel attention: each GPU has its own users"},
	[PLAN_OPTION_HBM] = {"hbm", "SIZE", "set the memory of one GPU"},
	[PLAN_OPTION_FLOPS] = {"flops", "FLOP/S", "set the arithmetic rate of one GPU"},
	[PLAN_OPTION_BANDWIDTH] = {"bandwidth", "RATE", "set the memory bandwidth of one GPU"},
	[PLAN_OPTION_LINK] = {"link", "RATE",
			      "set the host bandwidth of one GPU in each direction"},
	[PLAN_OPTION_DDR] = {"ddr", "SIZE", "park users in host memory of this size"},
	[PLAN_OPTION_NVME] = {"nvme", "SIZE@RATE", "park users on a drive of this size and rate"},
	[PLAN_OPTION_CONTEXT] = {"context", "LIST",
				 "use contexts of 50K, or 4K,50K, or 4K..1M doubling; K is 1,000"},
	[PLAN_OPTION_OUTPUT_TOKENS] = {"output-tokens", "N",
				       "set the tokens of an answer; default 250"},
	[PLAN_OPTION_BATCH] = {"batch", "N|max",
			       "decode N users together, at most as many as fit; default 1"},
	[PLAN_OPTION_USERS] = {"users", "N",
			       "serve N users at the same time; default: as many as fit"},
	[PLAN_OPTION_ROUNDS] = {"rounds", "N", "ask N questions in a session; default 1"},
	[PLAN_OPTION_THINK_TIME] = {"think-time", "TIME",
				    "wait so long between two questions; default 0"},
	[PLAN_OPTION_KEEP_LAYERS] = {"keep-layers", "PART",
				     "keep this part of the layers, such as 0.5, 50% or 1/60"},
	[PLAN_OPTION_KEEP_HEADS] = {"keep-heads", "PART", "keep this part of the KV heads"},
	[PLAN_OPTION_KEEP_TOKENS] = {"keep-tokens", "PART", "keep this part of the tokens"},
	[PLAN_OPTION_ENCODING] = {"encoding", "NAME",
				  "encode the KV cache: none, fp8, int8 or int4"},
	[PLAN_OPTION_D_EFF] = {"d-eff", "N",
			       "set the FLOP of attention for a token, context token and layer"},
	[PLAN_OPTION_LAYOUT] = {"layout", "WORDS",
				"show slabs of a layout: token, layer, or \"order=block page=16\""},
	[PLAN_OPTION_CSV] = {"csv", NULL, "print one line for each context length"},
	[PLAN_OPTION_PLOT] = {"plot", "FILE", "draw the metrics over context length: .svg or .png"},
	[PLAN_OPTION_LIVE] = {"live", NULL,
			      "use the sizes and measured links of the running daemon"},
	[PLAN_OPTION_SWITCH_BYTES] = {"switch-bytes", "SIZE",
				      "move so much to measure, with --live; default 256MiB"},
	{NULL, NULL, NULL},
};

static const char *plan_request_value_of(const struct ctl *ctl, enum plan_option option)
{
	return ctl->options.values[option];
}

/* ---- One quantity ---- */

static int plan_request_unexpected(const struct ctl *ctl, enum plan_option option,
				   enum plan_quantity kind)
{
	return ctl_usage(ctl, "--%s is \"%s\": expected %s", plan_options[option].name,
			 plan_request_value_of(ctl, option), plan_quantity_expected(kind));
}

static int plan_request_read(const struct ctl *ctl, enum plan_option option,
			     enum plan_quantity kind, double *out)
{
	const char *value = plan_request_value_of(ctl, option);
	if (!value || plan_quantity_parse(kind, value, strlen(value), out) == 0)
		return CTL_DONE;
	return plan_request_unexpected(ctl, option, kind);
}

static int plan_request_read_whole(const struct ctl *ctl, enum plan_option option,
				   enum plan_quantity kind, uint64_t *out)
{
	double number = (double)*out;
	int r = plan_request_read(ctl, option, kind, &number);

	*out = (uint64_t)number;
	return r;
}

int plan_request_list(const struct ctl *ctl, bool *asked)
{
	*asked = plan_request_value_of(ctl, PLAN_OPTION_LIST) != NULL;
	for (int i = 0; *asked && plan_options[i].name; i++) {
		if (i != PLAN_OPTION_LIST && plan_request_value_of(ctl, (enum plan_option)i))
			return ctl_usage(ctl, "--list takes no --%s", plan_options[i].name);
	}

	return CTL_DONE;
}

/* ---- The model ---- */

/* A path ends in .json, begins with '.' or '/', or leads to a file; everything else is
 * a name. */
static bool plan_request_is_path(const char *name)
{
	size_t length = strlen(name);
	struct stat stat_of;

	if (*name == '.' || *name == '/' || (length > 5 && strcmp(name + length - 5, ".json") == 0))
		return true;
	return strchr(name, '/') && stat(name, &stat_of) == 0 && S_ISREG(stat_of.st_mode);
}

static int plan_request_find_model(const struct ctl *ctl, const char *name,
				   struct plan_request *request)
{
	if (!plan_request_is_path(name)) {
		const struct plan_model *known;
		int r = plan_name_model(ctl, name, &known);

		if (r == CTL_DONE)
			request->model = *known;
		return r;
	}

	char error[512];
	if (plan_config_read(name, &request->config, error, sizeof(error)) < 0)
		return ctl_usage(ctl, "--model: %s", error);

	request->model = request->config.model;

	return CTL_DONE;
}

/* ALL, or ALL/ACTIVE. */
static int plan_request_read_params(const struct ctl *ctl, struct plan_model *model)
{
	const char *value = plan_request_value_of(ctl, PLAN_OPTION_PARAMS);
	if (!value)
		return CTL_DONE;

	const char *slash = strchr(value, '/');
	double all, active;
	bool right =
		plan_quantity_parse(PLAN_PARAMS, value,
				    slash ? (size_t)(slash - value) : strlen(value), &all) == 0;
	active = all;
	if (right && slash)
		right = plan_quantity_parse(PLAN_PARAMS, slash + 1, strlen(slash + 1), &active) ==
				0 &&
			active <= all;

	if (!right)
		return plan_request_unexpected(ctl, PLAN_OPTION_PARAMS, PLAN_PARAMS);

	model->params = (uint64_t)all;
	model->active_params = (uint64_t)active;

	return CTL_DONE;
}

static int plan_request_read_model(const struct ctl *ctl, struct plan_request *request)
{
	const char *name = plan_request_value_of(ctl, PLAN_OPTION_MODEL);
	if (!name)
		return ctl_usage(ctl, "expected --model");

	int r = plan_request_find_model(ctl, name, request);
	if (r == CTL_DONE)
		r = plan_request_read_params(ctl, &request->model);

	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_WEIGHT_BITS, PLAN_BITS,
				      &request->model.weight_bits);

	if (r == CTL_DONE && request->model.params == 0)
		return ctl_usage(ctl,
				 "%s: the number of parameters is not known: give it with --params",
				 request->model.name);

	return r;
}

/* ---- The load ---- */

static int plan_request_read_encoding(const struct ctl *ctl, struct plan_request *request)
{
	static const struct {
		const char *name;
		uint32_t bits;
	} encodings[] = {{"none", 0}, {"fp8", 8}, {"int8", 8}, {"int4", 4}};
	const char *value = plan_request_value_of(ctl, PLAN_OPTION_ENCODING);

	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		if (value && strcmp(value, encodings[i].name) != 0)
			continue;
		request->encoding = encodings[i].name;
		request->load.encoding_bits = encodings[i].bits;
		return CTL_DONE;
	}

	return ctl_usage(ctl, "--encoding is \"%s\": expected none, fp8, int8 or int4", value);
}

static int plan_request_read_batch(const struct ctl *ctl, struct plan_load *load)
{
	const char *value = plan_request_value_of(ctl, PLAN_OPTION_BATCH);
	if (!value || strcmp(value, "max") != 0)
		return plan_request_read_whole(ctl, PLAN_OPTION_BATCH, PLAN_COUNT, &load->batch);
	load->batch = 0;
	return CTL_DONE;
}

static int plan_request_read_load(const struct ctl *ctl, struct plan_request *request)
{
	struct plan_load *load = &request->load;

	*load = plan_load_default();

	int r = plan_request_read_batch(ctl, load);
	if (r == CTL_DONE)
		r = plan_request_read_whole(ctl, PLAN_OPTION_OUTPUT_TOKENS, PLAN_TOKENS,
					    &load->output_tokens);

	if (r == CTL_DONE)
		r = plan_request_read_whole(ctl, PLAN_OPTION_USERS, PLAN_COUNT, &load->users);
	if (r == CTL_DONE)
		r = plan_request_read_whole(ctl, PLAN_OPTION_ROUNDS, PLAN_COUNT, &load->rounds);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_THINK_TIME, PLAN_SECONDS, &load->think_s);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_KEEP_LAYERS, PLAN_RATIO, &load->keep_layers);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_KEEP_HEADS, PLAN_RATIO, &load->keep_heads);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_KEEP_TOKENS, PLAN_RATIO, &load->keep_tokens);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_D_EFF, PLAN_WIDTH, &load->attention_width);

	return r == CTL_DONE ? plan_request_read_encoding(ctl, request) : r;
}

/* ---- Context lengths ---- */

static bool plan_request_add_context(struct plan_request *request, uint64_t context)
{
	if (request->context_count == PLAN_CONTEXTS_MAX)
		return false;
	request->contexts[request->context_count++] = context;
	return true;
}

/* Doubling from the first to the last; the last is always among them. */
static bool plan_request_add_range(struct plan_request *request, uint64_t first, uint64_t last)
{
	uint64_t context = first;
	for (; context < last; context *= 2) {
		if (!plan_request_add_context(request, context))
			return false;
	}

	return plan_request_add_context(request, last);
}

/* N, or N..M. */
static bool plan_request_add_item(struct plan_request *request, const char *item, size_t length)
{
	const char *dots = memmem(item, length, "..", 2);
	size_t first_length = dots ? (size_t)(dots - item) : length;
	double first, last;

	if (plan_quantity_parse(PLAN_TOKENS, item, first_length, &first) < 0)
		return false;
	if (!dots)
		return plan_request_add_context(request, (uint64_t)first);

	if (plan_quantity_parse(PLAN_TOKENS, dots + 2, length - first_length - 2, &last) < 0 ||
	    last < first)
		return false;

	return plan_request_add_range(request, (uint64_t)first, (uint64_t)last);
}

static int plan_request_read_contexts(const struct ctl *ctl, struct plan_request *request)
{
	const char *item = plan_request_value_of(ctl, PLAN_OPTION_CONTEXT);
	if (!item) {
		uint64_t longest = request->model.max_context;
		plan_request_add_range(request, longest < 4000 ? longest : 4000, longest);
		return CTL_DONE;
	}

	for (;;) {
		size_t length = strcspn(item, ",");
		if (!plan_request_add_item(request, item, length))
			return ctl_usage(ctl,
					 "--context is \"%s\": expected %s; several as 4K,50K or "
					 "4K..1M, %d at most",
					 plan_request_value_of(ctl, PLAN_OPTION_CONTEXT),
					 plan_quantity_expected(PLAN_TOKENS), PLAN_CONTEXTS_MAX);

		if (item[length] == '\0')
			return CTL_DONE;
		item += length + 1;
	}
}

int plan_request_load(const struct ctl *ctl, struct plan_request *request)
{
	int r = plan_request_read_model(ctl, request);
	if (r == CTL_DONE)
		r = plan_request_read_load(ctl, request);
	return r == CTL_DONE ? plan_request_read_contexts(ctl, request) : r;
}

/* ---- The hardware ---- */

static int plan_request_read_gpu(const struct ctl *ctl, struct plan_request *request)
{
	const char *name = plan_request_value_of(ctl, PLAN_OPTION_GPU);
	if (!name)
		return CTL_DONE;

	const struct plan_gpu *gpu;
	int r = plan_name_gpu(ctl, name, &gpu);
	if (r != CTL_DONE)
		return r;

	struct plan_hardware *hardware = &request->hardware;
	request->gpu = gpu;
	request->hbm_note = "the data sheet's GB read as GiB";
	hardware->hbm_bytes = gpu->hbm_bytes;
	hardware->flop_s = gpu->flop_s;
	hardware->hbm_bytes_s = gpu->hbm_bytes_s;
	hardware->link = (struct plan_link){gpu->link_bytes_s, gpu->link_bytes_s};

	return CTL_DONE;
}

static int plan_request_read_link(const struct ctl *ctl, struct plan_hardware *hardware)
{
	double rate = 0;
	int r = plan_request_read(ctl, PLAN_OPTION_LINK, PLAN_RATE, &rate);

	if (rate > 0)
		hardware->link = (struct plan_link){rate, rate};
	return r;
}

/* SIZE@RATE. */
static int plan_request_read_nvme(const struct ctl *ctl, struct plan_hardware *hardware)
{
	const char *value = plan_request_value_of(ctl, PLAN_OPTION_NVME);
	if (!value)
		return CTL_DONE;

	const char *at = strchr(value, '@');
	double size, rate;
	if (!at || plan_quantity_parse(PLAN_BYTES, value, (size_t)(at - value), &size) < 0 ||
	    plan_quantity_parse(PLAN_RATE, at + 1, strlen(at + 1), &rate) < 0)
		return ctl_usage(ctl,
				 "--nvme is \"%s\": expected a size and a rate, such as 4TB@6GB/s",
				 value);

	hardware->nvme_bytes = (uint64_t)size;
	hardware->nvme = (struct plan_link){rate, rate};

	return CTL_DONE;
}

static int plan_request_read_switch_bytes(const struct ctl *ctl, struct plan_request *request)
{
	request->switch_bytes = SWITCH_BYTES;

	int r = plan_request_read_whole(ctl, PLAN_OPTION_SWITCH_BYTES, PLAN_BYTES,
					&request->switch_bytes);
	if (r == CTL_DONE && request->switch_bytes > SWITCH_BYTES_MAX)
		return ctl_usage(ctl, "--switch-bytes is \"%s\": expected at most 1TiB",
				 plan_request_value_of(ctl, PLAN_OPTION_SWITCH_BYTES));

	return r;
}

static int plan_request_read_gpus(const struct ctl *ctl, struct plan_hardware *hardware)
{
	uint64_t gpus = 1;
	int r = plan_request_read_whole(ctl, PLAN_OPTION_GPUS, PLAN_COUNT, &gpus);

	hardware->gpus = (uint32_t)gpus;
	hardware->data_parallel = plan_request_value_of(ctl, PLAN_OPTION_DP_ATTENTION) != NULL;

	return r;
}

int plan_request_hardware(const struct ctl *ctl, struct plan_request *request)
{
	struct plan_hardware *hardware = &request->hardware;
	int r = plan_request_read_gpu(ctl, request);
	if (r == CTL_DONE && plan_request_value_of(ctl, PLAN_OPTION_HBM))
		request->hbm_note = "as given";
	if (r == CTL_DONE)
		r = plan_request_read_gpus(ctl, hardware);
	if (r == CTL_DONE)
		r = plan_request_read_whole(ctl, PLAN_OPTION_HBM, PLAN_BYTES, &hardware->hbm_bytes);
	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_FLOPS, PLAN_FLOP_S, &hardware->flop_s);

	if (r == CTL_DONE)
		r = plan_request_read(ctl, PLAN_OPTION_BANDWIDTH, PLAN_RATE,
				      &hardware->hbm_bytes_s);

	if (r == CTL_DONE)
		r = plan_request_read_link(ctl, hardware);
	if (r == CTL_DONE)
		r = plan_request_read_whole(ctl, PLAN_OPTION_DDR, PLAN_BYTES, &hardware->ddr_bytes);
	if (r == CTL_DONE)
		r = plan_request_read_switch_bytes(ctl, request);

	return r == CTL_DONE ? plan_request_read_nvme(ctl, hardware) : r;
}

/* The option of the first figure that is missing, or NULL. */
static const char *plan_request_missing(const struct plan_hardware *hardware,
					bool daemon_to_be_asked)
{
	if (!(hardware->flop_s > 0))
		return "--flops";
	if (!(hardware->hbm_bytes_s > 0))
		return "--bandwidth";
	if (daemon_to_be_asked)
		return NULL;
	if (hardware->hbm_bytes == 0)
		return "--hbm";

	return hardware->link.out_bytes_s > 0 && hardware->link.in_bytes_s > 0 ? NULL : "--link";
}

int plan_request_complete(const struct ctl *ctl, const struct plan_request *request,
			  bool daemon_to_be_asked)
{
	const char *missing = plan_request_missing(&request->hardware, daemon_to_be_asked);

	if (!missing)
		return CTL_DONE;
	return ctl_usage(ctl,
			 "expected --gpu, or --hbm, --flops, --bandwidth and --link: %s is missing",
			 missing);
}
