/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window: slabs of layers with a window that no kernel reads any more are given back while a
 * sequence grows. Two steps may be under way: the one that was just made, and the one before
 * it, whose kernels may still run. So a slab goes when it lies in front of the window of the
 * tokens that there were before both.
 */
#pragma once

#include <stdint.h>

struct hbm_sequence;

/* Gives back what lies in front of the windows. Forks that lack it are mapped first. */
int hbm_window_slide(struct hbm_sequence *sequence);
