/* SPDX-License-Identifier: Apache-2.0 */
/*
 * integer: 16-bit numbers as integers of 8 or 4 bits. Each group of numbers has the lowest
 * of them and a step: code = (number - low) / step, rounded, and step = (highest - low) /
 * 255 or 15, rounded up to the format of the numbers. Keys are best grouped by channel, as
 * few of their channels are far larger than the rest; values by token.
 *
 * A number that is decoded differs by at most step / 2 from the one encoded, and by the
 * rounding to its format (2^-8 of its magnitude for bf16, 2^-11 for fp16). What is finite
 * stays finite. Not finite numbers do not count for a group; NaN comes back as the lowest
 * number, infinities as the lowest or highest. The range of a group must be below 2^128.
 *
 * Codes of 8 bits lie as the numbers do. Two of 4 bits share a byte, the first in its low
 * half: those of channels 2i and 2i + 1 of a token, or by channel those of tokens 2i and
 * 2i + 1.
 */
#pragma once

#include "kernels/device/kernels.h"

/* Bytes of the codes and of the steps that a plane has. */
uint64_t int_code_bytes(const struct int_encode_job *job);
uint64_t int_step_bytes(const struct int_encode_job *job);
/* Reads numbers, writes codes and steps. CUDA_ERROR_INVALID_VALUE: bits are not 8 or 4,
 * group is odd or 0, or planes are too many. Numbers and steps are aligned to 2 bytes. */
CUresult int_encode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct int_encode_job *job);
/* Reads codes and steps, writes numbers. */
CUresult int_decode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct int_encode_job *job);
