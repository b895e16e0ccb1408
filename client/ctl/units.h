/* SPDX-License-Identifier: Apache-2.0 */
/*
 * units: numbers as people write and read them. Sizes are powers of 1024 and named so
 * (KiB, MiB, GiB, TiB); durations are shown in the largest unit that leaves a number
 * above one. Every function that prints returns a small struct, so that a result can
 * stand directly in an argument list: units_bytes(n).text.
 */
#pragma once

#include <stdint.h>

struct units_text {
	char text[32];
};

/* "0 B", "64 KiB", "1.5 GiB": one decimal where the number is not whole in its unit. */
struct units_text units_bytes(uint64_t bytes);
/* "17 us", "1.2 s", "3 min 20 s", "2 d 4 h". */
struct units_text units_duration_ns(uint64_t ns);
/* "12.34", bytes per ns as GiB/s; "-" when no time passed. */
struct units_text units_rate(uint64_t bytes, uint64_t ns);
/* "36.6%"; "-" when the whole is 0. */
struct units_text units_percent(uint64_t part, uint64_t whole);
/* GiB/s as a number, 0 when no time passed. */
double units_gib_s(uint64_t bytes, uint64_t ns);

/* A whole decimal number. 0; -EINVAL: something else; -ERANGE: beyond 64 bits. Output
 * untouched on failure. */
int units_parse_count(const char *text, uint64_t *count);
/* A whole number followed by nothing or B, KiB, MiB, GiB, TiB, with or without a space.
 * Errors as above. */
int units_parse_bytes(const char *text, uint64_t *bytes);
