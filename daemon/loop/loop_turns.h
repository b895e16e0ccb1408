/* SPDX-License-Identifier: Apache-2.0 */
/* loop_turns: how long the loop took for what it found, from one wait to the next. */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct loop_turns {
	uint64_t at_most[HBM_TURNS]; /* turns, by enum hbm_turns */
	uint64_t longest_ns;
};
