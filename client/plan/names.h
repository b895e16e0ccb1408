/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names: finding what a person meant. Two names are the same if they differ only in case and in what is neither letter
 * nor digit. The nearest to an unknown name are those that contain it, then those with the smallest edit distance.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define NAMES_LENGTH_MAX 64 /* of what is compared; longer names are cut */

bool names_equal(const char *a, const char *b);
/* How far b is from what was asked for: 0 the same, and smaller is nearer. */
unsigned names_distance(const char *asked, const char *b);

/* name(i) is the i-th of count names. The indices of the nearest `most` go to nearest[], best first; returns how
 * many. */
typedef const char *names_at(size_t index);
size_t names_nearest(const char *asked, names_at *name, size_t count, size_t *nearest, size_t most);
