/* SPDX-License-Identifier: Apache-2.0 */
/* fill_words: see fill_words.h. ptxas takes the text for every architecture from sm_70 on. */
#include "tests/gpu/fill_words.h"

#include "kernels/soft/soft.h"

#include <dlfcn.h>

const char fill_words_ptx[] = ".version 6.0\n"
			      ".target sm_70\n"
			      ".address_size 64\n"
			      "\n"
			      ".visible .entry fill_words(\n"
			      "	.param .u64 target,\n"
			      "	.param .u32 value,\n"
			      "	.param .u32 count\n"
			      ")\n"
			      "{\n"
			      "	.reg .pred past;\n"
			      "	.reg .b32 word, at, end, block, threads;\n"
			      "	.reg .b64 base, offset;\n"
			      "\n"
			      "	ld.param.u64 base, [target];\n"
			      "	ld.param.u32 word, [value];\n"
			      "	ld.param.u32 end, [count];\n"
			      "	cvta.to.global.u64 base, base;\n"
			      "	mov.u32 block, %ctaid.x;\n"
			      "	mov.u32 threads, %ntid.x;\n"
			      "	mov.u32 at, %tid.x;\n"
			      "	mad.lo.u32 at, block, threads, at;\n"
			      "	setp.ge.u32 past, at, end;\n"
			      "	@past ret;\n"
			      "	mul.wide.u32 offset, at, 4;\n"
			      "	add.u64 base, base, offset;\n"
			      "	add.u32 word, word, at;\n"
			      "	st.global.u32 [base], word;\n"
			      "	ret;\n"
			      "}\n";

static CUresult fill_words_run(struct hbm_soft_launch *launch, void *const *params)
{
	const CUdeviceptr target = *(const CUdeviceptr *)params[0];
	const uint32_t value = *(const uint32_t *)params[1], count = *(const uint32_t *)params[2];
	const uint64_t threads = (uint64_t)launch->grid[0] * launch->block[0];
	const uint64_t end = threads < count ? threads : count;
	uint32_t *words;

	if (target % sizeof(*words) != 0)
		return CUDA_ERROR_MISALIGNED_ADDRESS;
	words = hbm_soft_memory(launch, target, end * sizeof(*words), true);
	if (!words)
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	for (uint32_t i = 0; i < end; i++)
		words[i] = value + i;
	return CUDA_SUCCESS;
}

bool fill_words_give(const struct driver *driver)
{
	static const uint32_t param_bytes[] = {8, 4, 4};
	static const struct hbm_soft_kernel kernel = {"fill_words", param_bytes, 3, fill_words_run};
	int (*give)(const struct hbm_soft_kernel *) = NULL;

	*(void **)&give = dlsym(driver->library, "hbm_soft_kernel");
	return !give || give(&kernel) == 0; /* a driver of a device does not have it */
}
