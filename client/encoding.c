/* SPDX-License-Identifier: Apache-2.0 */
/* encoding: see encoding.h. */
#include "client/encoding.h"

#include "client/error.h"
#include "daemon/base/checked.h"
#include "kernels/device/integer.h"

#include <string.h>

#define BLOCK_UNIT 4096u
#define CODES_UNIT 16u
#define NUMBER_BYTES 2u
/* Of a block: no sum of sizes overflows below. */
#define BYTES_MAX ((uint64_t)1 << 48)

#define INT8_GROUP 64u
#define INT4_GROUP 32u

static uint64_t encoding_round(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

uint64_t hbm_kv_plane_bytes(const struct hbm_kv_shape *shape)
{
	uint64_t bytes, all;

	if (shape->number != HBM_NUMBER_BF16 && shape->number != HBM_NUMBER_FP16)
		return 0;
	if (!checked_mul((uint64_t)shape->tokens * shape->heads, shape->head_dim, &bytes) ||
	    !checked_mul(bytes, NUMBER_BYTES, &bytes) ||
	    !checked_mul(bytes, (uint64_t)shape->layers * ENCODING_PARTS, &all) || all > BYTES_MAX)
		return 0;

	return all == 0 ? 0 : bytes;
}

static void encoding_int_sizes(const struct hbm_kv_shape *shape, uint32_t bits,
			       struct encoding_layout *layout)
{
	struct int_encode_job job = {.tokens = shape->tokens,
				     .channels = (uint64_t)shape->heads * shape->head_dim,
				     .group = layout->group,
				     .bits = bits};

	for (uint32_t part = 0; part < ENCODING_PARTS; part++) {
		job.by_channel = part == ENCODING_KEYS;
		layout->scale_bytes[part] = int_step_bytes(&job);
		layout->code_bytes[part] = int_code_bytes(&job);
	}
}

/* Of a plane; `raw` is its size in memory. */
static void encoding_sizes(enum hbm_encoding encoding, const struct hbm_kv_shape *shape,
			   uint64_t raw, struct encoding_layout *layout)
{
	const bool is_int8 = encoding == HBM_ENCODING_INT8;

	if (is_int8 || encoding == HBM_ENCODING_INT4) {
		layout->group = shape->group ? shape->group : is_int8 ? INT8_GROUP : INT4_GROUP;
		encoding_int_sizes(shape, is_int8 ? 8 : 4, layout);
		return;
	}

	for (uint32_t part = 0; part < ENCODING_PARTS; part++) {
		layout->code_bytes[part] = encoding == HBM_ENCODING_FP8 ? raw / NUMBER_BYTES : raw;
		layout->scale_bytes[part] =
			encoding == HBM_ENCODING_FP8 ? shape->heads * sizeof(float) : 0;
	}
}

bool hbm_encoding_layout(enum hbm_encoding encoding, const struct hbm_kv_shape *shape,
			 struct encoding_layout *layout)
{
	const uint64_t raw = hbm_kv_plane_bytes(shape);

	if (raw == 0 || (uint32_t)encoding >= HBM_ENCODINGS || shape->group % 2 != 0)
		return false;

	memset(layout, 0, sizeof(*layout));
	encoding_sizes(encoding, shape, raw, layout);
	if (shape->keys_only)
		layout->scale_bytes[ENCODING_VALUES] = layout->code_bytes[ENCODING_VALUES] = 0;

	layout->scales_end = shape->layers * hbm_encoding_scale_stride(layout);
	layout->codes = encoding_round(layout->scales_end, CODES_UNIT);
	layout->codes_end = layout->codes + shape->layers * hbm_encoding_code_stride(layout);
	layout->bytes = encoding_round(layout->codes_end, BLOCK_UNIT);

	return true;
}

uint64_t hbm_encoding_scale_stride(const struct encoding_layout *layout)
{
	return layout->scale_bytes[ENCODING_KEYS] + layout->scale_bytes[ENCODING_VALUES];
}

uint64_t hbm_encoding_code_stride(const struct encoding_layout *layout)
{
	return layout->code_bytes[ENCODING_KEYS] + layout->code_bytes[ENCODING_VALUES];
}

static bool encoding_is_plane(uint64_t address, uint64_t bytes)
{
	uint64_t end;

	return address % NUMBER_BYTES == 0 && checked_add(address, bytes, &end);
}

int hbm_kv_check_layers(struct hbm *hbm, const struct hbm_kv_shape *shape,
			const struct hbm_kv_layer *layers, uint64_t bytes)
{
	for (uint32_t i = 0; i < shape->layers; i++)
		if (!encoding_is_plane(layers[i].keys, bytes) ||
		    (!shape->keys_only && !encoding_is_plane(layers[i].values, bytes)))
			return hbm_fail(hbm, HBM_INVALID,
					"layer %u: not aligned to %u bytes, or beyond the last "
					"address",
					i, NUMBER_BYTES);

	return 0;
}

uint64_t hbm_encoded_bytes(enum hbm_encoding encoding, const struct hbm_kv_shape *shape)
{
	struct encoding_layout layout;

	return hbm_encoding_layout(encoding, shape, &layout) ? layout.bytes : 0;
}
