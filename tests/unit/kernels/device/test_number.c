/* SPDX-License-Identifier: Apache-2.0 */
/* Device code, formats of numbers: every code, and what is between two of them. */
#include "kernels/device/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>

/* A format as its definition has it: sign, exponent, mantissa. */
struct format {
	int exponent_bits, mantissa_bits;
	bool has_infinities;
	float (*decode)(uint32_t code);
	uint32_t (*encode)(float value);
};

static float decode_fp16(uint32_t code)
{
	return number_of_fp16((uint16_t)code);
}

static uint32_t encode_fp16(float value)
{
	return number_to_fp16(value);
}

static float decode_bf16(uint32_t code)
{
	return number_decode((uint16_t)code, NUMBER_BF16);
}

static uint32_t encode_bf16(float value)
{
	return number_to_bf16(value);
}

static float decode_fp8(uint32_t code)
{
	return number_of_fp8((uint8_t)code);
}

static uint32_t encode_fp8(float value)
{
	return number_to_fp8(value);
}

static const struct format formats[] = {{5, 10, true, decode_fp16, encode_fp16},
					{8, 7, true, decode_bf16, encode_bf16},
					{4, 3, false, decode_fp8, encode_fp8}};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

/* The value of a code without its sign, by the definition. */
static double value_of(const struct format *format, uint32_t code)
{
	const uint32_t mantissa = code & ((1u << format->mantissa_bits) - 1);
	const uint32_t exponent = code >> format->mantissa_bits;
	const int bias = (1 << (format->exponent_bits - 1)) - 1 + format->mantissa_bits;
	const uint32_t top = (1u << format->exponent_bits) - 1;

	if (exponent == top && format->has_infinities)
		return mantissa == 0 ? (double)INFINITY : (double)NAN;
	if (exponent == top && mantissa == 7)
		return (double)NAN;

	return exponent == 0
		       ? ldexp(mantissa, 1 - bias)
		       : ldexp(mantissa + (1u << format->mantissa_bits), (int)exponent - bias);
}

static uint32_t positive_codes(const struct format *format)
{
	return 1u << (format->exponent_bits + format->mantissa_bits);
}

static void test_every_code(void **state)
{
	(void)state;
	for (size_t f = 0; f < FORMATS; f++) {
		const uint32_t sign = positive_codes(&formats[f]);

		for (uint32_t code = 0; code < sign; code++) {
			const double value = value_of(&formats[f], code);

			if (isnan(value)) {
				assert_true(isnan(formats[f].decode(code)));
				assert_true(isnan(formats[f].decode(
					formats[f].encode(formats[f].decode(code)))));
				continue;
			}

			assert_true((double)formats[f].decode(code) == value);
			assert_true((double)formats[f].decode(code | sign) == -value);
			if (isinf(value) && !formats[f].has_infinities)
				continue;
			assert_int_equal(formats[f].encode((float)value), code);
			assert_int_equal(formats[f].encode(-(float)value), code | sign);
		}
	}
}

/* The middle between two codes goes to the even one, a little beside it to the nearer. */
static void test_every_middle(void **state)
{
	(void)state;
	for (size_t f = 0; f < FORMATS; f++) {
		for (uint32_t code = 0; code + 1 < positive_codes(&formats[f]); code++) {
			const double value = value_of(&formats[f], code),
				     next = value_of(&formats[f], code + 1);
			const float middle = (float)((value + next) / 2);

			if (isnan(next) || isinf(next) || isnan(value) || isinf(value))
				continue;

			assert_int_equal(formats[f].encode(middle), code + code % 2);
			assert_int_equal(formats[f].encode(nextafterf(middle, INFINITY)), code + 1);
			assert_int_equal(formats[f].encode(nextafterf(middle, 0)), code);
		}
	}
}

static void test_too_large(void **state)
{
	(void)state;
	assert_int_equal(number_to_fp16(65519.99f), 0x7bff);
	assert_int_equal(number_to_fp16(65520), 0x7c00);
	assert_int_equal(number_to_fp16(-INFINITY), 0xfc00);
	assert_int_equal(number_to_bf16(0x1.ffp127f), 0x7f80);
	assert_int_equal(number_to_fp8(1e9f), 0x7e);
	assert_int_equal(number_to_fp8(-INFINITY), 0xfe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_code),
		cmocka_unit_test(test_every_middle),
		cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
