/* SPDX-License-Identifier: Apache-2.0 */
/* fill_words: see fill_words.h. */
#include "tests/gpu/fill_words.h"

#include "tests/support/device_code.h"

DEVICE_CODE(fill_words_ptx);

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

	return device_code_give(driver, &kernel);
}
