/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encoding: where what is in an encoded block. First the scales of all planes, layer by
 * layer and keys before values; from the next multiple of 16 on their codes, in the same
 * order; then zeros to the next multiple of 4 KiB. Scales are those of
 * kernels/device/integer.h and kernels/device/fp8.h. Blocks that are raw or lossless have no
 * scales, and codes are the numbers themselves.
 */
#pragma once

#include <hbm/hbm.h>

enum { ENCODING_KEYS, ENCODING_VALUES, ENCODING_PARTS };

struct encoding_layout {
	uint64_t scale_bytes[ENCODING_PARTS], code_bytes[ENCODING_PARTS]; /* of a plane */
	uint64_t scales_end, codes, codes_end; /* from the block's first byte */
	uint64_t bytes;                        /* of the block */
	uint32_t group;                        /* 0: neither INT8 nor INT4 */
};

/* False: the shape has no numbers, too many of them, or an odd group; no such encoding. */
bool hbm_encoding_layout(enum hbm_encoding encoding, const struct hbm_kv_shape *shape,
			 struct encoding_layout *layout);
/* From the first plane of a part to that of the next layer. */
uint64_t hbm_encoding_scale_stride(const struct encoding_layout *layout);
uint64_t hbm_encoding_code_stride(const struct encoding_layout *layout);
/* Bytes of a plane in memory; 0 as false above. */
uint64_t hbm_kv_plane_bytes(const struct hbm_kv_shape *shape);
/* Whether every plane of `layers` is aligned to 2 bytes and of `bytes` that exist;
 * otherwise `hbm` has the error. */
int hbm_kv_check_layers(struct hbm *hbm, const struct hbm_kv_shape *shape,
			const struct hbm_kv_layer *layers, uint64_t bytes);
