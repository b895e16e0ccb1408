/* SPDX-License-Identifier: Apache-2.0 */
/* cut: a sequence gives up tokens, at its end (truncate) or in front (slide). */
#pragma once

#include <stdint.h>

struct hbm_sequence;

/* Adds to the pool's ranges to shrink, from the first one on, what lies further beyond so
 * many tokens than is mapped ahead of a step, and what others have of it. */
void hbm_cut_gather_end(struct hbm_sequence *sequence, uint64_t tokens);
