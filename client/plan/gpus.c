/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpus: the built-in table of GPUs; see gpu.h. The columns: name, host link, GB of
 * memory, bf16 TFLOP/s, GB/s of memory, GB/s of the host link, GB/s between GPUs.
 */
#include "client/plan/gpu.h"
#include "client/plan/names.h"

#include <string.h>

#define GPU(name, link, memory_gb, tflop_s, memory_gb_s, link_gb_s, gpu_gb_s, source, checked)     \
	{                                                                                          \
		name, link, (uint64_t)(memory_gb) << 30, (tflop_s)*1e12, (memory_gb_s)*1e9,        \
			(link_gb_s)*1e9, (gpu_gb_s)*1e9, source, checked                           \
	}

const struct plan_gpu plan_gpus[] = {
	GPU("RTX 4090", "PCIe 4.0 x16", 24, 165.2, 1008, 31.5, 0,
	    "hmc-tech.com rtx-4090 page (BF16 tensor 165.2 dense, FP32 accumulate); cputronic.com "
	    "(1008 GB/s, PCIe 4.0 "
	    "x16)",
	    "yes"),
	GPU("RTX 5090", "PCIe 5.0 x16", 32, 209.5, 1792, 63.0, 0,
	    "spheron.network RTX 5090 spec page (1792 GB/s, PCIe 5.0, FP16 838.4 sparse with FP16 "
	    "accumulate); 209.5 = "
	    "dense with FP32 accumulate, derived 838.4/4",
	    "yes (TFLOPS derived)"),
	GPU("L4", "PCIe 4.0 x16", 24, 121, 300, 31.5, 0,
	    "store.sourcecode.com compare page (300 GB/s, PCIe 4.0 x16); inferenceengineering.tech "
	    "(121 TFLOPS); "
	    "hmc-tech lists 125.3",
	    "yes"),
	GPU("L40S", "PCIe 4.0 x16", 48, 362, 864, 31.5, 0,
	    "llmbook.apartsin.com table; store.sourcecode.com (864 GB/s, PCIe 4.0 x16); hmc-tech "
	    "lists 366.4",
	    "yes"),
	GPU("A10", "PCIe 4.0 x16", 24, 125, 600, 31.5, 0,
	    "sysrqmts.com A10 page (24 GB, 600.2 GB/s, PCIe 4.0 x16); 125 TFLOPS from NVIDIA "
	    "datasheet, memory",
	    "yes (TFLOPS memory)"),
	GPU("A100 40GB PCIe", "PCIe 4.0 x16", 40, 312, 1555, 31.5, 600,
	    "hmc-tech.com L4-vs-A100-40GB (311.87 TFLOPS, 40 GB); bandwidth and NVLink from NVIDIA "
	    "datasheet, memory",
	    "partly"),
	GPU("A100 80GB SXM", "PCIe 4.0 x16", 80, 312, 2039, 31.5, 600,
	    "acecloud.ai comparison (2.039 TB/s, 600 GB/s); hmc-tech A100 SXM (311.9)", "yes"),
	GPU("A100 80GB PCIe", "PCIe 4.0 x16", 80, 312, 1935, 31.5, 600, "NVIDIA datasheet, memory",
	    "no"),
	GPU("H100 PCIe", "PCIe 5.0 x16", 80, 756.5, 2000, 63.0, 600,
	    "archive-lib.hpctech.co.jp H100 table (2000 GB/s, BF16 1513 sparse, NVLink 600, PCIe "
	    "Gen5 128 both ways)",
	    "yes"),
	GPU("H100 SXM5", "PCIe 5.0 x16", 80, 989.4, 3350, 63.0, 900,
	    "glennklockwood.com H100 page; archive-lib.hpctech.co.jp table", "yes"),
	GPU("H200 SXM", "PCIe 5.0 x16", 141, 989, 4800, 63.0, 900,
	    "acecloud.ai; llmbook.apartsin.com", "yes"),
	GPU("B200 SXM", "PCIe 5.0 x16", 180, 2250, 8000, 63.0, 1800,
	    "acecloud.ai (DGX B200: 1440 GB / 8, ~8 TB/s, 1.8 TB/s); hmc-tech B200 (192 GB "
	    "physical, 7.7 TB/s, 2.25 "
	    "PFLOPS dense)",
	    "yes"),
	GPU("GB200 (per GPU)", "NVLink-C2C to Grace", 186, 2500, 8000, 450.0, 1800,
	    "hmc-tech GB200 superchip (2 GPUs: 384 GB physical, 5 PFLOPS BF16 dense); C2C 900 GB/s "
	    "both ways and 186 "
	    "GB usable from NVIDIA GB200 NVL72 page, memory",
	    "partly"),
	GPU("MI300X", "PCIe 5.0 x16", 192, 1307, 5300, 63.0, 896,
	    "hmc-tech B200-vs-MI300X (1.31 PFLOPS BF16 dense); objectwire.org (5.3 TB/s, 896 GB/s)",
	    "yes"),
	GPU("RTX 6000 Ada", "PCIe 4.0 x16", 48, 364, 960, 31.5, 0,
	    "NVIDIA datasheet, memory; store.sourcecode.com (48 GB ECC, PCIe 4.0 x16, 384-bit)",
	    "partly"),
	GPU("RTX PRO 6000 Blackwell", "PCIe 5.0 x16", 96, 504, 1792, 63.0, 0,
	    "hardware-corner.net and gpu.name (96 GB, 1792 GB/s, PCIe 5.0); 504 TFLOPS dense from "
	    "NVIDIA whitepaper, "
	    "memory",
	    "partly"),
};
const size_t plan_gpu_count = sizeof(plan_gpus) / sizeof(plan_gpus[0]);

/* If one variant is by far the most common, the bare name means it. */
static const struct {
	const char *name, *alias;
} gpu_aliases[] = {{"H100 SXM5", "H100"}};

static const char *gpus_alias(const char *name)
{
	for (size_t i = 0; i < sizeof(gpu_aliases) / sizeof(gpu_aliases[0]); i++) {
		if (strcmp(gpu_aliases[i].name, name) == 0)
			return gpu_aliases[i].alias;
	}
	return NULL;
}

const char *plan_gpu_name(size_t row, unsigned which)
{
	const char *name = plan_gpus[row].name;

	if (which > 1)
		return NULL;
	return which == 0 ? name : gpus_alias(name);
}

const struct plan_gpu *plan_gpu_find(const char *name)
{
	size_t row;

	return names_find(name, plan_gpu_name, plan_gpu_count, &row, 1) == 1 ? &plan_gpus[row]
									     : NULL;
}
