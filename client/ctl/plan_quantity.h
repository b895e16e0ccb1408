/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_quantity: numbers with units as people write them in data sheets: "80GB", "80GiB",
 * "312T", "20GB/s", "50K" tokens, "34B" parameters, "1/60". K of tokens is 1,000. A size
 * must have a unit: GB and GiB differ, and a number alone is rarely meant in bytes. A
 * number may have a fraction and an exponent; signs, hexadecimal, infinities and NaN are
 * refused, and so is a value outside its kind's range.
 */
#pragma once

#include <stddef.h>

enum plan_quantity {
	PLAN_TOKENS,  /* whole, 1 to PLAN_CONTEXT_MAX; K, M */
	PLAN_COUNT,   /* whole, 1 to a million; K */
	PLAN_PARAMS,  /* whole; K, M, B, T */
	PLAN_BYTES,   /* whole; B, KB, MB, GB, TB, KiB, MiB, GiB, TiB: never without */
	PLAN_RATE,    /* bytes per second; a number alone is in GB/s */
	PLAN_FLOP_S,  /* a number alone is in FLOP/s; G, T, P */
	PLAN_SECONDS, /* from 0; ms, s, min, h */
	PLAN_RATIO,   /* above 0, at most 1; %, or a fraction such as 1/60 */
	PLAN_WIDTH,   /* FLOP for a token, context token and layer */
	PLAN_BITS,    /* 1 to 32 */
};

/* The first `length` bytes of text. 0; -EINVAL: not such a quantity; -ERANGE: out of
 * its range. */
int plan_quantity_parse(enum plan_quantity kind, const char *text, size_t length, double *out);
/* Describes a valid value, for a message: "a size with its unit, such as 80GiB". */
const char *plan_quantity_expected(enum plan_quantity kind);
