/* SPDX-License-Identifier: Apache-2.0 */
/* block_key: a block's key as 32 hex digits. */
#pragma once

#include <hbm/hbm.h>

struct block_key_text {
	char text[2 * HBM_WIRE_KEY_BYTES + 1];
};

struct block_key_text block_key_text(const hbm_key *key);
/* 0, or -EINVAL (also for the reserved key, all zero). *key is written only on success. */
int block_key_parse(const char *text, hbm_key *key);
