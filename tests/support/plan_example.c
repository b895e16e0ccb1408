/* SPDX-License-Identifier: Apache-2.0 */
/* plan_example: see plan_example.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/plan_example.h"

#include <stdio.h>

const struct plan_model plan_example = {
	.name = "example",
	.layers = 60,
	.q_heads = 56,
	.kv_heads = 8,
	.head_dim = 128,
	.element_bits = 16,
	.attention_width = 14336,
	.weight_bits = 16,
	.params = 34000000000,
	.active_params = 34000000000,
};

struct plan_hardware plan_example_a100(uint64_t hbm_bytes, uint32_t gpus)
{
	return (struct plan_hardware){.gpus = gpus,
				      .hbm_bytes = hbm_bytes,
				      .flop_s = 312e12,
				      .hbm_bytes_s = 2.039e12,
				      .link = {20e9, 20e9}};
}

struct plan_point plan_example_compute(const struct plan_model *model,
				       const struct plan_hardware *hardware,
				       const struct plan_load *load, uint64_t context)
{
	struct plan_load at = *load;
	struct plan_point point;
	at.context = context;
	assert_int_equal(plan_compute(model, hardware, &at, &point), 0);
	return point;
}

void plan_example_printed(double value, const char *format, const char *expected)
{
	char text[32];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), format, value);
#pragma GCC diagnostic pop
	assert_string_equal(text, expected);
}
