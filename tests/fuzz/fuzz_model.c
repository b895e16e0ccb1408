/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_model: a config.json for `hbmctl plan`. A model that is read has a name and is in
 * range: what follows from it can be computed, for one GPU and for eight.
 */
#include "tests/fuzz/fuzz.h"

#include "client/ctl/plan_config.h"
#include "client/plan/framework.h"
#include "client/plan/gpu.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static void compute(const struct plan_model *model, uint32_t gpus)
{
	const struct plan_gpu *gpu = &plan_gpus[0];
	const struct plan_hardware hardware = {
		.gpus = gpus,
		.hbm_bytes = gpu->hbm_bytes,
		.flop_s = gpu->flop_s,
		.hbm_bytes_s = gpu->hbm_bytes_s,
		.link = {gpu->link_bytes_s, gpu->link_bytes_s},
		.ddr_bytes = UINT64_C(1) << 40,
	};
	struct plan_load load = plan_load_default();
	struct plan_point point;

	load.context = 4096;
	int r = plan_compute(model, &hardware, &load, &point);
	fuzz_check(r == 0 || r == -ERANGE);
	if (r == 0)
		fuzz_check(isfinite(point.prefill_s) && isfinite(point.decode_s) &&
			   isfinite(point.switch_s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct plan_config config;
	char path[32], error[512] = "";
	int fd = fuzz_file(data, size, path);
	int r = plan_config_read(path, &config, error, sizeof(error));

	close(fd);
	fuzz_check((r == 0) == (error[0] == '\0'));
	if (r != 0)
		return 0;

	fuzz_check(config.model.name == config.name);
	fuzz_check(memchr(config.name, '\0', sizeof(config.name)) != NULL);
	fuzz_check(config.model.layers > 0 && config.model.windowed_layers <= config.model.layers);
	compute(&config.model, 1);
	compute(&config.model, 8);

	return 0;
}
