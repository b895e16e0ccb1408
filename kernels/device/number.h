/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number: the formats that KV and its encodings have, to and from single precision, for
 * device and host alike: bf16, fp16 and fp8 e4m3 (no infinities, largest 448, subnormals
 * down to 2^-9). Roundings are to the nearest, ties to even; fp8 saturates. Plain
 * arithmetic, as the instructions for fp8 exist from sm_89 on only.
 */
#pragma once

#include "kernels/device/jobs.h"

#ifdef __CUDA__
#define NUMBER static __attribute__((device, always_inline, unused)) inline
#else
#define NUMBER static inline __attribute__((unused))
#endif

#define FP8_MAX 448.0f
#define FP8_NAN 0x7fu

NUMBER uint32_t number_bits(float value)
{
	uint32_t bits;

	__builtin_memcpy(&bits, &value, sizeof(bits));
	return bits;
}

NUMBER float number_of_bits(uint32_t bits)
{
	float value;

	__builtin_memcpy(&value, &bits, sizeof(value));
	return value;
}

NUMBER int number_is_finite(float value)
{
	return (number_bits(value) & 0x7f800000) != 0x7f800000;
}

/* To the nearest integer, for 0 <= value < 2^22: there is no room for a fraction beside
 * 1.5 * 2^23. */
NUMBER uint32_t number_round(float value)
{
	return number_bits(value + 12582912.0f) & 0x3fffff;
}

NUMBER float number_of_fp16(uint16_t code)
{
	const uint32_t sign = (uint32_t)(code & 0x8000) << 16, rest = code & 0x7fff;

	if (rest >= 0x7c00)
		return number_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
	if (rest < 0x400)
		return number_of_bits(sign | number_bits((float)rest * 0x1p-24f));

	return number_of_bits(sign | ((rest << 13) + 0x38000000));
}

NUMBER uint16_t number_to_fp16(float value)
{
	const uint32_t bits = number_bits(value), rest = bits & 0x7fffffff;
	const uint32_t sign = bits >> 16 & 0x8000;

	if (rest > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (rest >= 0x477ff000) /* 65520 and above */
		return (uint16_t)(sign | 0x7c00);
	if (rest < 0x38800000)
		return (uint16_t)(sign | number_round(number_of_bits(rest) * 0x1p24f));

	return (uint16_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}

NUMBER uint16_t number_to_bf16(float value)
{
	const uint32_t bits = number_bits(value);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);

	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

NUMBER float number_decode(uint16_t code, uint32_t form)
{
	return form == NUMBER_FP16 ? number_of_fp16(code) : number_of_bits((uint32_t)code << 16);
}

NUMBER uint16_t number_encode(float value, uint32_t form)
{
	return form == NUMBER_FP16 ? number_to_fp16(value) : number_to_bf16(value);
}

NUMBER float number_of_fp8(uint8_t code)
{
	const uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;

	if (rest == FP8_NAN)
		return number_of_bits(sign | 0x7fc00000);
	if (rest < 8)
		return number_of_bits(sign | number_bits((float)rest * 0x1p-9f));

	return number_of_bits(sign | ((rest << 20) + 0x3c000000));
}

NUMBER uint8_t number_to_fp8(float value)
{
	const uint32_t bits = number_bits(value), rest = bits & 0x7fffffff;
	const uint32_t sign = bits >> 24 & 0x80;

	if (rest > 0x7f800000)
		return (uint8_t)(sign | FP8_NAN);
	if (rest >= 0x43e00000) /* 448 and above */
		return (uint8_t)(sign | (FP8_NAN - 1));
	if (rest < 0x3c800000)
		return (uint8_t)(sign | number_round(number_of_bits(rest) * 512));

	return (uint8_t)(sign | (rest - 0x3c000000 + 0x7ffff + (rest >> 20 & 1)) >> 20);
}
