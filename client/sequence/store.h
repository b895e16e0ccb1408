/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: tokens of a sequence become blocks of the cache. Blocks that are whole slabs are lent
 * as they are: from then on their pages (page.h) are not written.
 */
#pragma once

#include <hbm/sequence.h>

/* hbm_sequence_store(), to a tier as of hbm_block, with the lock held. */
int hbm_store_tokens(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks,
		     size_t first, enum hbm_tier tier, hbm_result *results);
