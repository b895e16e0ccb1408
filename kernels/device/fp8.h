/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fp8: 16-bit numbers as fp8 e4m3, a byte each where they lay, with a scale for each head
 * of a plane: amax / 448, where amax is the largest finite magnitude of the head, kept as
 * 32 bits. code = number / scale, to the nearest fp8.
 *
 * A number that is decoded differs from the one encoded by at most 2^-4 of its magnitude
 * or, below amax / 28672, by amax / 458752; and by the rounding to its format (2^-8 of its
 * magnitude for bf16, 2^-11 for fp16). NaN stays NaN; infinities become amax. Below an amax
 * of 2^-110 the scale is subnormal and the error up to amax.
 */
#pragma once

#include "kernels/device/kernels.h"

/* Reads numbers, writes codes and amax: a memset and two launches. Numbers are aligned to
 * 2 bytes, amax to 4. CUDA_ERROR_INVALID_VALUE: too many planes. */
CUresult fp8_encode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct fp8_encode_job *job);
/* Reads codes and amax, writes numbers. */
CUresult fp8_decode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct fp8_encode_job *job);
