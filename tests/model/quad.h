/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quad: four floats at a time, and the functions of mathematics that a transformer needs,
 * with the same bits everywhere: whatever the compiler, its optimization, the sanitizers
 * and the C library.
 *
 * IEEE 754 defines +, -, *, / and the square root to the last bit, and a compiler may not
 * reorder them; it may only contract a product and a sum, which the Makefile's
 * -ffp-contract=off forbids. exp, sin and cos are not defined so; those here are
 * polynomials. Sums are written out in the order in which they are to be made.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "with -ffast-math the model is another one"
#endif

enum { QUAD = 4 };

/* Aligned like a float: it is loaded from anywhere in an array. */
typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t quad_bits __attribute__((vector_size(16), aligned(4), may_alias));

static inline quad quad_of(float x)
{
	return (quad){x, x, x, x};
}

/* The nth four of an array. */
static inline quad quad_get(const float *array, uint32_t n)
{
	quad x;

	memcpy(&x, array + (uint64_t)n * QUAD, sizeof(x));

	return x;
}

static inline void quad_put(float *array, uint32_t n, quad x)
{
	memcpy(array + (uint64_t)n * QUAD, &x, sizeof(x));
}

static inline float quad_sum(quad x)
{
	return (x[0] + x[1]) + (x[2] + x[3]);
}

/* count is a multiple of 8. Number n is added to the partial sum n % 8. */
static inline float quad_dot(const float *a, const float *b, uint32_t count)
{
	quad even = quad_of(0), odd = quad_of(0);

	for (uint32_t i = 0; i < count / QUAD; i += 2) {
		even += quad_get(a, i) * quad_get(b, i);
		odd += quad_get(a, i + 1) * quad_get(b, i + 1);
	}

	return quad_sum(even + odd);
}

/* exp(x) for x up to 88, to a few units in the last place; 0 below -87, where it would soon
 * be subnormal. */
static inline quad quad_exp(quad x)
{
	const quad magic = quad_of(0x1.8p23f); /* adding it rounds to a whole number */
	const quad_bits normal = (quad_bits)(x >= quad_of(-87.0f));
	const quad in = (quad)((quad_bits)x & normal);

	/* in = n ln 2 + r; ln 2 is in two parts, so that r is nearly exact */
	const quad shifted = in * quad_of(0x1.715476p0f) + magic;
	const quad n = shifted - magic;
	const quad r = (in - n * quad_of(0x1.63p-1f)) - n * quad_of(-0x1.bd0106p-13f);

	quad sum = quad_of(1.0f / 5040);
	sum = sum * r + quad_of(1.0f / 720);
	sum = sum * r + quad_of(1.0f / 120);
	sum = sum * r + quad_of(1.0f / 24);
	sum = sum * r + quad_of(1.0f / 6);
	sum = sum * r + quad_of(0.5f);
	sum = sum * r + quad_of(1.0f);
	sum = sum * r + quad_of(1.0f);

	/* n is in the low bits of `shifted`; an exponent begins at bit 23. */
	const quad_bits power = ((quad_bits)shifted - (quad_bits)magic) << 23;

	return (quad)(((quad_bits)sum + power) & normal);
}

/* exp in double, of x from -20 to 0: the series of a small part of x, squared back. */
static inline double quad_exp_of_double(double x)
{
	double sum = 1, term = 1;
	const double small = x / 1024;

	for (uint32_t i = 1; i < 12; i++) {
		term = term * small / i;
		sum += term;
	}
	for (uint32_t i = 0; i < 10; i++)
		sum *= sum;

	return sum;
}

/* sin and cos of an angle from 0 to 2^31: the series of what remains beyond whole turns. */
static inline void quad_sin_cos(double angle, float *sin, float *cos)
{
	const double turn = 6.283185307179586;
	const double turns = (double)(int64_t)(angle / turn + 0.5);
	const double x = angle - turns * turn;
	double term = 1, even = 0, odd = 0;

	for (uint32_t i = 0; i < 28; i += 2) {
		const double sign = i % 4 == 0 ? 1 : -1;
		even += sign * term;
		term = term * x / (i + 1);
		odd += sign * term;
		term = term * x / (i + 2);
	}
	*sin = (float)odd;
	*cos = (float)even;
}
