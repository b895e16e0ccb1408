/* SPDX-License-Identifier: Apache-2.0 */
/* copy: the operations of asynchronous copies, for the calls that queue them. */
#pragma once

#include "kernels/soft/stream.h"

/* op.target, source, bytes and rows say what to copy; the others are of the copy of rows.
 * Their hold() and drop() are called under table_lock. */
extern const struct op_kind copy_h2d, copy_d2h, copy_d2d;

/* When an operation submitted now can start; 0 if copies are not timed. */
uint64_t copy_ready_now(void);
void copies_configure(uint64_t at_once); /* bytes; 0: no copy is done within its call */
