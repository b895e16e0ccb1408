/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_example: the running example of the four metrics, a 34 B model on cards of 80 GB, and
 * comparing what comes of it with figures that were worked out by hand.
 */
#pragma once

#include <stdint.h>

#include "client/plan/framework.h"

/* 60 layers, 8 KV heads of 128, bf16, 34e9 parameters. */
extern const struct plan_model plan_example;
/* 312 TFLOP/s, 2.039 TB/s, 20 GB/s. */
struct plan_hardware plan_example_a100(uint64_t hbm_bytes, uint32_t gpus);
#define PLAN_EXAMPLE_HBM (80ull << 30)

/* The metrics, which can be computed, with that context. */
struct plan_point plan_example_compute(const struct plan_model *model,
				       const struct plan_hardware *hardware,
				       const struct plan_load *load, uint64_t context);
/* Fails the test unless the value is this, to the digits printed. */
void plan_example_printed(double value, const char *format, const char *expected);
#define plan_example_near(a, b) plan_example_printed((a) / (b), "%.9f", "1.000000000")
