/* SPDX-License-Identifier: Apache-2.0 */
/* progress: a bar on stderr while something long runs, only where stderr is a terminal. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Draws over the previous bar. */
void progress_show(size_t done, size_t total, uint64_t elapsed_ns);
/* Erases the bar. */
void progress_end(void);
