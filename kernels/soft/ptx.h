/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptx: parses the text of a module: whether the device would accept it, and the names,
 * parameters and block sizes of its entries. Statements are skipped by counting braces.
 */
#pragma once

#include "kernels/driver/cuda_abi.h"
#include "kernels/soft/soft.h"

#include <stddef.h>
#include <stdint.h>

struct ptx_entry {
	char *name;
	uint32_t params;
	uint32_t param_bytes[HBM_SOFT_PARAMS_MAX];
	uint64_t most_threads;     /* .maxntid: in a block; 0: not said */
	uint32_t exact_threads[3]; /* .reqntid: x, y, z of a block; 0: not said */
};

struct ptx {
	struct ptx_entry *entries;
	size_t count;
};

/*
 * Reads a text that ends with a zero byte, for a device of the given capability (70:
 * sm_70). Untouched on failure: CUDA_ERROR_INVALID_IMAGE: no PTX at all;
 * CUDA_ERROR_INVALID_PTX: not well-formed, or not for 64-bit addresses;
 * CUDA_ERROR_UNSUPPORTED_PTX_VERSION: newer than the driver, or older than its own
 * target; CUDA_ERROR_NO_BINARY_FOR_GPU: for a newer or an obsolete device, or machine code
 * instead of text.
 */
CUresult ptx_read(struct ptx *out, const char *text, unsigned capability);
const struct ptx_entry *ptx_find(const struct ptx *ptx, const char *name); /* NULL: no such entry */
void ptx_clear(struct ptx *ptx);                                           /* frees the entries */
