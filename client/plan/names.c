/* SPDX-License-Identifier: Apache-2.0 */
/* names: see names.h. */
#include "client/plan/names.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

/* Letters and digits only, in lower case. */
struct names_plain {
	char text[NAMES_LENGTH_MAX + 1];
	size_t length;
};

static struct names_plain names_plain(const char *name)
{
	struct names_plain out = {.length = 0};

	for (; *name && out.length < NAMES_LENGTH_MAX; name++) {
		if (isalnum((unsigned char)*name))
			out.text[out.length++] = (char)tolower((unsigned char)*name);
	}

	out.text[out.length] = '\0';
	return out;
}

bool names_equal(const char *a, const char *b)
{
	return strcmp(names_plain(a).text, names_plain(b).text) == 0;
}

bool names_begins(const char *name, const char *asked)
{
	struct names_plain from = names_plain(asked);
	size_t matched = 0;

	for (; *name && matched < from.length; name++) {
		if (!isalnum((unsigned char)*name))
			continue;
		if (tolower((unsigned char)*name) != from.text[matched])
			return false;
		matched++;
	}

	bool ends_word = !isalnum((unsigned char)*name) && *name != '.';

	return from.length > 0 && matched == from.length && ends_word;
}

/* ---- Finding ---- */

typedef bool names_test(const char *name, const char *asked);

static bool names_any(names_test *test, const char *asked, names_at *name, size_t row)
{
	for (unsigned which = 0; name(row, which); which++) {
		if (test(name(row, which), asked))
			return true;
	}
	return false;
}

static size_t names_collect(names_test *test, const char *asked, names_at *name, size_t count,
			    size_t *found, size_t most)
{
	size_t matches = 0;

	for (size_t row = 0; row < count; row++) {
		if (!names_any(test, asked, name, row))
			continue;
		if (matches < most)
			found[matches] = row;
		matches++;
	}

	return matches;
}

size_t names_find(const char *asked, names_at *name, size_t count, size_t *found, size_t most)
{
	size_t same = names_collect(names_equal, asked, name, count, found, most);

	return same ? same : names_collect(names_begins, asked, name, count, found, most);
}

/* ---- Guessing ---- */

static unsigned names_least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Levenshtein's distance, with one row of the matrix. */
static unsigned names_edits(const struct names_plain *a, const struct names_plain *b)
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

			row[j] = names_least(replace, names_least(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}

	return row[b->length];
}

/* Twice the edits, so that a name which contains what was asked for comes before any
 * that does not. */
unsigned names_distance(const char *asked, const char *b)
{
	struct names_plain from = names_plain(asked), to = names_plain(b);

	if (from.length > 0 && strstr(to.text, from.text))
		return to.length > from.length;
	return 2 * names_edits(&from, &to);
}

static unsigned names_row_distance(const char *asked, names_at *name, size_t row)
{
	unsigned least = UINT_MAX;

	for (unsigned which = 0; name(row, which); which++)
		least = names_least(least, names_distance(asked, name(row, which)));
	return least;
}

size_t names_nearest(const char *asked, names_at *name, size_t count, size_t *nearest, size_t most)
{
	size_t found = 0;

	for (size_t row = 0; row < count && most > 0; row++) {
		unsigned distance = names_row_distance(asked, name, row);
		size_t at = found;

		while (at > 0 && names_row_distance(asked, name, nearest[at - 1]) > distance)
			at--;
		if (at == most)
			continue;

		found += found < most;
		memmove(nearest + at + 1, nearest + at, (found - at - 1) * sizeof(*nearest));
		nearest[at] = row;
	}

	return found;
}
