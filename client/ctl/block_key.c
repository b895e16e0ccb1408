/* SPDX-License-Identifier: Apache-2.0 */
/* block_key: see block_key.h. */
#include "client/ctl/block_key.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct block_key_text block_key_text(const hbm_key *key)
{
	struct block_key_text out;
	for (size_t i = 0; i < HBM_WIRE_KEY_BYTES; i++)
		snprintf(out.text + 2 * i, 3, "%02x", key->bytes[i]);
	return out;
}

static int block_key_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int block_key_parse(const char *text, hbm_key *key)
{
	hbm_key parsed;
	unsigned char any = 0;

	if (strlen(text) != 2 * HBM_WIRE_KEY_BYTES)
		return -EINVAL;

	for (size_t i = 0; i < HBM_WIRE_KEY_BYTES; i++) {
		int high = block_key_digit(text[2 * i]), low = block_key_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		parsed.bytes[i] = (uint8_t)(high * 16 + low);
		any |= parsed.bytes[i];
	}

	if (!any)
		return -EINVAL;

	*key = parsed;

	return 0;
}
