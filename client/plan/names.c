/* SPDX-License-Identifier: Apache-2.0 */
/* names: see names.h. */
#include "client/plan/names.h"

#include <ctype.h>
#include <string.h>

struct plain {
	char text[NAMES_LENGTH_MAX + 1];
	size_t length;
};

/* Letters and digits only, in lower case. */
static struct plain plain(const char *name)
{
	struct plain out = {.length = 0};
	for (; *name && out.length < NAMES_LENGTH_MAX; name++) {
		if (isalnum((unsigned char)*name))
			out.text[out.length++] = (char)tolower((unsigned char)*name);
	}
	out.text[out.length] = '\0';
	return out;
}

bool names_equal(const char *a, const char *b)
{
	return strcmp(plain(a).text, plain(b).text) == 0;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Levenshtein's, with one row of the matrix. */
static unsigned edits(const struct plain *a, const struct plain *b)
{
	unsigned row[NAMES_LENGTH_MAX + 1];
	for (size_t j = 0; j <= b->length; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a->length; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b->length; j++) {
			unsigned above = row[j];
			unsigned replace = diagonal + (a->text[i - 1] != b->text[j - 1]);
			row[j] = least(replace, least(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[b->length];
}

/* Twice the edits, so that a name which contains what was asked for comes before any that does not. */
unsigned names_distance(const char *asked, const char *b)
{
	struct plain from = plain(asked), to = plain(b);
	if (from.length > 0 && strstr(to.text, from.text))
		return to.length > from.length;
	return 2 * edits(&from, &to);
}

size_t names_nearest(const char *asked, names_at *name, size_t count, size_t *nearest, size_t most)
{
	size_t found = 0;
	for (size_t i = 0; i < count && most > 0; i++) {
		unsigned distance = names_distance(asked, name(i));
		size_t at = found;
		while (at > 0 && names_distance(asked, name(nearest[at - 1])) > distance)
			at--;
		if (at == most)
			continue;
		found += found < most;
		memmove(nearest + at + 1, nearest + at, (found - at - 1) * sizeof(*nearest));
		nearest[at] = i;
	}
	return found;
}
