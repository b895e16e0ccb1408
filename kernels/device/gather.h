/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather: copies between pieces of device memory and one flat range of it, where they lie
 * without gaps. Pieces begin at any byte and have any size. Where a piece and its part of the flat
 * range are equal modulo 16, all accesses but its ends are of 16 bytes; modulo 4, of 4;
 * else of one.
 *
 * The list travels in the launch: no memory of the caller's is read afterwards. Pieces and
 * flat range must not overlap, nor, in a scatter, pieces each other.
 */
#pragma once

#include "kernels/device/kernels.h"

#include <stddef.h>

/* For each GATHER_PIECES pieces a launch. The `at` of each is given. 0 pieces are no
 * launch. */
CUresult gather_pieces_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			      uint64_t flat, const struct gather_piece *pieces, size_t count,
			      bool scatter);
CUresult gather_rows_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			    const struct gather_rows_job *job);
/* Compaction: of tokens where rows are tokens and a plane is one table; of heads where tables
 * are tokens and rows are heads. Targets must not overlap sources. */
CUresult compact_rows_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			     const struct compact_rows_job *job);
