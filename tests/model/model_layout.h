/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_layout: the model's KV cache in a layout of the library, as an engine would have it.
 */
#pragma once

#include <hbm/sequence.h>

#include "tests/model/model_kv.h"

/* Of sequences of at most max_tokens. page_tokens: 0, but in HBM_ORDER_BLOCK those of a page.
 * Ends the process if it is refused; freed with hbm_layout_free(). */
struct hbm_layout *model_layout_new(enum hbm_layout_order order, enum model_number number,
				    uint64_t max_tokens, uint32_t page_tokens);
/* A slot at `base`. In HBM_ORDER_BLOCK `pages` is its page table, and `base` that of page 0. */
struct model_kv model_layout_kv(const struct hbm_layout *layout, enum model_number number,
				unsigned char *base, const int32_t *pages);
