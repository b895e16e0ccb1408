/* SPDX-License-Identifier: Apache-2.0 */
/* model_kv: see model_kv.h. */
#include "tests/model/model_kv.h"

#include <string.h>

#include "kernels/soft/reservation.h"
#include "tests/model/quad.h"

uint32_t model_number_bytes(enum model_number number)
{
	return number == MODEL_FP32 ? 4 : 2;
}

uint64_t model_kv_token_bytes(enum model_number number)
{
	return 2ull * MODEL_LAYERS * MODEL_KV_WIDTH * model_number_bytes(number);
}

unsigned char *model_kv_memory(uint64_t device_address)
{
	return reservation_place(device_address);
}

unsigned char *model_kv_head(const struct model_kv *kv, uint32_t layer, enum model_part part,
			     uint64_t token, uint32_t head)
{
	const struct model_kv_layer *in = &kv->layers[layer];
	unsigned char *base = part == MODEL_KEYS ? in->keys : in->values;

	if (kv->pages) {
		base += (uint64_t)kv->pages[token / kv->page_tokens] * kv->page_stride;
		token %= kv->page_tokens;
	}

	return base + token * in->token_stride + head * in->head_stride;
}

/* ---- Numbers ---- */

static uint16_t model_kv_bf16(float number)
{
	uint32_t bits;

	memcpy(&bits, &number, sizeof(bits));

	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* What is too large for fp16 becomes its largest number. */
static uint16_t model_kv_fp16(float number)
{
	uint32_t bits;

	memcpy(&bits, &number, sizeof(bits));
	const uint16_t sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;

	if (bits >= 0x477ff000) /* would be rounded to 65536 or more */
		return sign | 0x7bff;
	if (bits < 0x38800000) { /* below 2^-14: in units of 2^-24, which adding 0.5 rounds to */
		float rounded;
		memcpy(&rounded, &bits, sizeof(rounded));
		rounded += 0.5f;
		memcpy(&bits, &rounded, sizeof(bits));
		return (uint16_t)(sign | (bits - 0x3f000000));
	}

	bits -= 112u << 23; /* the exponent of fp16 */
	return (uint16_t)(sign | ((bits + 0xfff + (bits >> 13 & 1)) >> 13));
}

void model_kv_write(const struct model_kv *kv, uint32_t layer, enum model_part part, uint64_t token,
		    const float *numbers)
{
	for (uint32_t head = 0; head < MODEL_KV_HEADS; head++, numbers += MODEL_HEAD_DIM) {
		unsigned char *to = model_kv_head(kv, layer, part, token, head);
		uint16_t half[MODEL_HEAD_DIM];

		if (kv->number == MODEL_FP32) {
			memcpy(to, numbers, MODEL_HEAD_DIM * sizeof(*numbers));
			continue;
		}
		for (uint32_t i = 0; i < MODEL_HEAD_DIM; i++)
			half[i] = kv->number == MODEL_BF16 ? model_kv_bf16(numbers[i])
							   : model_kv_fp16(numbers[i]);
		memcpy(to, half, sizeof(half));
	}
}

static quad_bits model_kv_widen(const uint16_t *half, uint32_t n)
{
	half += (uint64_t)n * QUAD;

	return (quad_bits){half[0], half[1], half[2], half[3]};
}

void model_kv_read(const struct model_kv *kv, uint32_t layer, enum model_part part, uint64_t token,
		   uint32_t head, float *numbers)
{
	const unsigned char *from = model_kv_head(kv, layer, part, token, head);

	if (kv->number == MODEL_FP32) {
		memcpy(numbers, from, MODEL_HEAD_DIM * sizeof(*numbers));
		return;
	}

	uint16_t half[MODEL_HEAD_DIM];
	memcpy(half, from, sizeof(half));
	if (kv->number == MODEL_BF16)
		for (uint32_t i = 0; i < MODEL_HEAD_DIM / QUAD; i++)
			quad_put(numbers, i, (quad)(model_kv_widen(half, i) << 16));
	else
		for (uint32_t i = 0; i < MODEL_HEAD_DIM / QUAD; i++) {
			const quad_bits bits = model_kv_widen(half, i);
			/* exponents of fp16 are smaller by 112 than those of fp32 */
			const quad magnitude = (quad)((bits & 0x7fff) << 13) * quad_of(0x1p112f);
			quad_put(numbers, i, (quad)((quad_bits)magnitude | (bits & 0x8000) << 16));
		}
}

/* ---- Whole tokens ---- */

enum { MODEL_KV_PIECES = MODEL_LAYERS * 2 * MODEL_KV_HEADS };

/* A token's heads, one after the other, keys and values, in all layers. */
static unsigned char *model_kv_piece(const struct model_kv *kv, uint64_t token, uint32_t n)
{
	const uint32_t plane = n / MODEL_KV_HEADS;

	return model_kv_head(kv, plane / 2, plane % 2 ? MODEL_VALUES : MODEL_KEYS, token,
			     n % MODEL_KV_HEADS);
}

static size_t model_kv_piece_bytes(const struct model_kv *kv)
{
	return (size_t)MODEL_HEAD_DIM * model_number_bytes(kv->number);
}

void model_kv_copy(const struct model_kv *from, uint64_t token, const struct model_kv *to,
		   uint64_t to_token)
{
	for (uint32_t n = 0; n < MODEL_KV_PIECES; n++)
		memmove(model_kv_piece(to, to_token, n), model_kv_piece(from, token, n),
			model_kv_piece_bytes(from));
}

void model_kv_compact(const struct model_kv *kv, uint64_t first, const uint64_t *path,
		      uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		model_kv_copy(kv, path[i], kv, first + i);
}

bool model_kv_same(const struct model_kv *a, const struct model_kv *b, uint64_t first, uint64_t end)
{
	for (uint64_t token = first; token < end; token++)
		for (uint32_t n = 0; n < MODEL_KV_PIECES; n++)
			if (memcmp(model_kv_piece(a, token, n), model_kv_piece(b, token, n),
				   model_kv_piece_bytes(a)) != 0)
				return false;

	return true;
}

uint64_t model_kv_digest(const struct model_kv *kv, uint64_t first, uint64_t end)
{
	uint64_t digest = 0xcbf29ce484222325;

	for (uint64_t token = first; token < end; token++)
		for (uint32_t n = 0; n < MODEL_KV_PIECES; n++) {
			const unsigned char *bytes = model_kv_piece(kv, token, n);
			for (size_t i = 0; i < model_kv_piece_bytes(kv); i++)
				digest = (digest ^ bytes[i]) * 0x100000001b3;
		}

	return digest;
}
