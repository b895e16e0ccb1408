/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names: finds the rows of a table that a person means. Only letters and digits are
 * compared, without case. A name means the row that has it, or else all rows with a name
 * that begins with it, if it ends at the end of a word: "H100" means "H100 SXM5", but
 * "H20" does not mean "H200 SXM", which is another GPU. A point is part of a word: "GLM-4"
 * does not mean "GLM-4.5".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define NAMES_LENGTH_MAX 64 /* of what is compared; longer names are cut */

/* The which-th name of a row, the first being what the row is called; NULL past the
 * last. */
typedef const char *names_at(size_t row, unsigned which);

bool names_equal(const char *a, const char *b);
/* Whether `name` is `asked`, or begins with it and goes on with another word. */
bool names_begins(const char *name, const char *asked);
/* How far b is from the name asked for: 0 is the same, smaller is nearer. Names that
 * contain it come first, then those with the smallest edit distance. */
unsigned names_distance(const char *asked, const char *b);

/* Returns how many of `count` rows are meant; the first `most` of them go to found[]. */
size_t names_find(const char *asked, names_at *name, size_t count, size_t *found, size_t most);
/* The rows with the nearest names, nearest first. Returns how many: `count`, at most
 * `most`. */
size_t names_nearest(const char *asked, names_at *name, size_t count, size_t *nearest, size_t most);
