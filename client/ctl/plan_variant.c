/* SPDX-License-Identifier: Apache-2.0 */
/* plan_variant: see plan_variant.h. */
#include "client/ctl/plan_variant.h"

const struct plan_variant plan_variants[] = {
	{"layers_half", "half the layers", 0.5, 1, 1, 0, 0},
	{"heads_half", "half the heads", 1, 0.5, 1, 0, 0},
	{"tokens_half", "half the tokens", 1, 1, 0.5, 0, 0},
	{"encoding_8_bits", "8 bits an element", 1, 1, 1, 8, 0},
	{"encoding_4_bits", "4 bits an element", 1, 1, 1, 4, 0},
	{"one_more_gpu", "one more GPU", 1, 1, 1, 0, 1},
};
const size_t plan_variant_count = sizeof(plan_variants) / sizeof(plan_variants[0]);

bool plan_variant_compute(const struct plan_variant *variant, const struct plan_model *model,
			  const struct plan_hardware *hardware, const struct plan_load *load,
			  struct plan_point *out)
{
	struct plan_hardware grown = *hardware;
	struct plan_load changed = *load;
	uint32_t bits = load->encoding_bits ? load->encoding_bits : model->element_bits;

	if (variant->bits >= bits)
		return false;
	if (variant->bits)
		changed.encoding_bits = variant->bits;

	changed.keep_layers *= variant->layers;
	changed.keep_heads *= variant->heads;
	changed.keep_tokens *= variant->tokens;
	grown.gpus += variant->more_gpus;

	return plan_compute(model, &grown, &changed, out) == 0;
}
