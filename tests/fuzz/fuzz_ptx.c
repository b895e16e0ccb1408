/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_ptx: the text of a module for the soft driver. What is accepted has entries with names
 * that are found, and parameters within the driver's bounds. */
#include "tests/fuzz/fuzz.h"

#include "kernels/soft/ptx.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct ptx ptx = {NULL, 0};
	CUresult result = ptx_read(&ptx, text, 70);

	fuzz_check(result == CUDA_SUCCESS || (ptx.entries == NULL && ptx.count == 0));
	for (size_t i = 0; i < ptx.count; i++) {
		const struct ptx_entry *entry = &ptx.entries[i];
		uint64_t bytes = 0;

		fuzz_check(ptx_find(&ptx, entry->name) == entry);
		fuzz_check(entry->name[0] != '\0' && strlen(entry->name) <= size);
		fuzz_check(entry->params <= HBM_SOFT_PARAMS_MAX);
		for (uint32_t k = 0; k < entry->params; k++)
			bytes += entry->param_bytes[k];
		fuzz_check(bytes <= HBM_SOFT_PARAM_BYTES_MAX);
	}

	ptx_clear(&ptx);
	free(text);

	return 0;
}
