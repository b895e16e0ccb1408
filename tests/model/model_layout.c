/* SPDX-License-Identifier: Apache-2.0 */
/* model_layout: see model_layout.h. */
#include "tests/model/model_layout.h"

#include <assert.h>
#include <err.h>

struct hbm_layout *model_layout_new(enum hbm_layout_order order, enum model_number number,
				    uint64_t max_tokens, uint32_t page_tokens)
{
	const struct hbm_layout_options options = {
		.layer_count = MODEL_LAYERS,
		.layer = {.heads = MODEL_KV_HEADS,
			  .head_dim = MODEL_HEAD_DIM,
			  .element_bytes = model_number_bytes(number)},
		.order = order,
		.page_tokens = page_tokens,
		.max_tokens = max_tokens};
	struct hbm_layout *layout;
	char error[256] = "";

	if (hbm_layout_new(&layout, &options, error, sizeof(error)) != 0)
		errx(1, "%s", error);

	return layout;
}

struct model_kv model_layout_kv(const struct hbm_layout *layout, enum model_number number,
				unsigned char *base, const int32_t *pages)
{
	const uint32_t page_tokens = pages ? hbm_layout_options(layout)->page_tokens : 0;
	struct model_kv kv = {.number = number, .pages = pages, .page_tokens = page_tokens};
	struct hbm_kv_view view;
	char error[256] = "";

	for (uint32_t i = 0; i < MODEL_LAYERS; i++) {
		if (hbm_layout_view(layout, i, page_tokens, &view, error, sizeof(error)) != 0)
			errx(1, "%s", error);
		assert(view.element_bytes == model_number_bytes(number));
		kv.layers[i] = (struct model_kv_layer){
			.keys = base + view.keys,
			.values = base + view.values,
			.token_stride = view.token_stride * view.element_bytes,
			.head_stride = view.head_stride * view.element_bytes,
		};
		kv.page_stride = view.page_stride * view.element_bytes;
	}

	return kv;
}
